//! How a run is asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

/// Tells a run to stop; can be set from any thread.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_set: AtomicBool,
    /// Held while the flag changes, so that no waiting thread misses the change.
    lock: Mutex<()>,
    has_changed: Condvar,
}

impl CancelFlag {
    /// A flag that is never set.
    pub fn never() -> &'static Self {
        static NEVER: LazyLock<CancelFlag> = LazyLock::new(CancelFlag::default);
        &NEVER
    }

    /// Ask the run to stop before the next step.
    pub fn set(&self) {
        self.change(true);
    }

    /// Go on again.
    pub(crate) fn clear(&self) {
        self.change(false);
    }

    fn change(&self, is_set: bool) {
        {
            let _lock = self.0.lock.lock();
            self.0.is_set.store(is_set, Ordering::Relaxed);
        }
        self.0.has_changed.notify_all();
    }

    /// Whether the run was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    /// Wait until the run is asked to stop, for `timeout` at most. Returns whether it was asked.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.wait_until(true, timeout)
    }

    /// Wait until the run may go on, for `timeout` at most. Returns whether it may.
    pub(crate) fn wait_until_clear(&self, timeout: Duration) -> bool {
        self.wait_until(false, timeout)
    }

    fn wait_until(&self, is_set: bool, timeout: Duration) -> bool {
        let mut lock = self.0.lock.lock();
        self.0.has_changed.wait_while_for(&mut lock, |()| self.is_set() != is_set, timeout);
        self.is_set() == is_set
    }
}
