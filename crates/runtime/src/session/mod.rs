//! A pipeline that is open: its nodes are initialized, inputs go in from any thread, each client gets its own outputs.
//!
//! Every stage has a queue and a thread of its own; all-inline plans need neither, and answer [`Session::direct`] on the thread that
//! calls. Threads start with the first input that needs them.
//!
//! *Invariant:* every input ends as outputs, as an error of its client, or as a counted drop; its client is told the end in any case.
//!
//! *Invariant:* a queue makes whoever brings a parcel wait, but a stage that puts parts of inputs together takes all it is brought: it
//! could otherwise wait for itself. The window on inputs under way bounds what it holds.

mod assembler;
mod build;
mod core;
mod direct;
mod inbox;
mod outbox;
mod parallel;
mod reorder;
mod source;
mod stage;
mod sync;
mod tracker;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use self::core::Admission;
use self::core::{Core, Submission};
pub use self::direct::Direct;
pub use self::outbox::{Next, Outbox};
pub use self::tracker::Client;
use self::tracker::Clients;
use self::watch::{Latch, Watch};
use crate::metrics::{Recorder, whole_micros};
use crate::{Metrics, Node, NodeFailure, Payload, Plan, RunError, Turn};

/// How long the nodes of a session that could not be opened may take to clean up.
const CLEANUP_TIME: Duration = Duration::from_secs(10);

/// How a session is opened.
pub struct SessionSettings<P: Payload> {
    /// Collect [`Metrics`].
    pub with_metrics: bool,
    /// Hears each step.
    pub observer: Option<Arc<dyn crate::Observer>>,
    /// Hears of stalls, drops, and errors that end nothing.
    pub reporter: Option<Arc<dyn Reporter<P>>>,
    /// Parcels that may wait before a stage whose node does not say.
    pub queue_size: usize,
    /// How long a call may take before it is reported.
    pub stall_warning: Option<Duration>,
}

/// Hears of what ends nothing, but should be known.
pub trait Reporter<P: Payload>: Send + Sync {
    /// An error that no input can be blamed for.
    fn set_aside(&self, fault: P::Fault);

    /// A node has been at one item for so long.
    fn stalled(&self, stall: &Stall);

    /// So many items were dropped before this node since the last report.
    fn dropped(&self, node_id: &str, count: u64);
}

/// A call that has not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The id of the node.
    pub node_id: String,
    /// The index of the input.
    pub item_index: u64,
    /// For how long, at least.
    pub for_at_least: Duration,
    /// The number of the thread, as the nodes' [`Turn`] gave it.
    pub thread: u64,
}

/// The nodes of one entry of a plan: one, or as many as replicas, and how sessions take turns in each of them.
pub struct Replicas<P: Payload> {
    /// The node objects.
    pub nodes: Vec<Box<dyn Node<P>>>,
}

/// Makes the turn for the nodes of one replica of a stage, which are given by their numbers in the plan.
pub type TurnOf<'a> = &'a dyn Fn(&[usize], usize) -> Option<Box<dyn Turn>>;

/// What a session left behind when it closed.
#[derive(Debug)]
pub struct Closed<F> {
    /// The cleanups that failed, in the order in which they ran.
    pub cleanups: Vec<NodeFailure<F>>,
    /// The calls that did not come back in time. Their threads, and the nodes of their stages, are left behind.
    pub left_behind: Vec<Stall>,
    /// The figures of the whole session, if they were collected.
    pub metrics: Option<Metrics>,
}

/// An open pipeline.
pub struct Session<P: Payload> {
    core: Arc<Core<P>>,
    threads: Mutex<Threads>,
    watch: Mutex<Option<Watch>>,
    /// Initialize was entered: stage, replica and node in it, in that order.
    owed: Mutex<Vec<(usize, usize, usize)>>,
    calls: AtomicU64,
    calls_out: AtomicU64,
    /// Calls on their caller's thread that were interrupted, and that `interrupt` has not counted.
    calls_interrupted: AtomicU64,
    opened: Instant,
}

#[derive(Default)]
struct Threads {
    are_started: bool,
    running: Vec<Running>,
}

/// A thread, what tells that it has ended, and its stage.
type Running = (JoinHandle<()>, Arc<Latch>, usize);

impl<P: Payload> Session<P> {
    /// The plan that is open.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.core.plan
    }

    /// How many inputs can be under way at once.
    pub fn capacity(&self) -> usize {
        self.core.window
    }

    /// Put an input in; `None` is the end of input, which flushes the nodes.
    ///
    /// Never waits. Where the answer is [`Admission::Later`], `admitted` is called when the input is in, which is the moment to bring the
    /// next one, or with `false` if the session has closed. An urgent input is one that somebody waits for: batches don't keep it waiting
    /// for company.
    pub fn submit(
        &self,
        item: Option<P>,
        client: Arc<dyn Client<P>>,
        is_urgent: bool,
        admitted: Option<Box<dyn FnOnce(bool) + Send>>,
    ) -> Admission {
        self.start_threads();
        self.core.submit(Submission { item, client, is_urgent, admitted })
    }

    /// Whether the plan makes its own input, by [`Session::start_source`].
    pub fn has_source(&self) -> bool {
        self.core.stages[self.core.plan.stage_of(0)].units[0].lock().nodes[0].is_source()
    }

    /// Let the source of the plan run on a thread of its own, until it ends or the session closes.
    ///
    /// `expect` is called before each of its items is put in for `client`. At the end of the source the nodes are flushed: one more
    /// input of the client, which it must expect before this call.
    pub fn start_source(&self, client: Arc<dyn Client<P>>, expect: Box<dyn Fn() + Send>) {
        self.start_threads();
        let core = Arc::clone(&self.core);
        self.start_thread(0, Box::new(move || source::run(&core, &client, &*expect)));
    }

    /// Drop what is queued and under way. When this returns nothing of it can come out any more, and the nodes have been told.
    ///
    /// `stop_waiting` is called when the nodes should be stopped from waiting: for a coroutine, for instance.
    pub fn interrupt(&self, stop_waiting: &dyn Fn()) -> u64 {
        let core = &self.core;
        let mut door = core.door.lock().unwrap_or_else(PoisonError::into_inner);
        let units = || core.stages.iter().flat_map(|stage| &stage.units);
        units().for_each(|unit| unit.stop.set());
        let waiting: Vec<_> = door.waiting.drain(..).collect();
        core.waiting.store(0, Ordering::SeqCst);
        let clients = core.tracker.take_all();
        clients.forget();
        let queued: Vec<_> = core.stages.iter().map(|stage| stage.inbox.empty()).collect();
        stop_waiting();
        for unit in units() {
            let mut machine = loop {
                // A node may have begun to wait just after it was told to stop.
                match unit.lock_until(Instant::now() + Duration::from_millis(2)) {
                    Some(machine) => break machine,
                    None => stop_waiting(),
                }
            };
            core.note_failures(
                unit.enter(&mut machine, super::machine::Machine::interrupt).into_iter().map(|(_, _, fault)| fault),
            );
            machine.item_index = u64::MAX;
        }
        for reorder in core.stages.iter().filter_map(|stage| stage.reorder.as_ref()) {
            while !reorder.is_quiet(Duration::from_millis(50)) {
                stop_waiting();
            }
        }
        core.tracker.wait_until_quiet();
        for assembler in core.stages.iter().filter_map(|stage| stage.assembler.as_ref()).chain(&core.outputs) {
            assembler.lock().unwrap_or_else(PoisonError::into_inner).retain(|input| core.tracker.is_wanted(input));
        }
        clients.forget();
        units().for_each(|unit| unit.stop.clear());
        drop(door);
        let waiting_clients: Clients<P> = waiting.iter().map(|submission| &submission.client).collect();
        let calls = self.calls_interrupted.swap(0, Ordering::Relaxed);
        let dropped = clients.count() + waiting_clients.count() + calls;
        core.tracker.count_interrupted(dropped);
        clients.interrupted();
        waiting_clients.interrupted();
        let mut told = Vec::with_capacity(waiting.len());
        let mut garbage = Vec::with_capacity(waiting.len());
        for submission in waiting {
            told.extend(submission.admitted);
            garbage.extend(submission.item);
        }
        P::dispose((queued, garbage));
        for admitted in told {
            admitted(true);
        }
        core.admit_waiting();
        dropped
    }

    /// Nobody wants the outputs of this client's inputs any more. Answers the threads that are at one of them right now.
    pub fn abandon(&self, client: &Arc<dyn Client<P>>) -> Vec<u64> {
        let inputs = self.core.tracker.abandon(client);
        self.core.forget_waiting(client);
        let units = self.core.stages.iter().flat_map(|stage| &stage.units);
        let at_work = units.filter_map(|unit| unit.progress.read()).filter(|reading| inputs.contains(&reading.item));
        at_work.map(|reading| reading.thread).collect()
    }

    /// Begin to wait until all that went in has come out: batches no longer wait for company.
    pub fn begin_drain(&self) -> u64 {
        self.core.draining.fetch_add(1, Ordering::AcqRel);
        self.core.stages.iter().for_each(|stage| stage.inbox.nudge());
        self.core.tracker.next_input()
    }

    /// Whether all inputs before `end` are done, or become so within `patience`.
    pub fn is_drained(&self, end: u64, patience: Duration) -> bool {
        self.core.tracker.wait_until_done(end, patience)
    }

    /// Batches may wait for company again.
    pub fn end_drain(&self) {
        self.core.draining.fetch_sub(1, Ordering::AcqRel);
    }

    /// The figures so far, if they are collected.
    pub fn metrics(&self) -> Option<Metrics> {
        let core = &self.core;
        if !core.with_metrics {
            return None;
        }
        let total = self.opened.elapsed();
        let mut recorders: Vec<Recorder> = core.plan.nodes().iter().map(|_| Recorder::new()).collect();
        for stage in &core.stages {
            let members = &core.plan.stages()[stage.index].nodes;
            for measured in stage.units.iter().filter_map(|unit| unit.recorders.as_ref()) {
                for (index, &node) in members.iter().enumerate() {
                    measured.note(index, |recorder| recorders[node].add(recorder));
                }
            }
        }
        let inside: Duration = recorders.iter().map(Recorder::inside).sum();
        let (items_in, items_out) = core.tracker.counts();
        let mut node_metrics: Vec<_> = recorders
            .iter()
            .zip(core.plan.nodes())
            .map(|(recorder, node)| recorder.report(&node.id, &node.node_type, node.options.placement.name()))
            .collect();
        for stage in &core.stages {
            let first = &mut node_metrics[core.plan.stages()[stage.index].nodes[0]];
            let figures = stage.inbox.figures();
            first.queue_wait_us = stage.waited_us.load(Ordering::Relaxed);
            first.peak_queue_len = figures.peak_len as u64;
            first.dropped = figures.dropped;
        }
        Some(Metrics {
            pipeline: core.plan.name().to_owned(),
            total_duration_us: whole_micros(total),
            overhead_us: whole_micros(total.saturating_sub(inside)),
            items_in: items_in + self.calls.load(Ordering::Relaxed),
            items_out: items_out + self.calls_out.load(Ordering::Relaxed),
            errors: recorders.iter().map(|recorder| recorder.errors).sum(),
            interrupted: core.tracker.interrupted(),
            node_metrics,
        })
    }

    /// Stop, clean up and end all threads, within `timeout`. What does not come back in time is named and left behind.
    ///
    /// `stop_waiting` is called when nodes should be stopped from waiting.
    pub fn close(&self, timeout: Duration, stop_waiting: &dyn Fn()) -> Closed<P::Fault> {
        let deadline = Instant::now() + timeout;
        self.stop(stop_waiting);
        if let Some(watch) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watch.end();
        }
        let mut left_behind = self.join_threads(deadline);
        let cleanups = self.clean_up(deadline, &mut left_behind);
        Closed { cleanups, left_behind, metrics: self.metrics() }
    }

    /// Let nothing more in, stop what is under way, and tell all clients.
    fn stop(&self, stop_waiting: &dyn Fn()) {
        let core = &self.core;
        let waiting: Vec<_> = {
            let mut door = core.door.lock().unwrap_or_else(PoisonError::into_inner);
            core.is_closed.store(true, Ordering::Release);
            core.waiting.store(0, Ordering::SeqCst);
            door.waiting.drain(..).collect()
        };
        for stage in &core.stages {
            stage.units.iter().for_each(|unit| unit.stop.set());
        }
        let clients = core.tracker.take_all();
        clients.forget();
        for stage in &core.stages {
            stage.inbox.close();
            if let Some(reorder) = &stage.reorder {
                reorder.close();
            }
        }
        stop_waiting();
        clients.tell(|| RunError::Closed);
        waiting.into_iter().for_each(core::refuse);
    }

    fn join_threads(&self, deadline: Instant) -> Vec<Stall> {
        let running = std::mem::take(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner).running);
        let mut left_behind = Vec::new();
        for (thread, latch, stage) in running {
            if latch.wait_until(deadline) {
                // A thread that panicked has told its clients by its guard; nothing is left to do for it.
                drop(thread.join());
            } else {
                left_behind.extend(self.stalls_of(stage));
            }
        }
        left_behind.dedup();
        left_behind
    }

    fn stalls_of(&self, stage: usize) -> Vec<Stall> {
        let core = &self.core;
        let stall = |unit: &stage::Unit<P>| {
            let reading = unit.progress.read()?;
            Some(watch::stall(&core.plan, stage, reading, Duration::ZERO))
        };
        core.stages[stage].units.iter().filter_map(stall).collect()
    }

    fn clean_up(&self, deadline: Instant, left_behind: &mut Vec<Stall>) -> Vec<NodeFailure<P::Fault>> {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failures = Vec::new();
        for unit in self.core.stages.iter().flat_map(|stage| &stage.units) {
            if let Some(mut machine) = unit.lock_until(deadline) {
                let failed = unit.enter(&mut machine, super::machine::Machine::abandon);
                failures.extend(
                    failed.into_iter().map(|(node, phase, fault)| machine.node_failure(node, None, phase, fault)),
                );
            }
        }
        for (stage, unit, node) in owed.into_iter().rev() {
            let unit = &self.core.stages[stage].units[unit];
            // Whoever hangs inside holds the lock: its node cannot be cleaned up.
            let Some(mut machine) = unit.lock_until(deadline) else {
                left_behind.extend(
                    self.stalls_of(stage).into_iter().filter(|stall| !left_behind.contains(stall)).collect::<Vec<_>>(),
                );
                continue;
            };
            if let Err(failure) = machine.clean_up(node) {
                failures.push(failure);
            }
        }
        failures
    }
}

impl<P: Payload> Drop for Session<P> {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        if !self.core.is_closed.load(Ordering::Acquire) {
            drop(self.close(CLEANUP_TIME, &|| {}));
        }
    }
}
