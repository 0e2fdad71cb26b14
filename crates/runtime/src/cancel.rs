//! How a run is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Tells a run to stop; can be set from any thread.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// A flag that nobody sets.
    pub fn never() -> &'static Self {
        static NEVER: LazyLock<CancelFlag> = LazyLock::new(CancelFlag::default);
        &NEVER
    }

    /// Ask the run to stop before the next step.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Go on again.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the run was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
