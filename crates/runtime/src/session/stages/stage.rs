//! One stage of a session: its queue, its nodes, and the ways to the stages after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::execution::machine::{Machine, Stop};
use crate::execution::metrics::Recorders;
use crate::execution::progress::ProgressPlace;
use crate::numbering::{ByNumber, NO_INPUT};
use crate::session::AtWork;
use crate::session::queues::in_flight::Abandoned;
use crate::session::queues::inbox::{Dropped, Envelope, Inbox, Popped, Pushed};
use crate::session::queues::joiner::Joiner;
use crate::session::queues::reorder::{Begin, Reorder};
use crate::session::stages::concurrent::Group;
use crate::session::stages::replicas::OutputChunk;
use crate::session::stages::shared::Core;
use crate::session::stages::tasks::Tasks;
use crate::{CancelFlag, Hindrance, Payload, Phase, RunError, Sink, Turn, WorkerHandle};

/// A stage of an open session.
pub(crate) struct Stage<P: Payload> {
    pub(crate) index: usize,
    /// The place where inputs of the pipeline enter, if they do.
    pub(crate) entry: Option<usize>,
    pub(crate) inbox: Inbox<P>,
    /// One for each replica.
    pub(crate) units: Vec<Unit<P>>,
    /// Where envelopes from several stages, or of unordered ones, are put together.
    pub(crate) joiner: Option<Mutex<Joiner<P>>>,
    /// Where parallel work is put in order again.
    pub(crate) reorder: Option<Reorder<P, OutputChunk<P>>>,
    /// The stages after it, each exit that leads there with the place where its items enter.
    pub(crate) links: Vec<Link>,
    pub(crate) waited_us: AtomicU64,
    /// Above zero while the end of input waits for what was begun before it.
    pub(crate) ending: AtomicUsize,
    /// The envelopes, by their numbers, of which items are under way at the same time.
    pub(crate) started: Mutex<ByNumber<Arc<Group<P>>>>,
    /// One of them has finished.
    pub(crate) has_finished: Condvar,
}

/// The way from one stage to another, or out of the pipeline.
pub(crate) struct Link {
    /// `None` for the way out.
    pub(crate) to: Option<usize>,
    /// `(exit here, place there)`.
    pub(crate) exits: Vec<(usize, usize)>,
}

/// The nodes of a stage, once, and permission to enter them.
pub(crate) struct Unit<P: Payload> {
    pub(crate) machine: Mutex<Machine<P>>,
    pub(crate) stop: CancelFlag,
    pub(crate) progress: ProgressPlace,
    /// How the nodes are reached without entering them, where they work in another process.
    pub(crate) elsewhere: Option<Arc<dyn WorkerHandle>>,
    /// Which of the nodes keep their time limit themselves.
    pub(crate) keep_time: Vec<bool>,
    /// The input with the highest number that the nodes were given; 0 before the first.
    pub(crate) last_given: AtomicU64,
    /// Before the next input the nodes must forget what they hold of those so far.
    pub(crate) must_forget: AtomicBool,
    /// Items that were begun in another process and are not done.
    pub(crate) under_way: AtomicUsize,
    pub(crate) recorders: Option<Recorders>,
    pub(crate) turn: Option<Box<dyn Turn>>,
    /// What others ask of the thread of the nodes, if they have one.
    pub(crate) tasks: Option<Tasks<P>>,
}

impl<P: Payload> Unit<P> {
    /// Whether others ask something of the thread of the nodes.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.as_ref().is_some_and(Tasks::are_waiting)
    }

    /// This thread is about to call a node by another way than [`Unit::enter`].
    pub(crate) fn note_thread(&self, machine: &Machine<P>) {
        if let Some(turn) = &self.turn {
            machine.progress.set_thread(turn.thread());
        }
    }

    /// Do what others ask of this thread.
    pub(crate) fn run_tasks(&self, core: &Core<P>) {
        if let Some(tasks) = &self.tasks {
            tasks.run(core);
        }
    }

    /// A call that was begun by `Node::start` has ended.
    pub(crate) fn count_call(&self, took: Duration, outputs: usize) {
        // How long nodes elsewhere took is told by those who know it.
        if let Some(recorders) = self.recorders.as_ref().filter(|_| self.elsewhere.is_none()) {
            recorders.note(0, |recorder| recorder.called(took));
        }
        self.count_outputs(outputs);
    }

    /// The last node has made outputs.
    pub(crate) fn count_outputs(&self, count: usize) {
        if let Some(recorders) = &self.recorders {
            recorders.note(self.keep_time.len() - 1, |recorder| recorder.items_out += count as u64);
        }
    }

    /// The first node has made one more output.
    pub(crate) fn count_output(&self) {
        if let Some(recorders) = &self.recorders {
            recorders.note(0, |recorder| recorder.items_out += 1);
        }
    }

    /// A call for so many items that went by another way than through the machine has failed.
    pub(crate) fn count_failure(&self, fault: &P::Fault, items: usize) {
        if let Some(recorders) = &self.recorders {
            recorders.note(0, |recorder| recorder.failed::<P>(fault, items));
        }
    }

    /// What ended the work on an input, where an interruption or the end of the session did: the order reaches the nodes before the clients
    /// are told.
    pub(crate) fn why(&self, core: &Core<P>, error: RunError<P::Fault>) -> RunError<P::Fault> {
        let is_stopped = match &error {
            RunError::Cancelled => true,
            RunError::Interrupt(fault) => self.stop.is_set() && P::is_cancellation(fault),
            _ => false,
        };
        match (is_stopped, core.is_closed.load(Ordering::Relaxed)) {
            (false, _) => error,
            (true, true) => RunError::Closed,
            (true, false) => RunError::Interrupted,
        }
    }

    /// The nodes are about to be given an input. To be called before it is asked whether the input is wanted: whoever drops one looks in the
    /// other order.
    pub(crate) fn note_given(&self, input: u64) {
        self.last_given.fetch_max(input, Ordering::Relaxed);
    }

    /// Inputs are not wanted any more: what the nodes hold of them must not come out with the next one.
    pub(crate) fn forget_soon(&self) {
        match &self.elsewhere {
            Some(elsewhere) => elsewhere.forget_items(),
            None => self.must_forget.store(true, Ordering::Release),
        }
    }

    /// Let the nodes forget what they hold of inputs that are not wanted any more, if there are any.
    pub(crate) fn forget_if_asked(&self, core: &Core<P>, machine: &mut Machine<P>) {
        if self.must_forget.load(Ordering::Acquire) && self.must_forget.swap(false, Ordering::AcqRel) {
            let failed = self.enter(machine, Machine::forget_items);
            core.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
        }
    }

    /// The same inside [`Payload::hold`]: whoever is in the machine may need what is held, to come out.
    pub(crate) fn lock_inside_hold(&self) -> MutexGuard<'_, Machine<P>> {
        loop {
            if let Some(machine) = self.machine.try_lock() {
                return machine;
            }
            P::wait(|| drop(self.machine.lock()));
        }
    }

    /// The machine, if it is free before the deadline.
    pub(crate) fn lock_until(&self, deadline: Instant) -> Option<MutexGuard<'_, Machine<P>>> {
        self.machine.try_lock_until(deadline)
    }

    /// Run `work` on the machine when no other session is in its nodes.
    pub(crate) fn enter<R>(&self, machine: &mut Machine<P>, work: impl FnOnce(&mut Machine<P>) -> R) -> R {
        match &self.turn {
            None => work(machine),
            Some(turn) => {
                machine.progress.set_thread(turn.thread());
                let mut work = Some(work);
                let mut answer = None;
                turn.enter(&mut || answer = work.take().map(|work| work(machine)));
                answer.expect("a turn runs its work")
            }
        }
    }

    /// The same for work that need not be done where it would wait for ever.
    pub(crate) fn try_enter<R>(
        &self,
        machine: &mut Machine<P>,
        work: impl FnOnce(&mut Machine<P>) -> R,
    ) -> Result<R, Hindrance> {
        let Some(turn) = &self.turn else { return Ok(work(machine)) };
        machine.progress.set_thread(turn.thread());
        let mut work = Some(work);
        let mut answer = None;
        turn.enter_unless(CancelFlag::never(), &mut || answer = work.take().map(|work| work(machine)))?;
        answer.ok_or(Hindrance::Cancelled)
    }

    /// Forget what is under way in the nodes.
    pub(crate) fn abandon(&self, machine: &mut Machine<P>) -> Vec<(usize, Phase, P::Fault)> {
        // Closing a generator enters its node.
        if machine.has_generators() { self.enter(machine, Machine::abandon) } else { machine.abandon() }
    }
}

impl<P: Payload> Stage<P> {
    /// Nobody wants these inputs any more. What the nodes hold of those that they are done with is forgotten before their next input, and
    /// with `first_of_all` what they hold of all from that one on. Returns what is at one of them right now.
    pub(crate) fn leave(&self, abandoned: &Abandoned, first_of_all: Option<u64>) -> Vec<AtWork> {
        let started: Vec<_> = self.started.lock().values().cloned().collect();
        let in_flight: HashSet<u64> = started.iter().map(|group| group.input).collect();
        let are_done_with = abandoned.wanted_before.iter().filter(|input| !in_flight.contains(input)).copied();
        if let Some(first) = are_done_with.chain(first_of_all).min() {
            let was_given = |unit: &&Unit<P>| first.max(1) <= unit.last_given.load(Ordering::Relaxed);
            self.units.iter().filter(was_given).for_each(Unit::forget_soon);
        }
        for group in started.iter().filter(|group| abandoned.inputs.contains(&group.input)) {
            group.end_early();
        }
        let at_work = |(unit, place): (&Unit<P>, usize)| {
            let reading = unit.progress.read()?;
            let is_at_one = reading.input.is_some_and(|input| abandoned.inputs.contains(&input));
            is_at_one.then_some(AtWork { stage: self.index, unit: place, reading })
        };
        self.units.iter().zip(0..).filter_map(at_work).collect()
    }

    /// What is under way in other processes is not wanted any more.
    pub(crate) fn discard_elsewhere(&self) {
        self.units.iter().filter_map(|unit| unit.elsewhere.as_ref()).for_each(|elsewhere| elsewhere.discard());
    }

    /// Where parallel work is put in order again.
    ///
    /// # Panics
    /// If the stage does not work in parallel.
    pub(crate) fn reorder(&self) -> &Reorder<P, OutputChunk<P>> {
        self.reorder.as_ref().expect("only threads of parallel stages ask")
    }

    /// Take an envelope from a stage before this one. Returns what was dropped for it.
    pub(crate) fn receive(&self, mut envelope: Envelope<P>, core: &Core<P>) -> Option<Dropped<P>> {
        if core.with_metrics {
            envelope.since = Some(Instant::now());
        }
        let Some(joiner) = &self.joiner else { return self.push(envelope) };
        // Pushed under the lock: what was whole first goes first. The queue behind an joiner makes nobody wait.
        let mut joiner = joiner.lock();
        if !core.in_flight.is_open(envelope.input) {
            // It was interrupted, and its other parts are forgotten.
            return None;
        }
        joiner.add(envelope).and_then(|whole| self.push(whole))
    }

    fn push(&self, envelope: Envelope<P>) -> Option<Dropped<P>> {
        match self.inbox.push(envelope) {
            Pushed::Dropped(dropped) => Some(dropped),
            // A session that closes tells the clients of all inputs itself.
            Pushed::Queued | Pushed::Refused => None,
        }
    }

    /// An output of the only node of the stage, by each of its exits.
    pub(crate) fn by_all_exits(&self, output: P) -> Vec<(usize, P)> {
        if let [Link { exits, .. }] = &self.links[..]
            && let [(exit, _)] = exits[..]
        {
            return vec![(exit, output)];
        }
        let exits: Vec<usize> = self.links.iter().flat_map(|link| link.exits.iter().map(|(exit, _)| *exit)).collect();
        let (last, others) = exits.split_last().expect("every output of a node has a target");
        let mut outputs: Vec<_> = others.iter().map(|&exit| (exit, output.duplicate())).collect();
        outputs.push((*last, output));
        outputs
    }

    /// Let the threads of the stage see what others ask of them.
    pub(crate) fn wake(&self) {
        self.inbox.nudge();
        if let Some(reorder) = &self.reorder {
            reorder.wake();
        }
    }

    /// The next envelope, for the thread of a unit, which does meanwhile what others ask of it.
    pub(crate) fn pop(&self, core: &Core<P>, unit: &Unit<P>) -> Popped<P> {
        loop {
            unit.run_tasks(core);
            match self.inbox.pop_unless(|| unit.has_tasks()) {
                Popped::Nothing => {}
                popped => return self.note_popped(core, popped),
            }
        }
    }

    /// Wait until the thread of a unit may begin with one more envelope. It does meanwhile what others ask of it. `held` is the number of a
    /// envelope that it has already.
    pub(crate) fn begin(&self, core: &Core<P>, unit: &Unit<P>, held: Option<u64>) -> Begin {
        loop {
            unit.run_tasks(core);
            match self.reorder().begin_besides(held, || unit.has_tasks()) {
                Begin::IsCalled => {}
                begin => return begin,
            }
        }
    }

    /// The next envelope, if there is one.
    pub(crate) fn pop_at_once(&self, core: &Core<P>) -> Popped<P> {
        self.note_popped(core, self.inbox.pop_at_once())
    }

    /// The next envelope, if it comes before the deadline and before a nudge.
    pub(crate) fn pop_until(&self, core: &Core<P>, deadline: Option<Instant>, nudges: u64) -> Popped<P> {
        self.note_popped(core, self.inbox.pop_until(deadline, nudges))
    }

    fn note_popped(&self, core: &Core<P>, popped: Popped<P>) -> Popped<P> {
        if let Popped::Envelope(_, envelope) = &popped {
            core.admit_waiting();
            if let Some(since) = envelope.since {
                let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.waited_us.fetch_add(waited, Ordering::Relaxed);
            }
        }
        popped
    }
}

/// The life of the thread of a stage that works on one envelope after the other.
pub(crate) fn run_in_order<P: Payload>(core: &Arc<Core<P>>, stage: usize) {
    let stage = &core.stages[stage];
    let unit = &stage.units[0];
    while let Popped::Envelope(_, envelope) = stage.pop(core, unit) {
        let mut machine = unit.machine.lock();
        if unit.tasks.is_none() {
            core.finish_paused(unit, &mut machine);
        }
        let mut sink = Forward::new(core, stage, unit, envelope.header());
        work_on(core, unit, &mut machine, envelope, &mut sink);
        sink.finish(&machine);
    }
}

/// Take an envelope through the machine. What goes wrong is told to the client of its input.
pub(crate) fn work_on<P: Payload>(
    core: &Core<P>,
    unit: &Unit<P>,
    machine: &mut Machine<P>,
    envelope: Envelope<P>,
    sink: &mut dyn Sink<P>,
) {
    let input = envelope.input;
    unit.note_given(input);
    let Some(context) = core.in_flight.context_of_wanted(input) else {
        if machine.input == input {
            // What came of it before must not meet the next input.
            core.note_failures(unit.abandon(machine).into_iter().map(|(_, _, fault)| fault));
            machine.input = NO_INPUT;
        }
        return;
    };
    if machine.input != input {
        unit.forget_if_asked(core, machine);
        machine.begin();
        machine.input = input;
    }
    let failed = P::within(&P::copy_context(&context), || {
        let outcome = unit.try_enter(machine, |machine| take_through(machine, envelope, sink));
        let stop = outcome.unwrap_or_else(|hindrance| Err(Stop::Hindered(hindrance))).err()?;
        let error = unit.why(core, blame(machine, stop));
        core.note_failures(unit.abandon(machine).into_iter().map(|(_, _, fault)| fault));
        Some(error)
    });
    if let Some(error) = failed {
        core.fail(input, error);
    }
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
        (true, false) => machine.settle(sink),
        (false, _) => Ok(()),
    }
}

/// What the only node of a stage is given of an envelope; nothing if its input is not wanted any more.
pub(crate) fn inputs_of<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    unit: &Unit<P>,
    machine: &mut Machine<P>,
    envelope: Envelope<P>,
) -> Vec<P> {
    let Envelope { input, visits, items, is_flush, .. } = envelope;
    if !core.in_flight.is_wanted(input) {
        return Vec::new();
    }
    unit.enter(machine, |machine| machine.inputs(visits, items, is_flush)).unwrap_or_else(|stop| {
        if let Stop::Node { fault, .. } = stop {
            unit.count_failure(&fault, 1);
            core.fail(input, core.blame_node(stage.index, input, fault));
        }
        Vec::new()
    })
}

/// Hands the outputs of a machine on to the stages after it as they come.
struct Forward<'a, P: Payload> {
    core: &'a Core<P>,
    stage: &'a Stage<P>,
    unit: &'a Unit<P>,
    header: Envelope<P>,
    /// What has not been handed on, for each link.
    pending: Vec<Vec<(usize, P)>>,
    /// The links by which something of the envelope went.
    has_sent: Vec<bool>,
}

impl<'a, P: Payload> Forward<'a, P> {
    fn new(core: &'a Core<P>, stage: &'a Stage<P>, unit: &'a Unit<P>, header: Envelope<P>) -> Self {
        let pending = stage.links.iter().map(|_| Vec::new()).collect();
        Self { core, stage, unit, header, pending, has_sent: vec![false; stage.links.len()] }
    }

    fn send(&mut self, link: usize, is_last: bool, visits: Vec<usize>) {
        let items = std::mem::take(&mut self.pending[link]);
        if !items.is_empty() || is_last {
            let is_first = self.header.is_first && !std::mem::replace(&mut self.has_sent[link], true);
            let envelope = Envelope { items, visits, is_first, is_last, ..self.header.header() };
            self.core.send(&self.stage.links[link], envelope);
        }
    }

    /// The envelope has been worked on.
    fn finish(mut self, machine: &Machine<P>) {
        let is_last = self.header.is_last;
        for link in 0..self.pending.len() {
            let visits = if is_last { visited_places(machine, &self.stage.links[link]) } else { Vec::new() };
            self.send(link, is_last, visits);
        }
    }
}

fn visited_places<P: Payload>(machine: &Machine<P>, link: &Link) -> Vec<usize> {
    link.exits.iter().filter(|(exit, _)| machine.was_visited(*exit)).map(|(_, place)| *place).collect()
}

impl<P: Payload> Sink<P> for Forward<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.accept_at(0, output)
    }

    fn accept_at(&mut self, exit: usize, output: P) -> Result<(), P::Fault> {
        for (link, pending) in self.stage.links.iter().zip(&mut self.pending) {
            if let Some((_, place)) = link.exits.iter().find(|(candidate, _)| *candidate == exit) {
                pending.push((*place, output));
                break;
            }
        }
        if self.unit.stop.is_set() {
            // The machine stops at its next step.
            self.pending.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        self.core.in_flight.is_wanted(self.header.input)
    }

    fn before_wait(&mut self) {
        if self.pending.iter().any(|items| !items.is_empty()) {
            // There may be no room in the next queue, and we are inside a node's turn.
            P::wait(|| (0..self.pending.len()).for_each(|link| self.send(link, false, Vec::new())));
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
