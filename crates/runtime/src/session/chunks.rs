//! Items that go through an all-inline plan many at once.

use super::Session;
use crate::execution::machine::{Machine, Stop};
use crate::node::bulk::{Bulk, BulkEnd, BulkOutcome};
use crate::node::endpoints::Sink;
use crate::numbering::{self, NO_INPUT};
use crate::payload::Payload;

impl<P: Payload> Session<P> {
    /// Take a chunk through by `bulk`, and what that leaves one by one. Returns how many items went through, and the rest of the chunk if
    /// it has taken its time.
    ///
    /// The bulk is dropped if it cannot take more.
    pub(super) fn take_chunk<B: Bulk<P>>(
        &self,
        machine: &mut Machine<P>,
        bulk: &mut Option<B>,
        chunk: P,
        sink: &mut dyn Sink<P>,
    ) -> Result<(usize, Option<P>), Stop<P::Fault>> {
        let is_measured = machine.recorders.is_some();
        let usable = bulk.take().and_then(|mut bulk| bulk.is_possible(is_measured).then_some(bulk));
        let Some(mut usable) = usable else {
            return self.take_all(machine, P::unpack(chunk), sink).map(|taken| (taken, None));
        };
        // It is watched as if it were in the first node.
        machine.progress.enter(0, NO_INPUT);
        let outcome = usable.run(chunk, sink);
        machine.progress.leave();
        let taken = outcome.taken as u64;
        machine.input = numbering::of_item((self.number_items(taken) + taken).saturating_sub(1));
        if matches!(outcome.end, BulkEnd::Done | BulkEnd::Paused(_) | BulkEnd::Fault(..)) {
            *bulk = Some(usable);
        }
        self.settle(machine, outcome, sink)
    }

    /// Finish what a bulk has left, of which the current input of the machine was the last item. Returns how many items there were, and
    /// those that it has not begun.
    pub(super) fn settle(
        &self,
        machine: &mut Machine<P>,
        outcome: BulkOutcome<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<(usize, Option<P>), Stop<P::Fault>> {
        self.count_direct_outputs(outcome.past_sink);
        machine.settle(outcome, sink, &mut |machine, _| machine.input = numbering::of_item(self.number_items(1)))
    }

    /// Take items through one by one.
    fn take_all(
        &self,
        machine: &mut Machine<P>,
        items: Vec<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<usize, Stop<P::Fault>> {
        machine.take_all(items, sink, &mut |machine, _| machine.input = numbering::of_item(self.number_items(1)))
    }
}
