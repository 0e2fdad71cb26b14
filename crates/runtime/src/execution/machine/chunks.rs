//! Taking the items of a chunk through all nodes of a stage in one call.

use std::time::Duration;

use quanta::Instant;

use crate::execution::machine::{Machine, Stop};
use crate::layout::Route;
use crate::node::bulk::{Bulk, BulkEnd};
use crate::node::endpoints::Sink;
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;

/// Fewer are not worth compiling the nodes.
const FEWEST_ITEMS: usize = 8;

/// After so long, what is done goes on before the next item is taken by itself.
const LONG_TIME: Duration = Duration::from_millis(1);

/// The call for many items.
#[derive(Default)]
pub(super) enum ForChunks<P: Payload> {
    /// Not asked for yet.
    #[default]
    Unknown,
    There(Box<dyn Bulk<P>>),
    /// The nodes are called one by one.
    None,
}

impl<P: Payload> Machine<P> {
    /// Take the items of a chunk through, or what has become of them before this stage. The sink is given their positions in the chunk.
    pub(crate) fn take_chunk(
        &mut self,
        places: &Places<'_>,
        items: Vec<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<(), Stop<P::Fault>> {
        let is_worth_it = items.len() >= FEWEST_ITEMS && !self.is_cancelled.is_set();
        let Some(mut bulk) = (if is_worth_it { self.bulk_for_chunks() } else { None }) else {
            return self.take_all(items, sink, &mut places.from(0)).map(drop);
        };
        let chunk = P::pack(items).map_err(|fault| Stop::Node { node: 0, phase: Phase::Process, fault })?;
        // It is watched as if it were in the first node.
        self.progress.enter(0, places.input);
        let outcome = bulk.run(chunk, &mut AtPlaces { sink, places });
        self.progress.leave();
        if matches!(outcome.end, BulkEnd::Done | BulkEnd::Paused(_) | BulkEnd::Fault(..)) {
            self.bulk = ForChunks::There(bulk);
        }
        let taken = outcome.taken;
        self.input = places.number(taken.saturating_sub(1));
        sink.begin_item(places.position(taken.saturating_sub(1)) as usize);
        let (_, rest) = self.settle(outcome, sink, &mut places.from(taken))?;
        let Some(rest) = rest else { return Ok(()) };
        // The items take longer than expected: what is done does not wait for the others.
        sink.between_items();
        self.take_all(P::unpack(rest), sink, &mut places.from(taken)).map(drop)
    }

    /// The call for many items. It must be put back to be used again.
    fn bulk_for_chunks(&mut self) -> Option<Box<dyn Bulk<P>>> {
        if matches!(self.bulk, ForChunks::Unknown) {
            self.bulk = self.compile().map_or(ForChunks::None, ForChunks::There);
        }
        match std::mem::replace(&mut self.bulk, ForChunks::None) {
            ForChunks::There(bulk) => Some(bulk),
            ForChunks::Unknown | ForChunks::None => None,
        }
    }

    fn compile(&mut self) -> Option<Box<dyn Bulk<P>>> {
        // These need to know of each node.
        if self.is_watched() || self.notes_visits || self.works_elsewhere || self.takes_indices.contains(&true) {
            return None;
        }
        let last = self.nodes.len() - 1;
        let is_line = (0..last).all(|node| matches!(self.routes[node], Route::Node(next) if next == node + 1));
        if !is_line {
            return None;
        }
        let parts = self.nodes.iter_mut().map(|node| node.as_compilable().map(|node| node.part()));
        let parts = parts.collect::<Option<Vec<P>>>()?;
        let ids = self.members.iter().map(|&member| self.plan.nodes()[member].id.clone()).collect();
        let mut bulk = self.nodes[0].as_compilable()?.compile(parts, ids);
        bulk.is_possible(false).then_some(bulk)
    }
}

/// Where the items of an envelope are in their chunk.
pub(crate) struct Places<'a> {
    /// The number of the chunk.
    pub(crate) input: u64,
    /// The position of each item.
    pub(crate) positions: &'a [u32],
}

impl Places<'_> {
    fn position(&self, index: usize) -> u32 {
        self.positions.get(index).copied().unwrap_or(0)
    }

    fn number(&self, index: usize) -> u64 {
        numbering::of_item(numbering::item_index(self.input) + u64::from(self.position(index)))
    }

    /// Announces the items from this one on, one with each call.
    fn from<P: Payload>(&self, index: usize) -> impl FnMut(&mut Machine<P>, &mut dyn Sink<P>) {
        let (mut index, mut since) = (index, Instant::now());
        move |machine, sink| {
            if since.elapsed() > LONG_TIME {
                sink.between_items();
                since = Instant::now();
            }
            machine.input = self.number(index);
            sink.begin_item(self.position(index) as usize);
            index += 1;
        }
    }
}

/// Gives a sink the positions of items in their chunk.
struct AtPlaces<'a, P: Payload> {
    sink: &'a mut dyn Sink<P>,
    places: &'a Places<'a>,
}

impl<P: Payload> Sink<P> for AtPlaces<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.sink.accept(output)
    }

    fn begin_item(&mut self, position: usize) {
        self.sink.begin_item(self.places.position(position) as usize);
    }
}
