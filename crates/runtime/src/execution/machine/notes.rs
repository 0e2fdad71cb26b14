//! What a machine reports of its work: metrics to the recorders, steps to the observer, failures to the caller.

use std::time::Duration;

use crate::execution::machine::Machine;
use crate::execution::metrics::Recorder;
use crate::failure::{NodeFailure, RunError};
use crate::node::Outputs;
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;

impl<P: Payload> Machine<P> {
    /// The index of the current item, or of the last one at the end of input.
    pub(crate) fn item_index(&self) -> u64 {
        numbering::item_index(self.input)
    }

    /// Announce its next items to a node that needs their indices.
    pub(crate) fn announce(&mut self, node: usize, item_indices: &[u64]) {
        if self.takes_indices[node] {
            self.nodes[node].announce(item_indices);
        }
    }

    pub(crate) fn note_call(&mut self, node: usize, result: &Result<Outputs<P>, P::Fault>, took: Duration) {
        // A generator is noted when it has ended, with all the time that it took.
        let has_ended = !matches!(result, Ok(Outputs::Many(_)));
        if self.works_elsewhere {
            // The worker reports how long the nodes took.
            self.record(node, |recorder| recorder.items_in += 1);
            let outputs = u64::from(matches!(result, Ok(Outputs::One(_))));
            self.record(self.nodes.len() - 1, |recorder| recorder.items_out += outputs);
            return;
        }
        self.record(node, |recorder| {
            recorder.items_in += 1;
            recorder.items_out += u64::from(matches!(result, Ok(Outputs::One(_))));
            if has_ended {
                recorder.called(took);
            }
        });
        if has_ended {
            self.observe(node, Phase::Process, took);
        }
    }

    pub(crate) fn count_output(&mut self, node: usize) {
        let node = if self.works_elsewhere { self.nodes.len() - 1 } else { node };
        self.record(node, |recorder| recorder.items_out += 1);
    }

    /// An item goes into a node by another way than through this machine.
    pub(crate) fn count_inputs(&mut self, node: usize, items: usize) {
        self.record(node, |recorder| recorder.items_in += items as u64);
    }

    /// A node took several items in one call.
    pub(crate) fn count_batch(&mut self, node: usize, items: usize, took: Duration) {
        self.record(node, |recorder| recorder.items_in += items as u64);
        self.note_step(node, Phase::Process, took);
    }

    /// A node went through a phase of its life.
    pub(crate) fn note_phase(&mut self, node: usize, phase: Phase, took: Duration) {
        if !self.nodes[node].info().has_lifecycle {
            return;
        }
        if phase == Phase::Initialize {
            self.record(node, |recorder| recorder.initialize = took);
        }
        if let Some(observer) = &self.observer {
            observer.stepped(&self.plan.nodes()[self.members[node]].id, phase, None, took);
        }
    }

    /// The error for a fault of a node, which is counted.
    pub(crate) fn failure(
        &mut self,
        node: usize,
        item_index: Option<u64>,
        phase: Phase,
        fault: P::Fault,
    ) -> RunError<P::Fault> {
        self.record(node, |recorder| recorder.failed::<P>(&fault, 1));
        RunError::of_node::<P>(&self.plan.nodes()[self.members[node]].id, item_index, phase, fault)
    }

    /// The failure of a node.
    pub(crate) fn node_failure(
        &self,
        node: usize,
        item_index: Option<u64>,
        phase: Phase,
        fault: P::Fault,
    ) -> NodeFailure<P::Fault> {
        NodeFailure { node_id: self.plan.nodes()[self.members[node]].id.clone(), item_index, phase, fault }
    }

    pub(crate) fn note_step(&mut self, node: usize, phase: Phase, took: Duration) {
        if self.works_elsewhere {
            return;
        }
        self.record(node, |recorder| recorder.called(took));
        self.observe(node, phase, took);
    }

    fn observe(&self, node: usize, phase: Phase, took: Duration) {
        if let Some(observer) = &self.observer {
            let item_index = (phase == Phase::Process).then_some(self.item_index());
            observer.stepped(&self.plan.nodes()[self.members[node]].id, phase, item_index, took);
        }
    }

    pub(crate) fn record(&self, node: usize, change: impl FnOnce(&mut Recorder)) {
        if let Some(recorders) = &self.recorders {
            recorders.note(node, change);
        }
    }
}
