//! What a new worker is given so that its nodes are where those of the old one were.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::worker::Arrived;
use crate::worker::parent::connection::Job;
use crate::worker::protocol::frame::Head;

/// An item that is done.
pub(crate) struct Done<P> {
    pub(crate) number: u64,
    pub(crate) job: Arc<Job<P>>,
    /// Its place in the job.
    pub(crate) slot: usize,
}

impl<P> Clone for Done<P> {
    fn clone(&self) -> Self {
        Self { job: Arc::clone(&self.job), ..*self }
    }
}

/// The last state of each node that has one, and what was done since.
pub(crate) struct Snapshots<P> {
    /// Whether any node has snapshots. Without that nothing is kept.
    pub(crate) is_possible: bool,
    states: BTreeMap<usize, Arc<Arrived>>,
    since: Vec<Done<P>>,
    /// The states so far of a set that is not complete; `None` for one for which there was no memory.
    coming: Vec<(usize, Option<Arc<Arrived>>)>,
}

impl<P> Snapshots<P> {
    pub(crate) fn new() -> Self {
        Self { is_possible: false, states: BTreeMap::new(), since: Vec::new(), coming: Vec::new() }
    }

    /// Items of a job are done, of which the first has this number: a node that starts again from its last state needs them once more.
    pub(crate) fn note_done(&mut self, number: u64, job: &Arc<Job<P>>, slots: Range<usize>) {
        if self.is_possible {
            let done = |(number, slot)| Done { number, job: Arc::clone(job), slot };
            self.since.extend((number..).zip(slots).map(done));
        }
    }

    /// The state that a node had after the job of this number. It counts when those of the other nodes are there, too: a worker may die in
    /// between. Returns the jobs that are no longer needed.
    #[must_use = "items are dropped without a lock"]
    pub(crate) fn remember(&mut self, head: Head, state: Arrived) -> Vec<Done<P>> {
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
        let (since, outdated) =
            std::mem::take(&mut self.since).into_iter().partition(|done: &Done<P>| done.number > number);
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
    pub(crate) fn since(&self) -> Vec<Done<P>> {
        self.since.clone()
    }
}
