//! Inputs of a session without threads: the thread that puts them in, or takes the outputs, runs the nodes.
//!
//! Producers go first: a thread that only takes outputs leaves the work to those that [bring](Bringing) inputs.
//!
//! An input with more outputs than the consumer takes is paused. *Invariant:* what is paused is not in the machine, which takes direct calls
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Session;
use crate::execution::machine::{Machine, Stop};
use crate::failure::RunError;
use crate::node::endpoints::Sink;
use crate::numbering::NO_INPUT;
use crate::payload::Payload;
use crate::session::queues::inbox::Popped;
use crate::session::stages::paused::{Paused, Rest};
use crate::session::stages::shared::Core;
use crate::session::stages::stage::Replica;
use crate::session::stages::work::{blame, take_through};

/// What came of work on what was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    /// Another thread is inside, or this one already.
    Busy,
    /// There is nothing left, no room for outputs, or no order to go on.
    Paused,
}

/// A thread that takes an input through the nodes itself. While there is one, threads that take outputs leave the work to it.
pub struct Bringing<'a, P: Payload> {
    session: &'a Session<P>,
    /// A number above that of its input, when it is in.
    end: Option<u64>,
}

impl<P: Payload> Bringing<'_, P> {
    /// The input is in.
    pub fn note_in(&mut self) {
        self.end.get_or_insert_with(|| self.session.core.in_flight.end());
    }

    /// Whether the input and those before it have ended, or the session has.
    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.session.is_closed() || self.session.core.in_flight.is_done(end))
    }

    /// Work on what was put in, up to the input.
    ///
    /// # Errors
    /// A node passed on an order to stop, which is one to this thread.
    pub fn work(&self) -> Result<Worked, P::Fault> {
        self.session.work(&|| !self.is_done())
    }
}

impl<P: Payload> Drop for Bringing<'_, P> {
    fn drop(&mut self) {
        self.session.core.bringing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<P: Payload> Session<P> {
    /// Whether nodes run on each thread that calls, and inputs that are put in wait for [`Bringing::work`] or [`Session::work_here`].
    pub fn is_on_callers(&self) -> bool {
        self.core.on_callers.load(Ordering::SeqCst)
    }

    /// The same, for [`Outbox::waiting_unless`](crate::Outbox::waiting_unless).
    pub fn on_callers(&self) -> &Arc<AtomicBool> {
        &self.core.on_callers
    }

    /// Let a thread work on what is put in from now on, and on what was.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start_thread(&self) -> Result<(), RunError<P::Fault>> {
        if self.core.on_callers.swap(false, Ordering::SeqCst) {
            self.threads.start(&self.core).map_err(RunError::NoThread)?;
        }
        Ok(())
    }

    /// This thread is about to put an input in, and to work on it.
    pub fn bring(&self) -> Bringing<'_, P> {
        self.core.bringing.fetch_add(1, Ordering::SeqCst);
        Bringing { session: self, end: None }
    }

    /// This thread has put an input in that it cannot work on, because the nodes wait for it: the thread inside them does so when it leaves, by
    /// [`Session::work_on_left`].
    pub fn leave_work(&self) {
        self.core.has_left_work.store(true, Ordering::SeqCst);
    }

    /// Whether there is something to do for [`Session::work_on_left`].
    pub fn has_left_work(&self) -> bool {
        self.core.has_left_work.load(Ordering::SeqCst)
    }

    /// Work on what was put in, if some was left.
    ///
    /// # Errors
    /// As of [`Session::work_here`].
    pub fn work_on_left(&self) -> Result<(), P::Fault> {
        while self.has_left_work() {
            self.core.has_left_work.store(false, Ordering::SeqCst);
            if self.work(&|| true)? == Worked::Busy {
                self.leave_work();
                break;
            }
        }
        Ok(())
    }

    /// Work on what was put in, on this thread, while there is something, there is room for its outputs, `goes_on`, and nobody [brings
    /// inputs](Session::bring). Returns at once if another thread is inside.
    ///
    /// # Errors
    /// A node passed on an order to stop, which is one to this thread.
    pub fn work_here(&self, goes_on: &dyn Fn() -> bool) -> Result<(), P::Fault> {
        self.work(&|| self.core.bringing.load(Ordering::SeqCst) == 0 && goes_on()).map(drop)
    }

    fn work(&self, goes_on: &dyn Fn() -> bool) -> Result<Worked, P::Fault> {
        let replica = &self.core.stages[0].replicas[0];
        let Some(mut machine) = replica.machine.try_lock() else { return Ok(Worked::Busy) };
        let mut outcome = Ok(());
        while outcome.is_ok()
            && self.is_on_callers()
            && !self.is_closed()
            && let Some(paused) = self.core.next_to_work_on(replica, &mut machine, goes_on)
        {
            outcome = self.core.work_on(replica, &mut machine, paused, Some(goes_on));
        }
        drop(machine);
        outcome.map(|()| Worked::Paused)
    }
}

impl<P: Payload> Core<P> {
    /// Drop what is paused.
    pub(super) fn abandon_paused(&self, replica: &Replica<P>, machine: &mut Machine<P>) {
        let paused = self.paused.lock().take();
        if let Some(Paused { work: Rest::Some(under_way), context, .. }) = paused {
            machine.restore(under_way);
            let failed = P::within(&context, || replica.abandon(machine));
            self.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
        }
    }

    /// What is paused goes before what comes after it, which a thread has.
    pub(super) fn finish_paused(&self, replica: &Replica<P>, machine: &mut Machine<P>) {
        let paused = self.paused.lock().take();
        if let Some(paused) = paused
            && let Err(order) = self.work_on(replica, machine, paused, None)
        {
            self.note_failures(std::iter::once(order));
        }
    }

    fn next_to_work_on(
        &self,
        replica: &Replica<P>,
        machine: &mut Machine<P>,
        goes_on: &dyn Fn() -> bool,
    ) -> Option<Paused<P>> {
        let paused = self.paused.lock().as_ref().map(|paused| paused.input);
        if let Some(input) = paused {
            if self.in_flight.is_wanted(input) {
                let may_go_on = goes_on() && self.in_flight.room(input) > 0;
                return if may_go_on { self.paused.lock().take() } else { None };
            }
            self.abandon_paused(replica, machine);
            self.end(input);
        }
        while goes_on() {
            let Popped::Envelope(_, envelope) = self.pop_at_once(&self.stages[0]) else { return None };
            let (input, is_flush) = (envelope.input, envelope.is_flush);
            replica.note_given(input);
            let Some(context) = self.in_flight.context_of_wanted(input) else {
                self.end(input);
                continue;
            };
            let paused = Paused { input, is_flush, context: P::copy_context(&context), work: Rest::All(envelope) };
            if self.in_flight.room(input) > 0 {
                return Some(paused);
            }
            *self.paused.lock() = Some(paused);
            return None;
        }
        None
    }

    fn work_on(
        &self,
        replica: &Replica<P>,
        machine: &mut Machine<P>,
        paused: Paused<P>,
        goes_on: Option<&dyn Fn() -> bool>,
    ) -> Result<(), P::Fault> {
        let Paused { input, is_flush, context, work } = paused;
        let mut sink = Deliver { core: self, input, goes_on };
        self.forget_if_asked(replica, machine);
        machine.begin();
        machine.input = input;
        let stop = P::within(&context, || {
            let outcome = replica.try_enter(machine, |machine| match work {
                Rest::All(envelope) => take_through(machine, envelope, &mut sink),
                Rest::Some(under_way) => {
                    machine.restore(under_way);
                    machine.go_on(is_flush, &mut sink)
                }
            });
            let stop = outcome.unwrap_or_else(|hindrance| Err(Stop::Hindered(hindrance))).err()?;
            if matches!(stop, Stop::Paused) {
                return Some(None);
            }
            let error = self.why(replica, blame(machine, stop));
            let failed = replica.abandon(machine);
            self.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
            Some(Some(error))
        });
        machine.input = NO_INPUT;
        match stop {
            None => self.end(input),
            Some(None) => {
                let work = Rest::Some(machine.suspend());
                *self.paused.lock() = Some(Paused { input, is_flush, context, work });
            }
            Some(Some(RunError::Interrupt(order))) => {
                self.fail(input, RunError::Cancelled);
                self.end(input);
                return Err(order);
            }
            Some(Some(error)) => {
                self.fail(input, error);
                self.end(input);
            }
        }
        Ok(())
    }

    /// Nothing more comes of the input.
    fn end(&self, input: u64) {
        self.in_flight.complete(input);
        self.admit_waiting();
    }
}

/// Hands outputs to the client of their input.
struct Deliver<'a, P: Payload> {
    core: &'a Core<P>,
    input: u64,
    /// Without it, nothing pauses the input: its outputs wait for room.
    goes_on: Option<&'a dyn Fn() -> bool>,
}

impl<P: Payload> Sink<P> for Deliver<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.core.in_flight.output(self.input, output);
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        self.core.in_flight.is_wanted(self.input)
    }

    fn is_full(&mut self) -> bool {
        self.goes_on.is_some_and(|goes_on| !goes_on() || self.core.in_flight.room(self.input) == 0)
    }
}
