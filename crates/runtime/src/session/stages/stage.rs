//! One stage of a session: its queue, its nodes, and the ways to the stages after it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::locks::{Condvar, Mutex, TimedGuard, TimedMutex};

use crate::cancel::CancelFlag;
use crate::execution::machine::Machine;
use crate::execution::metrics::Recorders;
use crate::execution::progress::ProgressPlace;
use crate::node::concurrent::EndEarly;
use crate::node::{Hindrance, NodeLock, Stream, WorkerHandle};
use crate::numbering::{self, ByNumber};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::session::AtWork;
use crate::session::queues::in_flight::Abandoned;
use crate::session::queues::inbox::{Dropped, Envelope, Inbox, Pushed};
use crate::session::queues::joiner::Joiner;
use crate::session::queues::reorder::{Begin, Reorder};
use crate::session::stages::tasks::Tasks;

/// A stage of an open session.
pub(crate) struct Stage<P: Payload> {
    pub(crate) index: usize,
    /// The place where inputs of the pipeline enter, if they do.
    pub(crate) entry: Option<usize>,
    pub(crate) inbox: Inbox<P>,
    /// One for each replica.
    pub(crate) replicas: Vec<Replica<P>>,
    /// Where envelopes from several stages, or of unordered ones, are put together.
    pub(crate) joiner: Option<Mutex<Joiner<P>>>,
    /// Where parallel work is put in order again.
    pub(crate) reorder: Option<Reorder<P, OutputChunk<P>>>,
    /// The stages after it, each exit that leads there with the place where its items enter.
    pub(crate) links: Vec<Link>,
    pub(crate) waited_us: AtomicU64,
    /// How long the nodes have taken for an item lately, in nanoseconds; 0 before the first one.
    pub(crate) item_nanos: AtomicU64,
    /// Above zero while the end of input waits for what was begun before it.
    pub(crate) ending: AtomicUsize,
    /// The envelopes, by their numbers, of which items are in progress at the same time.
    pub(crate) started: Mutex<ByNumber<Arc<InProgress>>>,
    /// One of them has finished.
    pub(crate) has_finished: Condvar,
    /// When a chunk was done last, where several items are in progress at the same time.
    pub(crate) chunk_done_at: Mutex<Option<Instant>>,
}

/// A part of what an envelope became.
pub(crate) enum OutputChunk<P: Payload> {
    /// An output, with the exit by which it leaves the stage.
    Output(usize, P),
    /// Outputs of the last node that come one after the other.
    Stream(Box<dyn Stream<P>>),
    /// What becomes of the items of a chunk that are not all done.
    Late(Box<dyn LateOutputs<P>>),
}

/// The items of a chunk, some of which are not done.
pub(crate) trait LateOutputs<P: Payload>: Send {
    /// Whether [`LateOutputs::next`] need not wait.
    fn is_there(&self) -> bool;

    /// The position of the next item in the chunk, and what it became, when it is done; `None` after the last one.
    fn next(&mut self) -> Option<(u32, OutputsOf<P>)>;
}

/// What an item becomes: usually one output.
pub(crate) type OutputsOf<P> = SmallVec<[OutputChunk<P>; 1]>;

/// The items of one envelope that are in progress at the same time.
pub(crate) struct InProgress {
    /// The input that they belong to.
    pub(crate) input: u64,
    /// Their positions, if they are a chunk.
    pub(crate) positions: Option<Vec<u32>>,
    /// How many of them are done.
    pub(crate) done: AtomicUsize,
    /// Hands on what is done before all are, if they are a chunk.
    pub(crate) hand_on: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What ends those early that are not done.
    pub(crate) end_early: Mutex<Vec<EndEarly>>,
}

impl InProgress {
    pub(crate) fn new(input: u64, positions: Option<Vec<u32>>) -> Self {
        let (done, hand_on, end_early) = (AtomicUsize::new(0), OnceLock::new(), Mutex::default());
        Self { input, positions, done, hand_on, end_early }
    }

    /// The position of an item.
    pub(crate) fn position(&self, slot: usize) -> Option<u32> {
        let positions = self.positions.as_ref()?;
        positions.get(slot).or(positions.last()).copied()
    }

    /// The number by which an item is known outside.
    pub(crate) fn number_of(&self, slot: usize) -> u64 {
        numbering::of_position(self.input, self.position(slot))
    }

    /// The number of the item in work, if one is after the other.
    pub(crate) fn at_work(&self) -> u64 {
        self.number_of(self.done.load(Ordering::Relaxed))
    }

    /// The envelope is no longer waited for.
    pub(crate) fn end_early(&self) {
        let under_way = std::mem::take(&mut *self.end_early.lock());
        for end_early in under_way {
            end_early();
        }
    }
}

/// The way from one stage to another, or out of the pipeline.
pub(crate) struct Link {
    /// `None` for the way out.
    pub(crate) to: Option<usize>,
    /// `(exit here, place there)`.
    pub(crate) exits: Vec<(usize, usize)>,
}

/// One copy of the nodes of a stage, and the lock to enter them.
pub(crate) struct Replica<P: Payload> {
    pub(crate) machine: TimedMutex<Machine<P>>,
    pub(crate) stop: CancelFlag,
    pub(crate) progress: ProgressPlace,
    /// How the nodes are reached without entering them, where they work in another process.
    pub(crate) worker: Option<Arc<dyn WorkerHandle>>,
    /// Which of the nodes keep their time limit themselves.
    pub(crate) keep_time: Vec<bool>,
    /// The input with the highest number that the nodes were given; 0 before the first.
    pub(crate) last_given: AtomicU64,
    /// Before the next input the nodes must forget what they hold of those so far.
    pub(crate) must_forget: AtomicBool,
    /// Items that were begun in another process and are not done.
    pub(crate) under_way: AtomicUsize,
    /// For how many nanoseconds its process had been busy when it was done with a chunk last.
    pub(crate) busy_before: AtomicU64,
    pub(crate) recorders: Option<Recorders>,
    pub(crate) node_lock: Option<Box<dyn NodeLock>>,
    /// What others ask of the thread of the nodes, if they have one.
    pub(crate) tasks: Option<Tasks>,
}

impl<P: Payload> Replica<P> {
    /// Whether others ask something of the thread of the nodes.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.as_ref().is_some_and(Tasks::are_waiting)
    }

    /// This thread is about to call a node by another way than [`Replica::enter`].
    pub(crate) fn note_thread(&self, machine: &Machine<P>) {
        if let Some(node_lock) = &self.node_lock {
            machine.progress.set_thread(node_lock.thread());
        }
    }

    /// Do what others ask of this thread.
    pub(crate) fn run_tasks(&self) {
        if let Some(tasks) = &self.tasks {
            tasks.run();
        }
    }

    /// A call that was begun by `Node::start` has ended.
    pub(crate) fn count_call(&self, took: Duration, outputs: usize) {
        // A worker reports how long its nodes took.
        if let Some(recorders) = self.recorders.as_ref().filter(|_| self.worker.is_none()) {
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

    /// A call for this many items that went by another way than through the machine has failed.
    pub(crate) fn count_failure(&self, fault: &P::Fault, items: usize) {
        if let Some(recorders) = &self.recorders {
            recorders.note(0, |recorder| recorder.failed::<P>(fault, items));
        }
    }

    /// The nodes are about to receive an input. Must be called before the check whether the input is wanted: a drop does both in the
    /// opposite order.
    pub(crate) fn note_given(&self, input: u64) {
        self.last_given.fetch_max(input, Ordering::Relaxed);
    }

    /// Inputs are no longer wanted: what the nodes hold of them must not come out with the next one.
    pub(crate) fn forget_soon(&self) {
        match &self.worker {
            Some(worker) => worker.forget_items(),
            None => self.must_forget.store(true, Ordering::Release),
        }
    }

    /// The same inside [`Payload::hold`]: the thread in the machine may need what is held in order to leave.
    pub(crate) fn lock_inside_hold(&self) -> TimedGuard<'_, Machine<P>> {
        loop {
            if let Some(machine) = self.machine.try_lock() {
                return machine;
            }
            P::wait(|| drop(self.machine.lock()));
        }
    }

    /// The machine, if it is free before the deadline.
    pub(crate) fn lock_until(&self, deadline: Instant) -> Option<TimedGuard<'_, Machine<P>>> {
        self.machine.try_lock_until(deadline)
    }

    /// Run `work` on the machine when no other session is in its nodes.
    pub(crate) fn enter<R>(&self, machine: &mut Machine<P>, work: impl FnOnce(&mut Machine<P>) -> R) -> R {
        match &self.node_lock {
            None => work(machine),
            Some(node_lock) => {
                machine.progress.set_thread(node_lock.thread());
                let mut work = Some(work);
                let mut result = None;
                node_lock.enter(&mut || result = work.take().map(|work| work(machine)));
                result.expect("a lock runs the work")
            }
        }
    }

    /// The same for work that need not be done where it would wait for ever.
    pub(crate) fn try_enter<R>(
        &self,
        machine: &mut Machine<P>,
        work: impl FnOnce(&mut Machine<P>) -> R,
    ) -> Result<R, Hindrance> {
        self.enter_unless(CancelFlag::never(), machine, work)
    }

    /// The same for work that `cancel` ends, too, before it has begun.
    pub(crate) fn enter_unless<R>(
        &self,
        cancel: &CancelFlag,
        machine: &mut Machine<P>,
        work: impl FnOnce(&mut Machine<P>) -> R,
    ) -> Result<R, Hindrance> {
        let Some(node_lock) = &self.node_lock else { return Ok(work(machine)) };
        machine.progress.set_thread(node_lock.thread());
        let mut work = Some(work);
        let mut result = None;
        node_lock.enter_unless(cancel, &mut || result = work.take().map(|work| work(machine)))?;
        result.ok_or(Hindrance::Cancelled)
    }

    /// Forget what is in progress in the nodes.
    pub(crate) fn abandon(&self, machine: &mut Machine<P>) -> Vec<(usize, Phase, P::Fault)> {
        // Closing a generator enters its node.
        if machine.has_generators() { self.enter(machine, Machine::abandon) } else { machine.abandon() }
    }
}

impl<P: Payload> Stage<P> {
    /// These inputs are no longer wanted. What the nodes hold of those that they are done with is forgotten before their next input, and
    /// with `first_of_all` what they hold of all from that one on. Returns what is at one of them right now.
    pub(crate) fn leave(&self, abandoned: &Abandoned, first_of_all: Option<u64>) -> Vec<AtWork> {
        let started: Vec<_> = self.started.lock().values().cloned().collect();
        let in_flight: HashSet<u64> = started.iter().map(|begun| begun.input).collect();
        let are_done_with = abandoned.wanted_before.iter().filter(|input| !in_flight.contains(input)).copied();
        if let Some(first) = are_done_with.chain(first_of_all).min() {
            let was_given = |replica: &&Replica<P>| first.max(1) <= replica.last_given.load(Ordering::Relaxed);
            self.replicas.iter().filter(was_given).for_each(Replica::forget_soon);
        }
        for begun in started.iter().filter(|begun| abandoned.inputs.contains(&begun.input)) {
            begun.end_early();
        }
        let at_work = |(replica, place): (&Replica<P>, usize)| {
            let reading = replica.progress.read()?;
            let is_at_one = reading.input.is_some_and(|input| abandoned.inputs.contains(&input));
            is_at_one.then_some(AtWork { stage: self.index, replica: place, reading })
        };
        self.replicas.iter().zip(0..).filter_map(at_work).collect()
    }

    /// What is in progress in other processes is no longer wanted.
    pub(crate) fn discard_elsewhere(&self) {
        self.replicas.iter().filter_map(|replica| replica.worker.as_ref()).for_each(|worker| worker.discard());
    }

    /// Where parallel work is put in order again.
    ///
    /// # Panics
    /// If the stage does not work in parallel.
    pub(crate) fn reorder(&self) -> &Reorder<P, OutputChunk<P>> {
        self.reorder.as_ref().expect("only threads of parallel stages ask")
    }

    pub(crate) fn push(&self, envelope: Envelope<P>) -> Option<Dropped<P>> {
        match self.inbox.push(envelope) {
            Pushed::Dropped(dropped) => Some(dropped),
            // A session that closes notifies the clients of all inputs itself.
            Pushed::Queued | Pushed::Refused => None,
        }
    }

    pub(crate) fn all_exits(&self) -> Vec<usize> {
        self.links.iter().flat_map(|link| link.exits.iter().map(|(exit, _)| *exit)).collect()
    }

    /// An output of the only node of the stage, by each of its exits.
    pub(crate) fn by_all_exits(&self, output: P) -> impl Iterator<Item = (usize, P)> {
        let is_single = matches!(&self.links[..], [Link { exits, .. }] if exits.len() == 1);
        let exits: SmallVec<[usize; 1]> =
            if is_single { [self.links[0].exits[0].0].into_iter().collect() } else { self.all_exits().into() };
        let others = exits.len() - 1;
        let copies: Vec<P> = (0..others).map(|_| output.duplicate()).collect();
        exits.into_iter().zip(copies.into_iter().chain([output]))
    }

    /// Wait until the thread of a replica may begin with one more envelope. It does meanwhile what others ask of it. `held` is the number of an
    /// envelope that it has already.
    pub(crate) fn begin(&self, replica: &Replica<P>, held: Option<u64>) -> Begin {
        loop {
            replica.run_tasks();
            match self.reorder().begin_besides(held, || replica.has_tasks()) {
                Begin::IsCalled => {}
                begin => return begin,
            }
        }
    }

    /// The nodes took this long for so many items.
    pub(crate) fn note_item_time(&self, took: Duration, items: usize) {
        let nanos = took.as_nanos() / (items.max(1) as u128);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
        // One slow item among many is remembered for a while.
        let before = self.item_nanos.load(Ordering::Relaxed);
        self.item_nanos.store(nanos.max(before - before / 4), Ordering::Relaxed);
    }

    /// Let the threads of the stage see what others ask of them.
    pub(crate) fn wake(&self) {
        self.inbox.wake();
        if let Some(reorder) = &self.reorder {
            reorder.wake();
        }
    }
}
