//! What a new worker is given so that its nodes are where those of the old one were.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::worker::Arrived;
use crate::worker::parent::connection::Job;
use crate::worker::protocol::frame::Head;

/// The last state of each node that has one, and what was done since.
pub(crate) struct Snapshots<P> {
    /// Whether any node has snapshots. Without that nothing is kept.
    pub(crate) is_possible: bool,
    states: BTreeMap<usize, Arc<Arrived>>,
    since: Vec<(u64, Arc<Job<P>>)>,
    /// The states so far of a set that is not complete; `None` for one for which there was no memory.
    coming: Vec<(usize, Option<Arc<Arrived>>)>,
}

impl<P> Snapshots<P> {
    pub(crate) fn new() -> Self {
        Self { is_possible: false, states: BTreeMap::new(), since: Vec::new(), coming: Vec::new() }
    }

    /// A job is done: a node that starts again from its last state needs it once more. Returns one that no node needs.
    #[must_use = "items are dropped without a lock"]
    pub(crate) fn note_done(&mut self, number: u64, job: Arc<Job<P>>) -> Option<Arc<Job<P>>> {
        if !self.is_possible {
            return Some(job);
        }
        self.since.push((number, job));
        None
    }

    /// The state that a node had after the job of this number. It counts when those of the other nodes are there, too: a worker may die in
    /// between. Returns the jobs that are no longer needed.
    #[must_use = "items are dropped without a lock"]
    pub(crate) fn remember(&mut self, head: Head, state: Arrived) -> Vec<(u64, Arc<Job<P>>)> {
        let state = state.missing.is_none().then(|| Arc::new(state));
        self.coming.push((usize::from(head.node), state));
        if head.has_more {
            return Vec::new();
        }
        let coming: Option<Vec<_>> =
            self.coming.drain(..).map(|(node, state)| state.map(|state| (node, state))).collect();
        let Some(coming) = coming else {
            // The states before these still do.
            return Vec::new();
        };
        self.states.extend(coming);
        let number = head.number;
        let (since, outdated) = std::mem::take(&mut self.since).into_iter().partition(|(done, _)| *done > number);
        self.since = since;
        outdated
    }

    /// No more comes of a set of states that is not complete.
    pub(crate) fn forget_coming(&mut self) {
        self.coming.clear();
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
