//! A lock whose wait can be cancelled, and is refused if the holder waits for the thread that would wait.
//!
//! *Invariant:* no thread waits for the lock while attached to the interpreter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::Hindrance;
use remotemedia_runtime::locks::{Condvar, Mutex};

use crate::attach::detach;
use crate::node::callers;
use crate::node::callers::{Frame, Place};
use crate::node::waits::{Cycle, Target, Waiting};

/// How often a thread that waits for a lock checks whether its run was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// After how many of these checks it looks for a cycle of waits, too.
const POLLS_PER_CYCLE_CHECK: u32 = 25;

/// Called once when a lock is released, without the interpreter.
pub(crate) type Waker = Box<dyn FnOnce() + Send>;

/// A lock whose wait can be cancelled, and that costs a few nanoseconds without contention.
#[derive(Default)]
pub(super) struct CancellableLock {
    /// The number of its holder, or 0.
    pub(super) holder: Arc<AtomicU64>,
    /// How many threads and event loops wait at the gate.
    waiting: AtomicUsize,
    /// Those that no thread waits for.
    gate: Mutex<Vec<Waker>>,
    is_free: Condvar,
}

/// The lock is taken for as long as this lives.
pub(super) struct Held<'a> {
    lock: &'a CancellableLock,
    holder: u64,
}

impl CancellableLock {
    /// Wait for the lock and take it, for a holder at this place.
    pub(super) fn take(
        &self,
        py: Python<'_>,
        (holder, place): (u64, &Arc<Place>),
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Held<'_>, Hindrance> {
        if self.try_take(holder) {
            return Ok(Held { lock: self, holder });
        }
        // Those that wait for this place are held up, too.
        let own = Frame::begin(place);
        let frames = callers::with_own(callers::current(py).unwrap_or_default(), &own);
        let waiting =
            Waiting::begin(frames, Target::Lock(Arc::clone(&self.holder))).map_err(|cycle| refusal(&cycle))?;
        let mut polls = 0;
        while !is_cancelled() {
            // Another session is inside, and may need the interpreter to come out.
            if detach(py, || self.take_within(holder, POLL_INTERVAL)) {
                return Ok(Held { lock: self, holder });
            }
            polls += 1;
            if polls % POLLS_PER_CYCLE_CHECK == 0 {
                waiting.check().map_err(|cycle| refusal(&cycle))?;
            }
        }
        Err(Hindrance::Cancelled)
    }

    /// Take the lock if it is free.
    pub(super) fn try_take(&self, holder: u64) -> bool {
        self.holder.compare_exchange(0, holder, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn take_within(&self, holder: u64, timeout: Duration) -> bool {
        let mut gate = self.gate.lock();
        // Counted before the check: either this thread finds the lock free, or the one that releases it finds this one waiting.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut is_ours = self.try_take(holder);
        if !is_ours {
            self.is_free.wait_for(&mut gate, timeout);
            is_ours = self.try_take(holder);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_ours
    }

    /// Release the lock, if this holder has it.
    pub(super) fn release(&self, holder: u64) {
        if self.holder.compare_exchange(holder, 0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return;
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let wakers = std::mem::take(&mut *self.gate.lock());
            self.waiting.fetch_sub(wakers.len(), Ordering::SeqCst);
            self.is_free.notify_one();
            for wake in wakers {
                wake();
            }
        }
    }

    /// Have `waker` called when the lock is released; `false` if it is free now.
    pub(super) fn wake_when_free(&self, waker: impl FnOnce() -> Waker) -> bool {
        let mut gate = self.gate.lock();
        // As in `take_within`.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if self.holder.load(Ordering::SeqCst) == 0 {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        gate.push(waker());
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.release(self.holder);
    }
}

fn refusal(cycle: &Cycle) -> Hindrance {
    Hindrance::Deadlock(cycle.lock_refusal())
}
