//! What comes back from a worker, on its way to whoever waits for it.

use std::sync::Arc;

use super::channel::{Channel, Drawn};
use super::link::Received;
use super::remote::{Remote, Reply};
use super::wire::{Head, Kind, phase_of};
use super::{Arrived, steps};
use crate::{Outputs, Payload};

impl<P: Payload> Remote<P> {
    /// See to a frame of the worker about items. Only the reader of the moment calls this.
    pub(crate) fn deliver(&self, received: Received) {
        let Received { head, letter, .. } = received;
        match head.kind {
            Kind::Output if head.extra > 0 => self.deliver_of_batch(head, letter),
            Kind::Output => {
                let Some(is_last) = self.note_output(head) else { return };
                match self.border.unpack(letter) {
                    Ok(output) => self.hand_out(head.number, output, is_last),
                    Err(fault) => self.finish(head.number, Err(fault)),
                }
            }
            Kind::Done => self.finish(head.number, Ok(())),
            Kind::Fault => {
                let fault = self.unpack_fault(head, &letter);
                self.finish(head.number, Err(fault));
            }
            Kind::Steps => {
                if let Some(tell) = self.tell_step.get() {
                    steps::read(&letter.body).for_each(|(node, took)| tell(node, took));
                }
            }
            Kind::State => {
                let outdated = self.lock().kept.remember(head, letter);
                drop(outdated);
            }
            _ => {}
        }
    }

    /// The fault that a frame brings.
    pub(crate) fn unpack_fault(&self, head: Head, letter: &Arrived) -> P::Fault {
        let node = usize::from(head.node).min(self.spec.node_ids.len() - 1);
        self.border.unpack_fault(&self.spec.node_ids[node], phase_of(head.extra), &letter.body)
    }

    /// Whether an output is wanted, and if, whether it is the last one of its item.
    fn note_output(&self, head: Head) -> Option<bool> {
        let mut state = self.lock();
        let pending = state.pending.get_mut(&head.number)?;
        if pending.repeated > 0 {
            pending.repeated -= 1;
            drop(state);
            if head.is_last {
                self.finish(head.number, Ok(()));
            }
            return None;
        }
        pending.emitted += 1;
        Some(head.is_last)
    }

    fn hand_out(&self, number: u64, output: P, is_last: bool) {
        if is_last {
            return match self.take(number) {
                None => {}
                Some(Reply::Stream(channel)) => {
                    channel.push(output);
                    channel.end(Ok(()));
                }
                Some(reply) => reply.tell(self, Ok(Outputs::One(output))),
            };
        }
        let mut state = self.lock();
        let Some(pending) = state.pending.get_mut(&number) else { return };
        if let Reply::Stream(channel) = &pending.reply {
            let channel = Arc::clone(channel);
            drop(state);
            return channel.push(output);
        }
        let channel = Arc::new(Channel::new(output));
        let reply = std::mem::replace(&mut pending.reply, Reply::Stream(Arc::clone(&channel)));
        drop(state);
        reply.tell(self, Ok(Outputs::Many(Box::new(Drawn(channel)))));
    }

    fn deliver_of_batch(&self, head: Head, letter: Arrived) {
        let unpacked = self.border.unpack(letter);
        let fault = {
            let mut state = self.lock();
            match (state.pending.get_mut(&head.number).map(|pending| &mut pending.reply), unpacked) {
                (Some(Reply::Batch(answers, _)), Ok(output)) => {
                    let slot = usize::try_from(head.extra - 1).unwrap_or(usize::MAX);
                    if let Some(answer) = answers.get_mut(slot) {
                        *answer = Some(output);
                    }
                    None
                }
                (_, unpacked) => unpacked.err(),
            }
        };
        if let Some(fault) = fault {
            self.finish(head.number, Err(fault));
        }
    }

    /// Nothing more comes of a job.
    pub(crate) fn finish(&self, number: u64, end: Result<(), P::Fault>) {
        match self.take(number) {
            None => {}
            Some(Reply::Stream(channel)) => channel.end(end),
            Some(Reply::Batch(answers, done)) => done(end.map(|()| answers)),
            Some(reply) => reply.tell(self, end.map(|()| Outputs::None)),
        }
    }

    /// Nothing comes of a job that cost a worker. It is not given to the next one, not even to bring it where the old one was.
    pub(crate) fn set_aside(&self, number: u64, fault: P::Fault) {
        let pending = self.lock().pending.remove(&number);
        match pending.map(|pending| pending.reply) {
            None => {}
            Some(reply) => reply.fail(self, fault),
        }
    }

    fn take(&self, number: u64) -> Option<Reply<P>> {
        let mut state = self.lock();
        let pending = state.pending.remove(&number)?;
        let done = state.kept.note_done(number, pending.job);
        drop(state);
        // What an item does when it is let go of must not meet the lock.
        drop(done);
        Some(pending.reply)
    }

    pub(super) fn answer_directly(&self, answer: Result<Outputs<P>, P::Fault>) {
        self.lock().direct_answer = Some(answer);
        self.changed.notify_all();
    }
}
