//! Calling neighbouring nodes together.

use crate::execution::machine::{Machine, Stop};
use crate::execution::progress::ProgressPlace;
use crate::layout::Route;
use crate::node::fused::{Fused, FusedOutcome};
use crate::node::{Node, Outputs};
use crate::payload::Payload;
use crate::phase::Phase;

/// The first input that may find nodes fused: a pipeline for a single item is not worth it.
const FIRST_INPUT: u8 = 2;

/// The nodes of a stage that are called together.
pub(crate) struct Fusing<P: Payload> {
    /// Inputs until the nodes are looked at.
    left: u8,
    /// By the first node of each run of neighbours. Empty where there are none.
    runs: Vec<Option<Run<P>>>,
}

struct Run<P: Payload> {
    last: usize,
    fused: Box<dyn Fused<P>>,
}

/// What became of an item at the first node of a run.
pub(super) enum Entered<P: Payload> {
    /// The outputs of a node that was called, the last one.
    Called(usize, Outputs<P>),
    /// The node is to be called by itself.
    Singly(P),
}

impl<P: Payload> Default for Fusing<P> {
    fn default() -> Self {
        Self { left: FIRST_INPUT, runs: Vec::new() }
    }
}

impl<P: Payload> Machine<P> {
    /// An input begins.
    pub(super) fn fuse_if_due(&mut self) {
        if self.fusing.left > 0 {
            self.fusing.left -= 1;
            if self.fusing.left == 0 {
                self.fuse();
            }
        }
    }

    fn fuse(&mut self) {
        // These need to know of each node, and so does the parent of a worker.
        let is_seen = self.is_watched() || self.notes_visits || matches!(self.progress, ProgressPlace::Shared(_));
        if is_seen || self.works_elsewhere {
            return;
        }
        let mut runs: Vec<_> = self.nodes.iter().map(|_| None).collect();
        let mut first = 0;
        while first < self.nodes.len() {
            let mut last = first;
            while self.can_fuse(last) && self.leads_to_next(last) && self.can_fuse(last + 1) {
                last += 1;
            }
            if last > first {
                runs[first] = self.fused(first, last).map(|fused| Run { last, fused });
            }
            first = last + 1;
        }
        if runs.iter().any(Option::is_some) {
            self.fusing.runs = runs;
        }
    }

    fn can_fuse(&mut self, node: usize) -> bool {
        !self.takes_indices[node] && self.nodes[node].as_fusible().is_some()
    }

    fn leads_to_next(&self, node: usize) -> bool {
        node + 1 < self.nodes.len() && matches!(self.routes[node], Route::Node(next) if next == node + 1)
    }

    fn fused(&mut self, first: usize, last: usize) -> Option<Box<dyn Fused<P>>> {
        let part = |node: &mut Box<dyn Node<P>>| node.as_fusible().map(|fusible| fusible.part());
        let parts = self.nodes[first..=last].iter_mut().map(part).collect::<Option<Vec<P>>>()?;
        let ids = self.members[first..=last].iter().map(|&member| self.plan.nodes()[member].id.clone()).collect();
        self.nodes[first].as_fusible().map(|fusible| fusible.fuse(parts, ids))
    }

    /// Call the nodes together that begin with this one. Returns the item if the node is to be called by itself.
    pub(super) fn enter_fused(&mut self, first: usize, item: P) -> Result<Entered<P>, Stop<P::Fault>> {
        let Some(Some(Run { last, fused })) = self.fusing.runs.get_mut(first) else { return Ok(Entered::Singly(item)) };
        if self.is_cancelled.is_set() {
            return Err(Stop::Cancelled);
        }
        let last = *last;
        self.progress.enter(first, self.input);
        let outcome = fused.process(item);
        self.progress.leave();
        let stop = |node, fault| Stop::Node { node, phase: Phase::Process, fault };
        match outcome {
            FusedOutcome::Output(output) => Ok(Entered::Called(last, output.map_or(Outputs::None, Outputs::One))),
            FusedOutcome::Fault(index, fault) => Err(stop(first + index, fault)),
            FusedOutcome::Returned(index, value) => {
                let node = first + index;
                let outputs = self.interpret(node, value).map_err(|fault| stop(node, fault))?;
                Ok(Entered::Called(node, outputs))
            }
            FusedOutcome::Refused(item) => {
                self.fusing.runs[first] = None;
                Ok(Entered::Singly(item))
            }
        }
    }
}
