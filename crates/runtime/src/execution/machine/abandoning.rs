//! Abandoning items that are no longer wanted: those in progress, and what the nodes keep of them.

use crate::execution::machine::gates::Gate;
use crate::execution::machine::{Machine, Work};
use crate::payload::Payload;
use crate::phase::Phase;

impl<P: Payload> Machine<P> {
    /// Whether a node is in the middle of something that [`Machine::abandon`] would end.
    pub(crate) fn has_generators(&self) -> bool {
        self.source.is_some() || self.stack.iter().any(|work| matches!(work, Work::Outputs { .. }))
    }

    /// Forget all work in progress: generators are closed, the innermost first, and collected items dropped. Returns what failed.
    pub(crate) fn abandon(&mut self) -> Vec<(usize, Phase, P::Fault)> {
        let mut failed = Vec::new();
        while let Some(work) = self.stack.pop() {
            if let Work::Outputs { node, phase, mut stream, .. } = work
                && let Err(fault) = stream.close()
            {
                failed.push((node, phase, fault));
            }
        }
        if let Some(mut source) = self.source.take()
            && let Err(fault) = source.close()
        {
            failed.push((0, Phase::Process, fault));
        }
        self.gates.iter_mut().for_each(Gate::forget);
        failed
    }

    /// Notify the nodes that their current items are no longer wanted.
    pub(crate) fn interrupt(&mut self) -> Vec<(usize, Phase, P::Fault)> {
        let mut failed = self.abandon();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Err(fault) = node.interrupt() {
                failed.push((index, Phase::Process, fault));
            }
        }
        failed
    }

    /// What the nodes hold of the items so far must not come out with later ones. Returns what failed.
    pub(crate) fn forget_items(&mut self) -> Vec<(usize, Phase, P::Fault)> {
        let streaming =
            self.nodes.iter_mut().enumerate().filter_map(|(index, node)| Some((index, node.as_streaming()?)));
        streaming.filter_map(|(index, node)| Some((index, Phase::Process, node.forget_items().err()?))).collect()
    }
}
