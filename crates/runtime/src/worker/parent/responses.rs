//! Results from a worker, on their way to the threads that wait for them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::execution::metrics::Step;
use crate::node::Outputs;
use crate::node::concurrent::PackDone;
use crate::payload::Payload;
use crate::worker::parent::client::{Remote, State};
use crate::worker::parent::jobs::{Pending, Reply};
use crate::worker::parent::output_channel::{Channel, Drawn};
use crate::worker::protocol::connection::Received;
use crate::worker::protocol::frame::{Head, Kind, phase_of};
use crate::worker::protocol::parts::Parts;
use crate::worker::protocol::timings;
use crate::worker::{Arrived, unpack};

/// An event of a job, to be delivered when the caller holds no lock that its receiver may need.
#[must_use = "a thread waits for it"]
pub(crate) enum ReplyEvent<P: Payload> {
    /// The job is done, or its outputs come one by one.
    Done(Reply<P>, Result<Outputs<P>, P::Fault>),
    /// One more output, and not the last.
    Output(Arc<Channel<P>>, P),
    /// Items of a pack are done, from the one in this place on.
    PackDone(Arc<dyn PackDone<P>>, usize, Vec<Result<Outputs<P>, P::Fault>>),
}

impl<P: Payload> ReplyEvent<P> {
    /// Deliver it. May wait until an output before it is taken.
    pub(crate) fn deliver(self, remote: &Remote<P>) {
        match self {
            Self::Done(reply, result) => reply.send(remote, result),
            Self::Output(channel, output) => channel.push(output),
            Self::PackDone(done, first, results) => done.done(first, results),
        }
    }
}

impl<P: Payload> Remote<P> {
    /// See to a frame of the worker about items, and add what is to be delivered. Only the current reader calls this.
    pub(crate) fn take_in(&self, received: Received, events: &mut Vec<ReplyEvent<P>>) {
        if received.head.kind == Kind::Outputs {
            self.take_in_outputs(received, events);
        } else {
            self.take_in_one(received).into_iter().for_each(|event| add(events, event));
        }
    }

    /// The only outputs of several items, or that they have none.
    fn take_in_outputs(&self, Received { head, message, .. }: Received, events: &mut Vec<ReplyEvent<P>>) {
        let missing = message.missing;
        let mut parts = Parts::of(message.body);
        let mut next = || match missing {
            None => parts.next().flatten().map(Arrived::of),
            Some(bytes) => Some(Arrived::missing(bytes)),
        };
        let mut numbers = head.number..head.number + head.extra;
        while !numbers.is_empty() {
            let Some((done, slots)) = self.take_of_pack(numbers.clone()) else {
                let Some(number) = numbers.next() else { return };
                let head = Head::new(Kind::Output, number).last();
                self.take_in_last(head, next()).into_iter().for_each(|event| add(events, event));
                continue;
            };
            numbers.start += slots.len() as u64;
            let output = |_| next().map_or(Ok(Outputs::None), |message| self.unpack(message).map(Outputs::One));
            let results = slots.clone().map(output).collect();
            add(events, ReplyEvent::PackDone(done, slots.start, results));
        }
    }

    /// The first of these items is of a pack: it and those behind it, as far as they are of the same one, are done. Returns their places.
    fn take_of_pack(&self, numbers: Range<u64>) -> Option<(Arc<dyn PackDone<P>>, Range<usize>)> {
        let mut state = self.lock();
        let Reply::Pack(done) = &state.pending.get(numbers.start)?.reply else { return None };
        let done = Arc::clone(done);
        let most = usize::try_from(numbers.end - numbers.start).unwrap_or(usize::MAX);
        let pending = state.pending.remove(numbers.start, most)?;
        self.note_done(&mut state, numbers.start, &pending);
        drop(state);
        Some((done, pending.slots.clone()))
    }

    /// The last output of an item, or that it has none.
    fn take_in_last(&self, head: Head, message: Option<Arrived>) -> Option<ReplyEvent<P>> {
        let Some(message) = message else { return self.finish(head.number, Ok(Outputs::None)) };
        if self.is_repeated(head.number)? {
            return self.finish(head.number, Ok(Outputs::None));
        }
        let output = self.unpack(message).map(Outputs::One);
        self.finish(head.number, output)
    }

    fn unpack(&self, message: Arrived) -> Result<P, P::Fault> {
        let may_keep = self.spec.passes_on && message.missing.is_none();
        let kept = if may_keep { self.codec.keep(message) } else { Err(message) };
        kept.or_else(|message| unpack(&*self.codec, message))
    }

    fn take_in_one(&self, received: Received) -> Option<ReplyEvent<P>> {
        let Received { head, message, .. } = received;
        match head.kind {
            Kind::Output if head.extra > 0 => self.take_in_of_batch(head, message),
            Kind::Output if head.is_last => self.take_in_last(head, Some(message)),
            Kind::Output if self.is_repeated(head.number)? => None,
            Kind::Output => match self.unpack(message) {
                Ok(output) => self.note_output(head.number, output),
                Err(fault) => self.finish(head.number, Err(fault)),
            },
            Kind::Done => self.finish(head.number, Ok(Outputs::NotReached)),
            Kind::Fault => {
                let fault = self.unpack_fault(head, &message);
                self.finish(head.number, Err(fault))
            }
            Kind::Steps => {
                if let Some(observe) = self.step_observer.get() {
                    timings::read(&message.body).for_each(|(node, step)| observe(node, step));
                }
                let pending = &mut self.lock().pending;
                if let Some(pending) = pending.get_single(head.number) {
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
        let pending = state.pending.get_single(number)?;
        let is_repeated = pending.repeated > 0;
        pending.repeated -= usize::from(is_repeated);
        Some(is_repeated)
    }

    /// An output that is not the last of its item.
    fn note_output(&self, number: u64, output: P) -> Option<ReplyEvent<P>> {
        let mut state = self.lock();
        let pending = state.pending.get_single(number)?;
        pending.emitted += 1;
        if let Reply::Stream(channel) = &pending.reply {
            return Some(ReplyEvent::Output(Arc::clone(channel), output));
        }
        let channel = Arc::new(Channel::new(output));
        let reply = std::mem::replace(&mut pending.reply, Reply::Stream(Arc::clone(&channel)));
        Some(done_with(reply, pending.slots.start, Ok(Outputs::Many(Box::new(Drawn(channel))))))
    }

    fn take_in_of_batch(&self, head: Head, message: Arrived) -> Option<ReplyEvent<P>> {
        let unpacked = self.unpack(message);
        let fault = {
            let mut state = self.lock();
            match (state.pending.get_single(head.number).map(|pending| &mut pending.reply), unpacked) {
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
        let mut state = self.lock();
        let pending = state.pending.remove(number, 1)?;
        self.note_done(&mut state, number, &pending);
        drop(state);
        // Items are dropped outside the lock, because user code may run then.
        Some(done_with(pending.reply, pending.slots.start, result))
    }

    /// Nothing comes of a job that cost a worker. It is not given to the next one, not even to bring it where the old one was.
    pub(crate) fn fail_lost(&self, number: u64, fault: P::Fault) {
        let pending = self.lock().pending.remove(number, 1);
        if let Some(pending) = pending {
            pending.fail(self, fault);
        }
    }

    fn note_done(&self, state: &mut State<P>, number: u64, pending: &Pending<P>) {
        if let Some(transport) = pending.transport() {
            let nanos = u64::try_from(transport.as_nanos()).unwrap_or(u64::MAX);
            self.counters.transport_ns.fetch_add(nanos, Ordering::Relaxed);
        }
        state.kept.note_done(number, &pending.job, pending.slots.clone());
    }

    pub(crate) fn reply_directly(&self, result: Result<Outputs<P>, P::Fault>) {
        self.lock().direct_result = Some(result);
        self.changed.notify_all();
    }
}

/// The result of a job, or of the item of a pack in this place.
fn done_with<P: Payload>(reply: Reply<P>, slot: usize, result: Result<Outputs<P>, P::Fault>) -> ReplyEvent<P> {
    match reply {
        Reply::Pack(done) => ReplyEvent::PackDone(done, slot, vec![result]),
        reply => ReplyEvent::Done(reply, result),
    }
}

/// Add an event. Results of neighbouring items of a pack are delivered together.
fn add<P: Payload>(events: &mut Vec<ReplyEvent<P>>, event: ReplyEvent<P>) {
    if let ReplyEvent::PackDone(done, first, results) = event {
        match events.last_mut() {
            Some(ReplyEvent::PackDone(before, start, earlier))
                if Arc::ptr_eq(before, &done) && *start + earlier.len() == first =>
            {
                earlier.extend(results);
            }
            _ => events.push(ReplyEvent::PackDone(done, first, results)),
        }
    } else {
        events.push(event);
    }
}
