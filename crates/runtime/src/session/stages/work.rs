//! How a thread takes envelopes through the nodes of a stage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::execution::machine::{Machine, Places, Stop};
use crate::failure::RunError;
use crate::node::endpoints::Sink;
use crate::numbering::NO_INPUT;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::session::queues::inbox::{Envelope, Popped};
use crate::session::stages::router::Router;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{Replica, Stage};
use crate::session::stages::tasks::{Outcome, PollWhile};

/// The life of the thread of a stage that works on one envelope after the other.
pub(crate) fn run_in_order<P: Payload>(core: &Arc<Core<P>>, stage: usize) {
    let stage = &core.stages[stage];
    let replica = &stage.replicas[0];
    while let Popped::Envelope(_, envelope) = core.pop(stage, replica) {
        let mut machine = replica.machine.lock();
        if replica.tasks.is_none() {
            core.finish_paused(replica, &mut machine);
        }
        let mut sink = RouterSink { router: Router::new(core, stage, envelope.header()), replica, position: None };
        work_on(core, replica, &mut machine, envelope, &mut sink);
        sink.router.finish(&machine.visited_exits());
    }
}

/// Take an envelope through the machine. What goes wrong is reported to the client of its input.
pub(crate) fn work_on<P: Payload>(
    core: &Core<P>,
    replica: &Replica<P>,
    machine: &mut Machine<P>,
    envelope: Envelope<P>,
    sink: &mut dyn Sink<P>,
) {
    let input = envelope.input;
    replica.note_given(input);
    let Some(context) = core.in_flight.context_of_wanted(input) else {
        if machine.input == input {
            // What came of it before must not meet the next input.
            core.note_failures(replica.abandon(machine).into_iter().map(|(_, _, fault)| fault));
            machine.input = NO_INPUT;
        }
        return;
    };
    if machine.input != input {
        core.forget_if_asked(replica, machine);
        machine.begin();
        machine.input = input;
    }
    let is_chunk = envelope.positions.is_some();
    let failed = match envelope.positions {
        None => take_in_copy(core, replica, machine, &context, |machine| take_through(machine, envelope, sink)).0,
        // The interpreter of a language is entered once for all.
        Some(_) => P::hold(|| take_chunk(core, replica, machine, &context, envelope, sink)),
    };
    if let Some(error) = failed {
        if is_chunk {
            // The outputs of the items before the one that failed.
            sink.before_wait();
        }
        core.fail(input, error);
    }
}

/// Do `work` in the nodes, in a copy of the context of an input. Returns why it failed, and the copy.
fn take_in_copy<P: Payload>(
    core: &Core<P>,
    replica: &Replica<P>,
    machine: &mut Machine<P>,
    context: &P::Context,
    work: impl FnOnce(&mut Machine<P>) -> Result<(), Stop<P::Fault>>,
) -> (Option<RunError<P::Fault>>, P::Context) {
    let own = P::copy_context(context);
    let failed = P::within(&own, || {
        let outcome = replica.try_enter(machine, work);
        let stop = outcome.unwrap_or_else(|hindrance| Err(Stop::Hindered(hindrance))).err()?;
        let error = core.why(replica, blame(machine, stop));
        core.note_failures(replica.abandon(machine).into_iter().map(|(_, _, fault)| fault));
        Some(error)
    });
    (failed, own)
}

/// Take an envelope as far as it goes.
pub(crate) fn take_through<P: Payload>(
    machine: &mut Machine<P>,
    envelope: Envelope<P>,
    sink: &mut dyn Sink<P>,
) -> Result<(), Stop<P::Fault>> {
    for place in envelope.visits {
        machine.mark_visited(place);
    }
    for (place, item) in envelope.items {
        machine.take_at(place, item, sink)?;
    }
    match (envelope.is_last, envelope.is_flush) {
        (true, true) => machine.flush(sink),
        (true, false) => machine.drain(sink),
        (false, _) => Ok(()),
    }
}

/// Take the items of a chunk through, at once if the nodes can be compiled and leave the context as it is. Returns why it failed.
fn take_chunk<P: Payload>(
    core: &Core<P>,
    replica: &Replica<P>,
    machine: &mut Machine<P>,
    context: &P::Context,
    envelope: Envelope<P>,
    sink: &mut dyn Sink<P>,
) -> Option<RunError<P::Fault>> {
    let Envelope { input, items, positions, .. } = envelope;
    let mut positions = positions.unwrap_or_default();
    let mut items: Vec<P> = items.into_iter().map(|(_, item)| item).collect();
    if let Some(failed) = core.in_flight.failed_position(input) {
        // What comes of an item that has failed, and of those after it, is no longer wanted.
        let wanted = positions.partition_point(|&position| position < failed);
        positions.truncate(wanted);
        items.truncate(wanted);
    }
    let stage = &core.stages[core.plan.stage_of(machine.members[0])];
    let began = Instant::now();
    let mut items = items.into_iter().peekable();
    let mut places = Places { input, positions: &positions };
    let mut failed = None;
    while items.peek().is_some() && failed.is_none() {
        // An item must not see what the nodes have set for another one.
        let together = if machine.changes_contexts { 1 } else { usize::MAX };
        let part: Vec<P> = items.by_ref().take(together).collect();
        let count = part.len();
        let work = |machine: &mut Machine<P>| machine.take_chunk(&places, part, sink);
        let (error, own) = take_in_copy(core, replica, machine, context, work);
        machine.changes_contexts |= !P::is_same_context(context, &own);
        failed = error;
        places.positions = &places.positions[count..];
    }
    P::dispose(items);
    stage.note_item_time(began.elapsed(), positions.len());
    failed
}

/// What the only node of a stage is given of an envelope; nothing if its input is no longer wanted.
pub(crate) fn inputs_of<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    replica: &Replica<P>,
    machine: &mut Machine<P>,
    envelope: Envelope<P>,
) -> Vec<P> {
    let Envelope { input, visits, items, is_flush, .. } = envelope;
    if !core.in_flight.is_wanted(input) {
        return Vec::new();
    }
    replica.enter(machine, |machine| machine.inputs(visits, items, is_flush)).unwrap_or_else(|stop| {
        if let Stop::Node { fault, .. } = stop {
            replica.count_failure(&fault, 1);
            core.fail(input, core.blame_node(stage.index, input, fault));
        }
        Vec::new()
    })
}

/// Hands the outputs of a machine on to the stages after it as they come.
struct RouterSink<'a, P: Payload> {
    router: Router<'a, P>,
    replica: &'a Replica<P>,
    /// Of the item in work, if the input is a chunk.
    position: Option<u32>,
}

impl<P: Payload> Sink<P> for RouterSink<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.accept_at(0, output)
    }

    fn accept_at(&mut self, exit: usize, output: P) -> Result<(), P::Fault> {
        self.router.add(exit, output);
        if let Some(position) = self.position {
            self.router.note_position(position);
        }
        if self.replica.stop.is_set() {
            // The machine stops at its next step.
            self.router.clear();
        }
        Ok(())
    }

    fn begin_item(&mut self, position: usize) {
        self.position = u32::try_from(position).ok();
    }

    fn is_wanted(&mut self) -> bool {
        self.router.is_wanted()
    }

    fn before_wait(&mut self) {
        if self.router.has_pending() {
            // The next queue may be full, and this thread holds the lock of the nodes.
            P::wait(|| self.router.send_pending());
        }
    }

    fn between_items(&mut self) {
        if self.router.has_pending() {
            P::wait(|| self.router.send_whole_items());
        }
    }
}

impl<P: Payload> Core<P> {
    /// Do `work` on the nodes of a replica, which are given by the numbers of their stage and of the replica: on the thread of the nodes if
    /// they have one, in the context of this one, else on this one.
    pub(crate) fn in_nodes<R: Send + 'static>(
        self: &Arc<Self>,
        (stage, replica): (usize, usize),
        polling: PollWhile<'_>,
        work: impl FnOnce(&Core<P>, &Replica<P>, &mut Machine<P>) -> R + Send + 'static,
    ) -> Outcome<R> {
        let (of_stage, of_replica) = (&self.stages[stage], &self.stages[stage].replicas[replica]);
        if let Some(tasks) = of_replica.tasks.as_ref().filter(|tasks| !tasks.is_here()) {
            let context = P::current_context();
            let core = Arc::clone(self);
            let on_thread = move || {
                let replica = &core.stages[stage].replicas[replica];
                let mut machine = replica.machine.lock();
                P::within(&context, || work(&core, replica, &mut machine))
            };
            return tasks.send(on_thread, || of_stage.wake()).wait::<P>(polling);
        }
        loop {
            match of_replica.lock_until(Instant::now() + polling.interval) {
                Some(mut machine) => {
                    let work = AssertUnwindSafe(|| work(self, of_replica, &mut machine));
                    return Outcome::Done(catch_unwind(work));
                }
                None if (polling.goes_on)() => {}
                None => return Outcome::NotBegun,
            }
        }
    }

    /// What ended the work on an input, where an interruption or the end of the session did: the stop request reaches the nodes before the clients
    /// are notified.
    pub(crate) fn why(&self, replica: &Replica<P>, error: RunError<P::Fault>) -> RunError<P::Fault> {
        match (self.was_stopped(replica, &error), self.is_closed.load(Ordering::Relaxed)) {
            (false, _) => error,
            (true, true) => RunError::Closed,
            (true, false) => RunError::Interrupted,
        }
    }

    /// Whether the work on an input ended because of an interruption or the end of the session.
    pub(crate) fn was_stopped(&self, replica: &Replica<P>, error: &RunError<P::Fault>) -> bool {
        match error {
            RunError::Cancelled => true,
            RunError::Interrupt(fault) => replica.stop.is_set() && P::is_cancellation(fault),
            // The pause before its next attempt was cut short.
            RunError::Node(failure) => replica.stop.is_set() && self.retries(&failure.node_id),
            _ => false,
        }
    }

    fn retries(&self, node_id: &str) -> bool {
        self.plan.nodes().iter().any(|node| node.id == node_id && node.options.retries > 0)
    }

    /// Let the nodes forget what they hold of inputs that are no longer wanted, if there are any.
    pub(crate) fn forget_if_asked(&self, replica: &Replica<P>, machine: &mut Machine<P>) {
        if replica.must_forget.load(Ordering::Acquire) && replica.must_forget.swap(false, Ordering::AcqRel) {
            let failed = replica.enter(machine, Machine::forget_items);
            self.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
        }
    }
}

/// The error for a machine that stopped.
pub(crate) fn blame<P: Payload>(machine: &mut Machine<P>, stop: Stop<P::Fault>) -> RunError<P::Fault> {
    match stop {
        Stop::Node { node, phase, fault } => {
            let item_index = (phase == Phase::Process).then_some(machine.item_index());
            machine.failure(node, item_index, phase, fault)
        }
        Stop::Sink(fault) => RunError::Sink(fault),
        Stop::Hindered(hindrance) => hindrance.into(),
        Stop::Cancelled | Stop::Paused => RunError::Cancelled,
    }
}
