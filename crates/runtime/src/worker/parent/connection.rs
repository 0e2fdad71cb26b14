//! The connection to a worker, and the jobs that are sent over it.

use crate::worker::protocol::connection::Link;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::message::Message;
use crate::worker::protocol::status_page::Page;

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
    Batch(Vec<P>),
    Flush,
}

/// Let the messages of a job wait to be sent.
pub(crate) fn send<P>(connection: &Connection, number: u64, job: &Job<P>, messages: Vec<Message<'_>>, is_replay: bool) {
    let kind = if matches!(job, Job::Flush) { Kind::Flush } else { Kind::Item };
    let extra = u64::from(matches!(job, Job::Batch(_)));
    let count = messages.len();
    for (slot, message) in messages.into_iter().enumerate() {
        let head = Head { has_more: slot + 1 < count, is_replay, extra, ..Head::new(kind, number) };
        connection.link.post(head, message);
    }
}
