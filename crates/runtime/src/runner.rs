//! An open plan: its nodes initialized, items go in, outputs come out, on the thread that calls.
//!
//! *Invariant:* `cleanup` runs exactly once for each node whose `initialize` was entered, in reverse order, whatever happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::{Machine, Stop};
use crate::metrics::{Recorders, whole_micros};
use crate::numbering;
use crate::pace::Pace;
use crate::{
    Bulk, BulkEnd, CancelFlag, Failure, Feed, Metrics, Node, NodeFailure, Observer, Outputs, Payload, Phase, Plan,
    RunError, Sink, Turn,
};

/// How a plan is opened.
pub struct Settings<P: Payload> {
    /// Collect [`Metrics`].
    pub with_metrics: bool,
    /// Hears each step.
    pub observer: Option<Arc<dyn Observer>>,
    /// Stops the run.
    pub cancel: CancelFlag,
    /// How sessions that share nodes take turns.
    pub turn: Option<Box<dyn Turn>>,
    /// A faster way through all nodes at once.
    pub bulk: Option<Box<dyn Bulk<P>>>,
}

impl<P: Payload> Default for Settings<P> {
    fn default() -> Self {
        Self { with_metrics: false, observer: None, cancel: CancelFlag::default(), turn: None, bulk: None }
    }
}

/// An open plan.
pub struct Runner<P: Payload> {
    plan: Arc<Plan>,
    machine: Machine<P>,
    turn: Option<Box<dyn Turn>>,
    bulk: Option<Box<dyn Bulk<P>>>,
    bulk_is_possible: bool,
    owes_cleanup: usize,
    items_in: u64,
    items_out: u64,
    opened: Instant,
}

impl<P: Payload> Runner<P> {
    /// Initialize the nodes, which stand in plan order. If one fails, it and those before it are cleaned up.
    ///
    /// # Panics
    /// If there are not as many nodes as the plan has.
    pub fn open(
        plan: Arc<Plan>,
        nodes: Vec<Box<dyn Node<P>>>,
        settings: Settings<P>,
    ) -> Result<Self, Failure<P::Fault>> {
        assert_eq!(plan.nodes().len(), nodes.len(), "a plan is opened with one node for each of its entries");
        let mut machine = Machine::new(&plan, 0, nodes, settings.cancel);
        if settings.with_metrics {
            machine.recorders = Some(Recorders::new(&machine.nodes));
        }
        machine.observer = settings.observer;
        // Nobody sees single items in a chunk.
        let bulk = settings.bulk.filter(|_| !machine.is_watched());
        if let Some(observer) = &machine.observer {
            observer.opened(&plan);
        }
        let mut runner = Self {
            plan,
            machine,
            turn: settings.turn,
            bulk,
            bulk_is_possible: false,
            owes_cleanup: 0,
            items_in: 0,
            items_out: 0,
            opened: Instant::now(),
        };
        match runner.initialize() {
            Ok(()) => Ok(runner),
            Err(error) => Err(Failure { first: Some(error), cleanups: runner.clean_up() }),
        }
    }

    /// Open, run and close: the whole life of a plan in one call.
    ///
    /// # Panics
    /// If there are not as many nodes as the plan has.
    pub fn execute(
        plan: Arc<Plan>,
        nodes: Vec<Box<dyn Node<P>>>,
        settings: Settings<P>,
        feed: &mut dyn Feed<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<Option<Metrics>, Failure<P::Fault>> {
        let mut runner = Self::open(plan, nodes, settings)?;
        let outcome = runner.run(feed, sink);
        let (metrics, cleanups) = runner.close();
        match outcome {
            Ok(()) if cleanups.is_empty() => Ok(metrics),
            outcome => Err(Failure { first: outcome.err(), cleanups }),
        }
    }

    /// Take all items of `feed` (or of the plan's own source) through, then flush.
    pub fn run(&mut self, feed: &mut dyn Feed<P>, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let outcome = if self.machine.nodes.first().is_some_and(|node| node.is_source()) {
            self.run_source(sink)
        } else {
            self.run_feed(feed, sink)
        };
        outcome.and_then(|()| self.in_turn(sink, Machine::flush)).inspect_err(|error| {
            if let RunError::Node(failure) = error {
                self.count_error(&failure.node_id);
            }
        })
    }

    /// The figures so far, if they are collected.
    pub fn metrics(&self) -> Option<Metrics> {
        let recorders = self.machine.recorders.as_ref()?;
        let total = self.opened.elapsed();
        let mut inside = Duration::ZERO;
        let mut errors = 0;
        let report = |(index, node): (usize, &crate::PlanNode)| {
            recorders.note(index, |recorder| {
                inside += recorder.inside();
                errors += recorder.errors();
                recorder.report(&node.id, &node.node_type, node.options.placement.name())
            })
        };
        let node_metrics = self.plan.nodes().iter().enumerate().map(report).collect();
        Some(Metrics {
            pipeline: self.plan.name().to_owned(),
            total_duration_us: whole_micros(total),
            overhead_us: whole_micros(total.saturating_sub(inside)),
            items_in: self.items_in,
            items_out: self.items_out,
            errors,
            interrupted: 0,
            node_metrics,
        })
    }

    /// Abandon what is under way and clean up, in reverse order. Answers the final figures and the cleanups that failed.
    pub fn close(mut self) -> (Option<Metrics>, Vec<NodeFailure<P::Fault>>) {
        let failures = self.clean_up();
        (self.metrics(), failures)
    }

    fn initialize(&mut self) -> Result<(), RunError<P::Fault>> {
        for index in 0..self.machine.nodes.len() {
            if self.machine.is_cancelled.is_set() {
                return Err(RunError::Cancelled);
            }
            self.owes_cleanup = index + 1;
            let started = Instant::now();
            let outcome = self.machine.nodes[index].initialize();
            self.note(index, Phase::Initialize, started.elapsed());
            if let Err(fault) = outcome {
                return Err(self.blame(index, None, Phase::Initialize, fault));
            }
        }
        Ok(())
    }

    fn clean_up(&mut self) -> Vec<NodeFailure<P::Fault>> {
        let mut failures = self.abandon();
        failures.extend(self.clean_up_nodes());
        failures
    }

    fn clean_up_nodes(&mut self) -> Vec<NodeFailure<P::Fault>> {
        let mut failures = Vec::new();
        while self.owes_cleanup > 0 {
            // Paid before it is tried, so that a cleanup that panics is not entered again.
            self.owes_cleanup -= 1;
            let index = self.owes_cleanup;
            if let Err(fault) = self.machine.nodes[index].stop() {
                failures.push(self.failure(index, None, Phase::Cleanup, fault));
            }
            let started = Instant::now();
            let outcome = self.machine.nodes[index].cleanup();
            self.note(index, Phase::Cleanup, started.elapsed());
            if let Err(fault) = outcome {
                failures.push(self.failure(index, None, Phase::Cleanup, fault));
            }
        }
        failures
    }

    /// Drop what is under way. Closing a generator enters its node, so it takes a turn.
    fn abandon(&mut self) -> Vec<NodeFailure<P::Fault>> {
        let Self { machine, turn, .. } = self;
        let mut failed = Vec::new();
        match turn {
            Some(turn) if machine.has_generators() => turn.enter(&mut || failed = machine.abandon()),
            _ => failed = machine.abandon(),
        }
        failed.into_iter().map(|(node, phase, fault)| self.failure(node, None, phase, fault)).collect()
    }

    fn run_source(&mut self, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let Self { machine, turn, .. } = self;
        let cancel = machine.is_cancelled.clone();
        let started = Instant::now();
        let outputs = enter(turn.as_deref(), &cancel, || machine.nodes[0].produce()).ok_or(RunError::Cancelled)?;
        let outputs = outputs.map_err(|fault| self.blame(0, Some(0), Phase::Process, fault))?;
        match outputs {
            Outputs::None => return Ok(()),
            Outputs::One(item) => {
                self.machine.note_step(0, Phase::Process, started.elapsed());
                return self.take_from_source(item, sink);
            }
            Outputs::Many(stream) => self.machine.source = Some(stream),
        }
        while let Some(item) = self.draw_from_source()? {
            self.take_from_source(item, sink)?;
        }
        Ok(())
    }

    /// Ask the generator of a source for one more item.
    fn draw_from_source(&mut self) -> Result<Option<P>, RunError<P::Fault>> {
        if self.machine.is_cancelled.is_set() {
            return Err(RunError::Cancelled);
        }
        let Some(stream) = &mut self.machine.source else { return Ok(None) };
        let started = Instant::now();
        let next = enter(self.turn.as_deref(), &self.machine.is_cancelled, || stream.next());
        let Some(next) = next else { return Err(RunError::Cancelled) };
        if matches!(next, Ok(Some(_))) {
            self.machine.input = numbering::of_item(self.items_in);
            self.machine.note_step(0, Phase::Process, started.elapsed());
        } else {
            self.machine.source = None;
        }
        next.map_err(|fault| self.blame(0, Some(self.items_in), Phase::Process, fault))
    }

    fn take_from_source(&mut self, item: P, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        self.machine.record(0, |recorder| recorder.items_out += 1);
        self.take(item, sink, |machine, item, sink| machine.take_from_source(0, item, sink))
    }

    fn run_feed(&mut self, feed: &mut dyn Feed<P>, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let mut pace = Pace::new();
        loop {
            if self.machine.is_cancelled.is_set() {
                return Err(RunError::Cancelled);
            }
            if let Some(limit) = pace.chunk()
                && let Some(chunk) = feed.next_chunk(limit)
            {
                let taken = self.take_chunk(chunk.map_err(RunError::Feed)?, sink)?;
                // A chunk that a cancellation emptied is not the end of input.
                if taken == 0 && !self.machine.is_cancelled.is_set() {
                    return Ok(());
                }
                pace.passed(taken as u64);
                continue;
            }
            match feed.next().map_err(RunError::Feed)? {
                Some(item) => self.take(item, sink, Machine::take)?,
                None => return Ok(()),
            }
            pace.passed(1);
        }
    }

    /// Take a chunk through in the fastest way that there is, and say how many items it had.
    fn take_chunk(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        if !self.bulk_is_possible {
            self.bulk_is_possible = self.bulk.as_mut().is_some_and(|bulk| bulk.is_possible());
            if !self.bulk_is_possible {
                self.bulk = None;
            }
        }
        if self.bulk.is_some() {
            return self.take_in_bulk(chunk, sink);
        }
        self.take_singly(chunk, sink)
    }

    fn take_singly(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        let items = P::unpack(chunk).map_err(RunError::Feed)?;
        let count = items.len();
        self.take_all(items, sink)?;
        Ok(count)
    }

    /// Take items through one by one, in one turn.
    fn take_all(&mut self, items: Vec<P>, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let first = self.items_in;
        let mut taken = 0;
        let outcome = self.in_turn(sink, |machine, sink| {
            for item in items {
                machine.input = numbering::of_item(first + taken);
                taken += 1;
                machine.take(item, sink)?;
            }
            Ok(())
        });
        self.items_in += taken;
        outcome
    }

    fn take(
        &mut self,
        item: P,
        sink: &mut dyn Sink<P>,
        way: impl FnOnce(&mut Machine<P>, P, &mut dyn Sink<P>) -> Result<(), Stop<P::Fault>>,
    ) -> Result<(), RunError<P::Fault>> {
        self.machine.input = numbering::of_item(self.items_in);
        self.items_in += 1;
        self.in_turn(sink, |machine, sink| way(machine, item, sink))
    }

    fn take_in_bulk(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        let bulk = self.bulk.as_mut().expect("chunks are asked for only with a way to take them");
        let mut counted = CountingSink { sink, count: &mut self.items_out };
        let work = || bulk.run(chunk, &mut counted);
        let Some(outcome) = enter(self.turn.as_deref(), &self.machine.is_cancelled, work) else {
            return Err(RunError::Cancelled);
        };
        self.items_in += outcome.taken as u64;
        self.machine.input = numbering::of_item(self.items_in.saturating_sub(1));
        match outcome.end {
            BulkEnd::Done => Ok(outcome.taken),
            BulkEnd::Fault(node, fault) => {
                Err(self.blame(node, Some(self.machine.item_index()), Phase::Process, fault))
            }
            BulkEnd::SinkFault(fault) => Err(RunError::Sink(fault)),
            BulkEnd::Refused(chunk) => {
                self.bulk = None;
                self.take_singly(chunk, sink)
            }
            BulkEnd::Unfinished { node, answer, rest } => {
                self.bulk = None;
                self.in_turn(sink, |machine, sink| machine.resume(node, answer, sink))?;
                let taken = outcome.taken + rest.len();
                self.take_all(rest, sink)?;
                Ok(taken)
            }
        }
    }

    /// Run `work` on the machine when no other session is in its nodes.
    fn in_turn(
        &mut self,
        sink: &mut dyn Sink<P>,
        work: impl FnOnce(&mut Machine<P>, &mut dyn Sink<P>) -> Result<(), Stop<P::Fault>>,
    ) -> Result<(), RunError<P::Fault>> {
        let Self { machine, items_out, turn, .. } = self;
        let mut counted = CountingSink { sink, count: items_out };
        let cancel = machine.is_cancelled.clone();
        let outcome = enter(turn.as_deref(), &cancel, || work(machine, &mut counted)).unwrap_or(Err(Stop::Cancelled));
        outcome.map_err(|stop| match stop {
            Stop::Node { node, phase, fault } => {
                let item_index = (phase == Phase::Process).then_some(self.machine.item_index());
                self.blame(node, item_index, phase, fault)
            }
            Stop::Sink(fault) => RunError::Sink(fault),
            Stop::Cancelled => RunError::Cancelled,
        })
    }

    fn blame(&self, node: usize, item_index: Option<u64>, phase: Phase, fault: P::Fault) -> RunError<P::Fault> {
        if P::is_interrupt(&fault) {
            return RunError::Interrupt(fault);
        }
        RunError::Node(self.failure(node, item_index, phase, fault))
    }

    fn failure(&self, node: usize, item_index: Option<u64>, phase: Phase, fault: P::Fault) -> NodeFailure<P::Fault> {
        NodeFailure { node_id: self.plan.nodes()[node].id.clone(), item_index, phase, fault }
    }

    /// `initialize` or `cleanup` of a node was called.
    fn note(&mut self, node: usize, phase: Phase, took: Duration) {
        if !self.machine.nodes[node].has_acted() {
            return;
        }
        if phase == Phase::Initialize {
            self.machine.record(node, |recorder| recorder.initialize = took);
        }
        if let Some(observer) = &self.machine.observer {
            observer.stepped(&self.plan.nodes()[node].id, phase, None, took);
        }
    }

    fn count_error(&mut self, node_id: &str) {
        let node = self.plan.nodes().iter().position(|node| node.id == node_id);
        if let Some(node) = node {
            self.machine.record(node, |recorder| recorder.errors += 1);
        }
    }
}

/// After a panic nobody closes the runner, and its nodes still hold what they acquired.
impl<P: Payload> Drop for Runner<P> {
    fn drop(&mut self) {
        // What is told is the panic.
        if self.owes_cleanup > 0 {
            drop(catch_unwind(AssertUnwindSafe(|| self.abandon())));
        }
        while self.owes_cleanup > 0 {
            drop(catch_unwind(AssertUnwindSafe(|| self.clean_up_nodes())));
        }
    }
}

/// Do some work in the nodes when no other session is inside; `None` if the run is cancelled while it waits for that.
fn enter<T>(turn: Option<&dyn Turn>, cancel: &CancelFlag, work: impl FnOnce() -> T) -> Option<T> {
    let Some(turn) = turn else { return Some(work()) };
    let mut work = Some(work);
    let mut answer = None;
    turn.enter_unless(cancel, &mut || answer = work.take().map(|work| work()));
    answer
}

struct CountingSink<'a, P: Payload> {
    sink: &'a mut dyn Sink<P>,
    count: &'a mut u64,
}

impl<P: Payload> Sink<P> for CountingSink<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        *self.count += 1;
        self.sink.accept(output)
    }
}
