//! Results from a worker, on their way to the threads that wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::execution::metrics::Step;
use crate::node::Outputs;
use crate::payload::Payload;
use crate::worker::parent::client::{Remote, Reply};
use crate::worker::parent::output_channel::{Channel, Drawn};
use crate::worker::protocol::connection::Received;
use crate::worker::protocol::frame::{Head, Kind, phase_of};
use crate::worker::protocol::timings;
use crate::worker::{Arrived, unpack};

/// An event of a job, to be delivered when the caller holds no lock that its receiver may need.
#[must_use = "a thread waits for it"]
pub(crate) enum ReplyEvent<P: Payload> {
    /// The job is done, or its outputs come one by one.
    Done(Reply<P>, Result<Outputs<P>, P::Fault>),
    /// One more output, and not the last.
    Output(Arc<Channel<P>>, P),
}

impl<P: Payload> ReplyEvent<P> {
    /// Deliver it. May wait until an output before it is taken.
    pub(crate) fn deliver(self, remote: &Remote<P>) {
        match self {
            Self::Done(reply, result) => reply.send(remote, result),
            Self::Output(channel, output) => channel.push(output),
        }
    }
}

impl<P: Payload> Remote<P> {
    /// See to a frame of the worker about items. Only the current reader calls this.
    pub(crate) fn take_in(&self, received: Received) -> Option<ReplyEvent<P>> {
        let Received { head, message, .. } = received;
        match head.kind {
            Kind::Output if head.extra > 0 => self.take_in_of_batch(head, message),
            Kind::Output if self.is_repeated(head.number)? => {
                if head.is_last {
                    self.finish(head.number, Ok(Outputs::None))
                } else {
                    None
                }
            }
            Kind::Output => match unpack(&*self.codec, message) {
                Ok(output) if head.is_last => self.finish(head.number, Ok(Outputs::One(output))),
                Ok(output) => self.note_output(head.number, output),
                Err(fault) => self.finish(head.number, Err(fault)),
            },
            Kind::Done if head.extra == 0 => self.finish(head.number, Ok(Outputs::NotReached)),
            Kind::Done => self.finish(head.number, Ok(Outputs::None)),
            Kind::Fault => {
                let fault = self.unpack_fault(head, &message);
                self.finish(head.number, Err(fault))
            }
            Kind::Steps => {
                if let Some(observe) = self.step_observer.get() {
                    timings::read(&message.body).for_each(|(node, step)| observe(node, step));
                }
                let pending = &mut self.lock().pending;
                if let Some(pending) = pending.get_mut(&head.number) {
                    pending.inside += timings::read(&message.body)
                        .map(|(_, step)| if let Step::Took(took) = step { took } else { Duration::ZERO })
                        .sum::<Duration>();
                }
                None
            }
            Kind::State => {
                let outdated = self.lock().kept.remember(head, message);
                drop(outdated);
                None
            }
            _ => None,
        }
    }

    /// The fault that a frame brings.
    pub(crate) fn unpack_fault(&self, head: Head, message: &Arrived) -> P::Fault {
        let node = usize::from(head.node).min(self.spec.node_ids.len() - 1);
        self.codec.unpack_fault(&self.spec.node_ids[node], phase_of(head.extra), &message.body)
    }

    /// Whether an output already came from a former worker; `None` if it is no longer wanted.
    fn is_repeated(&self, number: u64) -> Option<bool> {
        let mut state = self.lock();
        let pending = state.pending.get_mut(&number)?;
        let is_repeated = pending.repeated > 0;
        pending.repeated -= usize::from(is_repeated);
        Some(is_repeated)
    }

    /// An output that is not the last of its item.
    fn note_output(&self, number: u64, output: P) -> Option<ReplyEvent<P>> {
        let mut state = self.lock();
        let pending = state.pending.get_mut(&number)?;
        pending.emitted += 1;
        if let Reply::Stream(channel) = &pending.reply {
            return Some(ReplyEvent::Output(Arc::clone(channel), output));
        }
        let channel = Arc::new(Channel::new(output));
        let reply = std::mem::replace(&mut pending.reply, Reply::Stream(Arc::clone(&channel)));
        Some(ReplyEvent::Done(reply, Ok(Outputs::Many(Box::new(Drawn(channel))))))
    }

    fn take_in_of_batch(&self, head: Head, message: Arrived) -> Option<ReplyEvent<P>> {
        let unpacked = unpack(&*self.codec, message);
        let fault = {
            let mut state = self.lock();
            match (state.pending.get_mut(&head.number).map(|pending| &mut pending.reply), unpacked) {
                (Some(Reply::Batch(outputs, _)), Ok(output)) => {
                    let slot = usize::try_from(head.extra - 1).unwrap_or(usize::MAX);
                    if let Some(place) = outputs.get_mut(slot) {
                        *place = Some(output);
                    }
                    None
                }
                (_, unpacked) => unpacked.err(),
            }
        };
        fault.and_then(|fault| self.finish(head.number, Err(fault)))
    }

    /// Nothing more comes of a job than this.
    pub(crate) fn finish(&self, number: u64, result: Result<Outputs<P>, P::Fault>) -> Option<ReplyEvent<P>> {
        self.take(number).map(|reply| ReplyEvent::Done(reply, result))
    }

    /// Nothing comes of a job that cost a worker. It is not given to the next one, not even to bring it where the old one was.
    pub(crate) fn fail_lost(&self, number: u64, fault: P::Fault) {
        let pending = self.lock().pending.remove(&number);
        if let Some(pending) = pending {
            pending.reply.fail(self, fault);
        }
    }

    fn take(&self, number: u64) -> Option<Reply<P>> {
        let mut state = self.lock();
        let pending = state.pending.remove(&number)?;
        if let Some(transport) = pending.transport() {
            let nanos = u64::try_from(transport.as_nanos()).unwrap_or(u64::MAX);
            self.counters.transport_ns.fetch_add(nanos, Ordering::Relaxed);
        }
        let done = state.kept.note_done(number, pending.job);
        drop(state);
        // Items are dropped outside the lock, because user code may run then.
        drop(done);
        Some(pending.reply)
    }

    pub(crate) fn reply_directly(&self, result: Result<Outputs<P>, P::Fault>) {
        self.lock().direct_result = Some(result);
        self.changed.notify_all();
    }
}
