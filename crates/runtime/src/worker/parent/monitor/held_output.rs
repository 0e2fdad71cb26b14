//! The last output of workers that aborted, held back until it is known whether an error contains it.

use crate::payload::Payload;
use crate::worker::parent::client::Remote;
use crate::worker::{ExitCause, StdStream, WorkerExit};

/// The last output of a worker that an error may contain: its item is given to another worker, and if it ends that as well, the item's
/// error says the same.
#[derive(Default)]
pub(crate) struct HeldBack {
    lines: Vec<String>,
    item: Option<u64>,
}

impl HeldBack {
    /// A worker has ended. `reported` is its exit, if an error contains it.
    pub(crate) fn add<P: Payload>(
        &mut self,
        remote: &Remote<P>,
        lines: Vec<String>,
        item: Option<u64>,
        reported: Option<&WorkerExit>,
    ) {
        let is_reported = reported.is_some_and(|exit| !matches!(exit.cause, ExitCause::TimedOut(_)));
        if !(is_reported && item.is_some() && item == self.item) {
            self.write(remote);
        }
        *self = Self { lines: if is_reported { Vec::new() } else { lines }, item };
        if item.is_none() {
            self.write(remote);
        }
    }

    /// Write what was held back for an item that is done by now.
    pub(crate) fn write_if_done<P: Payload>(&mut self, remote: &Remote<P>) {
        let is_done = |item| remote.lock().pending.get(item).is_none();
        if !self.lines.is_empty() && self.item.is_none_or(is_done) {
            self.write(remote);
        }
    }

    fn write<P: Payload>(&mut self, remote: &Remote<P>) {
        for line in self.lines.drain(..) {
            remote.codec.write_line(&remote.spec.node_ids, StdStream::Err, &line);
        }
    }
}
