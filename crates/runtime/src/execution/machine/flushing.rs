//! The end of input: the nodes give their last outputs.

use std::time::Duration;

use quanta::Instant;

use crate::execution::machine::{Machine, Step, Stop};
use crate::node::Outputs;
use crate::node::endpoints::Sink;
use crate::numbering::NO_INPUT;
use crate::payload::Payload;
use crate::phase::Phase;

impl<P: Payload> Machine<P> {
    /// The end of input: each node gives its last outputs, in plan order, and the nodes after it get them.
    pub(crate) fn flush(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.visited.fill(false);
        self.steps = 0;
        self.flush_the_rest(sink)
    }

    pub(super) fn flush_the_rest(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.work_off(sink)?;
        for node in self.steps..self.nodes.len() {
            if let Some(gate) = self.gate_of[node] {
                self.open_gate(gate, true)?;
                self.work_off(sink)?;
            }
            self.steps = node + 1;
            self.flush_node(node, sink)?;
            self.work_off(sink)?;
        }
        if self.gates.last().is_some_and(|gate| gate.plan.node.is_none()) {
            self.open_gate(self.gates.len() - 1, true)?;
            self.work_off(sink)?;
        }
        Ok(())
    }

    fn flush_node(&mut self, node: usize, sink: &mut dyn Sink<P>) -> Step<P> {
        if self.is_cancelled.is_set() {
            return Err(Stop::Cancelled);
        }
        let started = self.is_watched().then(Instant::now);
        self.progress.enter(node, NO_INPUT);
        let flushed = self.nodes[node].flush();
        self.progress.leave();
        let took = started.map_or(Duration::ZERO, |started| started.elapsed());
        // A node that flushes nothing is not worth a line, and a generator is noted when it has ended.
        if matches!(flushed, Ok(Outputs::One(_)) | Err(_)) {
            self.note_step(node, Phase::Flush, took);
        }
        let outputs = flushed.map_err(|fault| Stop::Node { node, phase: Phase::Flush, fault })?;
        self.follow(node, Phase::Flush, outputs, took, sink)
    }
}
