//! What a worker that takes the place of another is given.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::payload::Payload;
use crate::worker::parent::client::{Life, Remote};
use crate::worker::parent::connection::Connection;
use crate::worker::parent::snapshots::Done;
use crate::worker::protocol::frame::{Head, Kind};

impl<P: Payload> Remote<P> {
    /// Items below this number were with a worker that is gone.
    pub(crate) fn first_unsent(&self) -> u64 {
        self.lock().pending.end_of_sent()
    }

    /// The nodes are initialized: bring them where they were. What is not done is unsent from now on.
    ///
    /// # Errors
    /// If that cannot be written down: then it must not go on.
    pub(crate) fn redeliver(&self, connection: &Connection, can_keep: bool) -> Result<(), P::Fault> {
        let (states, since) = {
            let mut state = self.lock();
            state.kept.is_possible = can_keep;
            state.kept.forget_coming();
            let mut redelivered = 0;
            for pending in state.pending.values_mut() {
                if std::mem::take(&mut pending.is_sent) {
                    redelivered += pending.slots.len() as u64;
                }
                pending.repeated = pending.emitted;
            }
            self.counters.redeliveries.fetch_add(redelivered, Ordering::Relaxed);
            (state.kept.states(), state.kept.since())
        };
        for (node, kept) in states {
            let mut message = connection.link.message();
            message.write(&kept.body);
            kept.buffers.iter().for_each(|buffer| message.add_buffer(buffer));
            if let Some(bytes) = message.missing() {
                return Err(self.codec.no_memory(bytes));
            }
            let node = u16::try_from(node).unwrap_or(u16::MAX);
            connection.link.post(Head { node, ..Head::new(Kind::Restore, 0) }, message);
        }
        for Done { number, job, slot } in since {
            let mut written = connection.write(&*self.codec, &job, slot..slot + 1);
            if let Some((_, fault)) = written.refused.pop() {
                return Err(fault);
            }
            written.send(connection, number, true);
        }
        Ok(())
    }

    /// Give the worker what was begun and is not done. One of several items that were in work when the last one died goes alone, so that
    /// its second death shows which it was.
    pub(crate) fn send_unsent(&self, connection: &Connection) {
        loop {
            let next = {
                let mut state = self.lock();
                if state.life != Life::Starting {
                    return;
                }
                let is_concurrent = self.spec.is_concurrent();
                let suspect_is_out =
                    is_concurrent && state.pending.values().any(|pending| pending.is_sent && pending.deaths > 0);
                if suspect_is_out {
                    return;
                }
                let Some((number, pending)) = state.pending.first_unsent() else {
                    // Under the same lock: what starts from now on is sent by the thread that starts it.
                    state.life = Life::Up;
                    self.changed.notify_all();
                    return;
                };
                pending.note_sent(self.now_for_metrics());
                (number, Arc::clone(&pending.job), pending.slots.clone())
            };
            let (number, job, slots) = next;
            let written = P::hold(|| connection.write(&*self.codec, &job, slots));
            let mut refused = Vec::new();
            self.lock().send(connection, number, written, &mut refused);
            for (pending, fault) in refused {
                pending.fail(self, fault);
            }
        }
    }
}
