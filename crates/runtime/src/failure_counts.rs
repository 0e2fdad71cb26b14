//! What is counted about the failures of a node.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something went wrong in a node, and what was done about it; see [`NodeMetrics`](crate::NodeMetrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) errors: u64,
    pub(crate) failures: u64,
    pub(crate) retries: u64,
    pub(crate) skipped: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) interrupted: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.errors += other.errors;
        self.failures += other.failures;
        self.retries += other.retries;
        self.skipped += other.skipped;
        self.dead_lettered += other.dead_lettered;
        self.interrupted += other.interrupted;
    }
}

/// What was done about the failures of one node, counted where it was done.
#[derive(Debug, Default)]
pub struct FailureCounts {
    retries: AtomicU64,
    /// Calls that failed for good without an error for the caller.
    calls: AtomicU64,
    /// The items of those calls.
    items: AtomicU64,
    skipped: AtomicU64,
    dead_lettered: AtomicU64,
}

impl FailureCounts {
    /// A call that raised is made once more.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The retries since this was asked last.
    pub(crate) fn take_retries(&self) -> u64 {
        self.retries.swap(0, Ordering::Relaxed)
    }

    /// Add these to the counts of a node.
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        counts.retries += of(&self.retries);
        counts.failures += of(&self.calls) + of(&self.retries);
        counts.errors += of(&self.items);
        counts.skipped += of(&self.skipped);
        counts.dead_lettered += of(&self.dead_lettered);
    }

    /// A call failed for good, and with it this many items.
    pub(crate) fn count_failed_call(&self, items: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, is_dead_lettered: bool) {
        let count = if is_dead_lettered { &self.dead_lettered } else { &self.skipped };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
