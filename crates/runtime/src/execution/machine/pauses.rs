//! Inputs that wait while others go through the same nodes.

use crate::execution::machine::{Machine, Step, Work};
use crate::node::endpoints::Sink;
use crate::payload::Payload;

/// What is in progress of an input whose sink has paused it.
pub(crate) struct UnderWay<P: Payload> {
    stack: Vec<Work<P>>,
    /// What the gates have collected.
    arrived: Vec<Vec<Vec<P>>>,
    visited: Vec<bool>,
    steps: usize,
}

impl<P: Payload> Machine<P> {
    /// Take what is in progress out, so that another input can go through.
    pub(crate) fn suspend(&mut self) -> UnderWay<P> {
        let arrived = self.gates.iter_mut().map(|gate| gate.arrived.iter_mut().map(std::mem::take).collect());
        let arrived = arrived.collect();
        let visited = self.visited.clone();
        UnderWay { stack: std::mem::take(&mut self.stack), arrived, visited, steps: self.steps }
    }

    /// Take it in again.
    pub(crate) fn restore(&mut self, under_way: UnderWay<P>) {
        let UnderWay { stack, arrived, visited, steps } = under_way;
        self.stack = stack;
        for (gate, arrived) in self.gates.iter_mut().zip(arrived) {
            gate.arrived = arrived;
        }
        self.visited = visited;
        self.steps = steps;
    }

    /// Go on with an input that was put back.
    pub(crate) fn go_on(&mut self, is_flush: bool, sink: &mut dyn Sink<P>) -> Step<P> {
        if is_flush { self.flush_the_rest(sink) } else { self.drain_rest(sink) }
    }
}
