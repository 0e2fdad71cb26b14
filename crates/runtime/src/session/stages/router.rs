//! The outputs of an envelope on their way to the stages after the one that made them.

use crate::payload::Payload;
use crate::session::queues::inbox::Envelope;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::Stage;

/// Sends the outputs of an envelope by the links of a stage.
pub(crate) struct Router<'a, P: Payload> {
    core: &'a Core<P>,
    stage: &'a Stage<P>,
    header: Envelope<P>,
    /// What has not been sent, for each link.
    pending: Vec<Vec<(usize, P)>>,
    /// The positions of what has not been sent in its chunk, where the input is one. There is one link then.
    positions: Vec<u32>,
    /// The links by which something of the envelope was sent.
    has_sent: Vec<bool>,
}

impl<'a, P: Payload> Router<'a, P> {
    pub(crate) fn new(core: &'a Core<P>, stage: &'a Stage<P>, header: Envelope<P>) -> Self {
        let pending = stage.links.iter().map(|_| Vec::new()).collect();
        Self { core, stage, header, pending, positions: Vec::new(), has_sent: vec![false; stage.links.len()] }
    }

    /// So many outputs are about to be added.
    pub(crate) fn expect(&mut self, outputs: usize) {
        if let [pending] = &mut self.pending[..] {
            pending.reserve(outputs);
            if self.header.positions.is_some() {
                self.positions.reserve(outputs);
            }
        }
    }

    /// The last output comes of the item at this position of the chunk.
    pub(crate) fn note_position(&mut self, position: u32) {
        self.positions.push(position);
    }

    /// Keep an output that leaves the stage by this exit, until the next are sent.
    pub(crate) fn add(&mut self, exit: usize, output: P) {
        for (link, pending) in self.stage.links.iter().zip(&mut self.pending) {
            if let Some((_, place)) = link.exits.iter().find(|(candidate, _)| *candidate == exit) {
                pending.push((*place, output));
                break;
            }
        }
    }

    /// Forget what has not been sent.
    pub(crate) fn clear(&mut self) {
        self.pending.iter_mut().for_each(Vec::clear);
        self.positions.clear();
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending.iter().any(|items| !items.is_empty())
    }

    /// Whether the outputs are still wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.core.in_flight.is_wanted(self.header.input)
    }

    /// Send what there is. May wait for room.
    pub(crate) fn send_pending(&mut self) {
        for link in 0..self.pending.len() {
            self.send(link, (false, false), Vec::new());
        }
    }

    /// The same where the item of a chunk that made the last of them has no more outputs.
    pub(crate) fn send_whole_items(&mut self) {
        for link in 0..self.pending.len() {
            self.send(link, (false, true), Vec::new());
        }
    }

    /// The envelope is done. The nodes of `visited_exits` were given something of it.
    pub(crate) fn finish(mut self, visited_exits: &[usize]) {
        let ends = (self.header.is_last, self.header.ends_item);
        for link in 0..self.pending.len() {
            let exits = &self.stage.links[link].exits;
            let visits =
                exits.iter().filter(|(exit, _)| visited_exits.contains(exit)).map(|(_, place)| *place).collect();
            self.send(link, ends, visits);
        }
    }

    fn send(&mut self, link: usize, (is_last, ends_item): (bool, bool), visits: Vec<usize>) {
        let items = std::mem::take(&mut self.pending[link]);
        if !items.is_empty() || !visits.is_empty() || is_last {
            let is_first = self.header.is_first && !std::mem::replace(&mut self.has_sent[link], true);
            let positions = self.header.positions.is_some().then(|| std::mem::take(&mut self.positions));
            let envelope = Envelope { items, visits, is_first, is_last, ends_item, positions, ..self.header.header() };
            self.core.send(&self.stage.links[link], envelope);
        }
    }
}
