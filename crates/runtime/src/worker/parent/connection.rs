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

impl<'a, P: Payload> Written<'a, P> {
    fn of(written: Result<Vec<(Head, Message<'a>)>, P::Fault>) -> Self {
        match written {
            Ok(messages) => Self { messages, refused: Vec::new() },
            Err(fault) => Self { messages: Vec::new(), refused: vec![(0, fault)] },
        }
    }

    /// Let it wait to be sent. The number is that of its first item.
    pub(crate) fn send(self, connection: &Connection, number: u64, is_replay: bool) {
        for (head, message) in self.messages {
            let head = Head { is_replay, number: number + head.number, ..head };
            if head == Head::new(Kind::Item, head.number) {
                connection.link.post_item(head.number, message);
            } else {
                connection.link.post(head, message);
            }
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
        let write = |head, item| Ok((head, pack(codec, item, self.link.message())?));
        match job {
            Job::Item(item) => Written::of(write(Head::new(Kind::Item, 0), item).map(|message| vec![message])),
            Job::Batch(items) => {
                let head = |slot| Head { has_more: slot + 1 < items.len(), extra: 1, ..Head::new(Kind::Item, 0) };
                Written::of(items.iter().enumerate().map(|(slot, item)| write(head(slot), item)).collect())
            }
            Job::Flush => Written::of(Ok(vec![(Head::new(Kind::Flush, 0), self.link.message())])),
            Job::Pack(items) => {
                let mut written = Written::of(Ok(Vec::with_capacity(slots.len())));
                for (slot, (_, item)) in items[slots].iter().enumerate() {
                    match write(Head::new(Kind::Item, slot as u64), item) {
                        Ok(message) => written.messages.push(message),
                        Err(fault) => written.refused.push((slot, fault)),
                    }
                }
                written
            }
        }
    }
}
