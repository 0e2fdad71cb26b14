//! The connection to a worker, and the jobs that are sent over it.

use std::ops::Range;

use crate::payload::Payload;
use crate::worker::protocol::connection::Link;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::message::Message;
use crate::worker::protocol::status_page::Page;
use crate::worker::{ItemCodec, pack};

/// The connection to the current worker process.
pub(crate) struct Connection {
    /// Items and their results.
    pub(crate) link: Link,
    /// What must not wait behind items.
    pub(crate) control: Link,
    /// Where the worker is.
    pub(crate) page: Page,
}

impl Connection {
    /// Let the worker know that a job that was sent is no longer wanted: at once, and once more behind the job itself, because it may
    /// have begun by then.
    pub(crate) fn post_drop(&self, number: u64) {
        self.control.post(Head::new(Kind::Drop, number), self.control.message());
        self.link.post(Head::new(Kind::Forget, number), self.link.message());
    }
}

/// What a worker is asked to do.
pub(crate) enum Job<P> {
    Item(P),
    /// Items that are done one after the other, each with its index among those of the pipeline.
    Pack(Vec<(u64, P)>),
    Batch(Vec<P>),
    Flush,
}

impl<P> Job<P> {
    /// How many numbers it has.
    pub(crate) fn count(&self) -> usize {
        if let Self::Pack(items) = self { items.len() } else { 1 }
    }
}

/// A job as it is sent.
pub(crate) struct Written<'a, P: Payload> {
    /// The heads have the places of the items instead of their numbers.
    messages: Vec<(Head, Message<'a>)>,
    /// The items that cannot be written down.
    pub(crate) refused: Vec<(usize, P::Fault)>,
}

impl<P: Payload> Written<'_, P> {
    /// Let it wait to be sent. The number is that of its first item.
    pub(crate) fn send(self, connection: &Connection, number: u64, is_replay: bool) {
        for (head, message) in self.messages {
            connection.link.post(Head { is_replay, number: number + head.number, ..head }, message);
        }
    }
}

impl Connection {
    /// Write some items of a job down, or all there is if it is not a pack.
    pub(crate) fn write<P: Payload>(
        &self,
        codec: &dyn ItemCodec<P>,
        job: &Job<P>,
        slots: Range<usize>,
    ) -> Written<'_, P> {
        match job {
            Job::Item(item) => self.write_item(codec, item),
            Job::Pack(items) => match &items[slots] {
                [(_, item)] => self.write_item(codec, item),
                items => self.write_pack(codec, items),
            },
            Job::Batch(items) => {
                let write = |(slot, item)| {
                    let head = Head { has_more: slot + 1 < items.len(), extra: 1, ..Head::new(Kind::Item, 0) };
                    Ok((head, pack(codec, item, self.link.message())?))
                };
                let written = items.iter().enumerate().map(write).collect::<Result<Vec<_>, _>>();
                match written {
                    Ok(messages) => Written { messages, refused: Vec::new() },
                    Err(fault) => Written { messages: Vec::new(), refused: vec![(0, fault)] },
                }
            }
            Job::Flush => {
                Written { messages: vec![(Head::new(Kind::Flush, 0), self.link.message())], refused: Vec::new() }
            }
        }
    }

    fn write_item<P: Payload>(&self, codec: &dyn ItemCodec<P>, item: &P) -> Written<'_, P> {
        match pack(codec, item, self.link.message()) {
            Ok(message) => Written { messages: vec![(Head::new(Kind::Item, 0), message)], refused: Vec::new() },
            Err(fault) => Written { messages: Vec::new(), refused: vec![(0, fault)] },
        }
    }

    /// Small items go together, as far as they come one after the other.
    fn write_pack<P: Payload>(&self, codec: &dyn ItemCodec<P>, items: &[(u64, P)]) -> Written<'_, P> {
        let mut packs = PackWriter { connection: self, messages: Vec::new(), open: self.link.message(), count: 0 };
        let mut refused = Vec::new();
        for (slot, (_, item)) in items.iter().enumerate() {
            let start = packs.open.begin_part();
            if let Err(fault) = codec.pack(item, &mut packs.open) {
                packs.open.drop_part(start);
                packs.close(slot);
                refused.push((slot, fault));
            } else if let Some(own) = packs.open.end_part(start) {
                packs.close(slot);
                match own.missing() {
                    None => packs.messages.push((Head::new(Kind::Item, slot as u64), own)),
                    Some(bytes) => refused.push((slot, codec.no_memory(bytes))),
                }
            } else {
                packs.count += 1;
                if packs.open.is_full() {
                    packs.close(slot + 1);
                }
            }
        }
        packs.close(items.len());
        Written { messages: packs.messages, refused }
    }
}

/// Collects items that go together.
struct PackWriter<'a> {
    connection: &'a Connection,
    messages: Vec<(Head, Message<'a>)>,
    /// The items since the last message.
    open: Message<'a>,
    count: u64,
}

impl PackWriter<'_> {
    /// The items before this place are a message.
    fn close(&mut self, end: usize) {
        let message = std::mem::replace(&mut self.open, self.connection.link.message());
        let extra = std::mem::take(&mut self.count);
        if extra > 0 {
            self.messages.push((Head { extra, ..Head::new(Kind::Pack, end as u64 - extra) }, message));
        }
    }
}
