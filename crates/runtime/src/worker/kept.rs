//! What a new worker is given so that its nodes are where those of the old one were.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Arrived;
use super::remote::Job;

/// The last state of each node that can tell it, and what was done since.
pub(crate) struct Kept<P> {
    /// Whether any node can tell its state. Without that nothing is kept.
    pub(crate) is_possible: bool,
    states: BTreeMap<usize, Arc<Arrived>>,
    since: Vec<(u64, Arc<Job<P>>)>,
}

impl<P> Kept<P> {
    pub(crate) fn new() -> Self {
        Self { is_possible: false, states: BTreeMap::new(), since: Vec::new() }
    }

    /// A job is done: a node that starts again from its last state needs it once more.
    pub(crate) fn note_done(&mut self, number: u64, job: Arc<Job<P>>) {
        if self.is_possible {
            self.since.push((number, job));
        }
    }

    /// The state that a node had after the job of this number.
    pub(crate) fn remember(&mut self, node: usize, number: u64, state: Arrived) {
        self.states.insert(node, Arc::new(state));
        self.since.retain(|(done, _)| *done > number);
    }

    /// The last states, each with the number of its node.
    pub(crate) fn states(&self) -> Vec<(usize, Arc<Arrived>)> {
        self.states.iter().map(|(node, state)| (*node, Arc::clone(state))).collect()
    }

    /// The jobs since the last state, in order.
    pub(crate) fn since(&self) -> Vec<(u64, Arc<Job<P>>)> {
        self.since.iter().map(|(number, job)| (*number, Arc::clone(job))).collect()
    }
}
