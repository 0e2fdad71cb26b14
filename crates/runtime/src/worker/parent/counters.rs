//! Figures of a worker and of those that took its place.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Figures of a worker and of those that took its place.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) restarts: AtomicU64,
    pub(crate) redeliveries: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// Between the moment when jobs were sent to the worker that did them and the one when they were done, less the calls of nodes.
    pub(crate) transport_ns: AtomicU64,
    /// The current process, or 0, and the one before.
    process: AtomicU32,
    former_process: AtomicU32,
    /// Processor time of those that have ended, and memory of the last that did so in order.
    pub(crate) ended_cpu_us: AtomicU64,
    pub(crate) ended_resident_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn process(&self) -> Option<u32> {
        Some(self.process.load(Ordering::Relaxed)).filter(|&process| process > 0)
    }

    /// A process has begun. Returns which one it takes the place of.
    pub(crate) fn note_process(&self, process: u32) -> Option<u32> {
        self.process.store(process, Ordering::Relaxed);
        Some(self.former_process.swap(process, Ordering::Relaxed)).filter(|&former| former > 0)
    }

    /// The current process has ended.
    pub(crate) fn forget_process(&self) {
        self.process.store(0, Ordering::Relaxed);
    }
}
