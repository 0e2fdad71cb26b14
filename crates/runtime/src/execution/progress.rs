//! Where the thread of a stage is, for a watchdog that checks from outside whether it still moves.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::numbering::NO_INPUT;

/// The call in progress in one stage.
///
/// Written by the thread that works, with plain stores; read by the watch, which takes two equal readings some seconds apart for a
/// call that has not returned. Nothing here needs the clock.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Progress {
    /// Odd while a node is at work; goes up with every call.
    steps: AtomicU64,
    node: AtomicU32,
    input: AtomicU64,
    thread: AtomicU64,
}

/// Where a [`Progress`] is kept.
#[derive(Clone)]
pub(crate) enum ProgressPlace {
    /// In this process.
    Own(Arc<Progress>),
    /// In a page that another process sees, too.
    Shared(Arc<dyn AsRef<Progress> + Send + Sync>),
}

impl Default for ProgressPlace {
    fn default() -> Self {
        Self::Own(Arc::default())
    }
}

impl Deref for ProgressPlace {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        match self {
            Self::Own(progress) => progress,
            Self::Shared(page) => (**page).as_ref(),
        }
    }
}

/// One reading of a [`Progress`]: a node is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) step: u64,
    /// The number of the node in its stage.
    pub(crate) node: usize,
    /// The number of the input, where there is one.
    pub(crate) input: Option<u64>,
    /// Who works, by the number that [`Progress::set_thread`] got; 0 if unknown.
    pub(crate) thread: u64,
}

impl Progress {
    /// A node begins with something of an input, or with [`NO_INPUT`].
    pub(crate) fn enter(&self, node: usize, input: u64) {
        // A stage has far fewer nodes than u32 can count, and an equal number only blurs a message.
        #[allow(clippy::cast_possible_truncation, reason = "see above")]
        self.node.store(node as u32, Ordering::Relaxed);
        self.input.store(input, Ordering::Relaxed);
        self.steps.store(self.steps.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// The node returned.
    pub(crate) fn leave(&self) {
        self.steps.store((self.steps.load(Ordering::Relaxed) | 1) + 1, Ordering::Relaxed);
    }

    /// Remember which thread works from now on.
    pub(crate) fn set_thread(&self, thread: u64) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// The node that was entered last.
    pub(crate) fn latest_node(&self) -> usize {
        self.node.load(Ordering::Relaxed) as usize
    }

    /// The call in progress, if there is one.
    pub(crate) fn read(&self) -> Option<Reading> {
        let step = self.steps.load(Ordering::Relaxed);
        (step & 1 == 1).then(|| Reading {
            step,
            node: self.node.load(Ordering::Relaxed) as usize,
            input: Some(self.input.load(Ordering::Relaxed)).filter(|&input| input != NO_INPUT),
            thread: self.thread.load(Ordering::Relaxed),
        })
    }
}
