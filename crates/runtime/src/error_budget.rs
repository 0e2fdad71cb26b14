//! How many items of one run may fail without ending it, and how many did.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::NodeFailure;
use crate::payload::Payload;

/// Shared by the policies of all nodes of a run; see [`Policy::within`](crate::Policy::within).
pub struct ErrorBudget<P: Payload> {
    limit: Option<u64>,
    used: AtomicU64,
    skipped: AtomicU64,
    dead_lettered: AtomicU64,
    first: OnceLock<NodeFailure<P::Fault>>,
}

impl<P: Payload> ErrorBudget<P> {
    /// A budget of `limit` items, or of any number of them.
    pub fn new(limit: Option<u64>) -> Self {
        let (used, skipped, dead_lettered) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { limit, used, skipped, dead_lettered, first: OnceLock::new() }
    }

    /// Items that failed and were dropped.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Items that failed and were handed to a dead letter function.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Ordering::Relaxed)
    }

    /// The failure that used the budget first, which may be that of an item whose dead letter function failed too.
    pub fn first(&self) -> Option<&NodeFailure<P::Fault>> {
        self.first.get()
    }

    /// Use the budget for one item; `false` if nothing of it is left.
    pub(crate) fn spend(&self, failure: impl FnOnce() -> NodeFailure<P::Fault>) -> bool {
        let limit = self.limit.unwrap_or(u64::MAX);
        let spent =
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then_some(used + 1));
        if spent.is_ok() && self.first.get().is_none() {
            // Another node may have been faster; what is dropped then is dropped here, outside any lock.
            drop(self.first.set(failure()));
        }
        spent.is_ok()
    }

    pub(crate) fn count(&self, is_dead_lettered: bool) {
        let count = if is_dead_lettered { &self.dead_lettered } else { &self.skipped };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
