//! Where branches meet again.

use crate::execution::machine::{Machine, Step, Stop, Work};
use crate::layout::{GatePlan, Route};
use crate::payload::Payload;
use crate::phase::Phase;

/// The meeting point of several branches: what they gave for the current input.
pub(crate) struct Gate<P> {
    pub(crate) plan: GatePlan,
    pub(crate) arrived: Vec<Vec<P>>,
    /// A node before it, in another stage, was given an item of the input.
    pub(crate) was_visited: bool,
}

impl<P> Gate<P> {
    pub(crate) fn new(plan: GatePlan) -> Self {
        let arrived = plan.upstreams.iter().map(|_| Vec::new()).collect();
        Self { plan, arrived, was_visited: false }
    }

    /// Drop what has arrived.
    pub(crate) fn forget(&mut self) {
        self.arrived.iter_mut().for_each(Vec::clear);
        self.was_visited = false;
    }
}

impl<P: Payload> Machine<P> {
    /// Whether branches meet in the stage.
    pub(crate) fn has_gates(&self) -> bool {
        !self.gates.is_empty()
    }

    /// What the only node of the stage would be given of the current input: its items, met and joined.
    pub(crate) fn inputs(
        &mut self,
        visits: Vec<usize>,
        items: Vec<(usize, P)>,
        is_flush: bool,
    ) -> Result<Vec<P>, Stop<P::Fault>> {
        for place in visits {
            self.mark_visited(place);
        }
        let mut inputs = Vec::with_capacity(items.len());
        for (place, item) in items {
            match self.entries[place].1 {
                Route::Gate { gate, branch } => self.gates[gate].arrived[branch].push(item),
                _ => inputs.push(item),
            }
        }
        if let Some(gate) = self.gate_of[0] {
            self.open_gate(gate, is_flush)?;
            inputs.extend(std::iter::from_fn(|| self.stack.pop()).filter_map(|work| match work {
                Work::Item { item, .. } => Some(item),
                Work::Outputs { .. } => None,
            }));
        }
        Ok(inputs)
    }

    /// The node behind one of the entries was given an item, whatever came of it.
    pub(crate) fn mark_visited(&mut self, entry: usize) {
        if let Route::Gate { gate, .. } = self.entries[entry].1 {
            self.gates[gate].was_visited = true;
        }
    }

    /// Put what a gate collected on the stack, first item on top.
    pub(crate) fn open_gate(&mut self, gate: usize, is_flush: bool) -> Step<P> {
        let Gate { plan: GatePlan { node, upstreams, join, .. }, arrived, was_visited } = &mut self.gates[gate];
        let was_visited = std::mem::take(was_visited);
        let Some(node) = *node else {
            let arrived = arrived.iter_mut().rev().flat_map(|branch| branch.drain(..).rev());
            self.stack.extend(arrived.map(|item| Work::Item { route: Route::Exit(0), item }));
            return Ok(());
        };
        let route = Route::Node(node);
        let arrived: Vec<Vec<P>> = arrived.iter_mut().map(std::mem::take).collect();
        if !*join {
            for item in arrived.into_iter().flatten().rev() {
                self.stack.push(Work::Item { route: route.clone(), item });
            }
            return Ok(());
        }
        let is_visited = |upstream| self.members.binary_search(upstream).is_ok_and(|index| self.visited[index]);
        let has_output = arrived.iter().any(|branch| !branch.is_empty())
            || (!is_flush && (was_visited || upstreams.iter().any(is_visited)));
        if has_output {
            let ids = upstreams.iter().map(|&upstream| self.plan.nodes()[upstream].id.as_str());
            let item = P::join(ids.zip(arrived).collect());
            let item = item.map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })?;
            self.stack.push(Work::Item { route, item });
        }
        Ok(())
    }
}
