//! An open plan: its nodes initialized, items go in, outputs come out, on the thread that calls.
//!
//! *Invariant:* `cleanup` runs exactly once for each node whose `initialize` was entered, in reverse order, whatever happened.

mod intake;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::CancelFlag;
use crate::execution::machine::Machine;
use crate::execution::metrics::{Metrics, Recorders};
use crate::failure::{Failure, NodeFailure, RunError};
use crate::node::bulk::Bulk;
use crate::node::endpoints::{Feed, Sink};
use crate::node::{Hindrance, Node, NodeLock, Observer, stop};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::{Plan, PlanNode};

/// How a plan is opened.
pub struct Settings<P: Payload> {
    /// Collect [`Metrics`].
    pub with_metrics: bool,
    /// Called for each step.
    pub observer: Option<Arc<dyn Observer>>,
    /// Stops the run.
    pub cancel: CancelFlag,
    /// The lock of the nodes, if sessions share them.
    pub node_lock: Option<Box<dyn NodeLock>>,
    /// A faster way through all nodes at once.
    pub bulk: Option<Box<dyn Bulk<P>>>,
}

impl<P: Payload> Default for Settings<P> {
    fn default() -> Self {
        Self { with_metrics: false, observer: None, cancel: CancelFlag::default(), node_lock: None, bulk: None }
    }
}

/// An open plan.
pub struct Runner<P: Payload> {
    plan: Arc<Plan>,
    machine: Machine<P>,
    node_lock: Option<Box<dyn NodeLock>>,
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
            machine.recorders = Some(Recorders::new(machine.nodes.iter().map(|node| node.info().failure_counts)));
        }
        machine.observer = settings.observer;
        // Single items in a chunk are not observed.
        let bulk = settings.bulk.filter(|_| machine.observer.is_none());
        if let Some(observer) = &machine.observer {
            observer.opened(&plan);
        }
        let mut runner = Self {
            plan,
            machine,
            node_lock: settings.node_lock,
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
        let outcome = if self.machine.nodes.first_mut().is_some_and(|node| node.as_source().is_some()) {
            self.run_source(sink)
        } else {
            self.run_feed(feed, sink)
        };
        outcome.and_then(|()| self.in_turn(sink, Machine::flush))
    }

    /// The metrics so far, if they are collected.
    pub fn metrics(&self) -> Option<Metrics> {
        let recorders = self.machine.recorders.as_ref()?;
        let total = self.opened.elapsed();
        let mut inside = Duration::ZERO;
        let report = |(index, node): (usize, &PlanNode)| {
            recorders.note(index, |recorder| {
                inside += recorder.inside();
                recorder.report(&node.id, &node.node_type, node.options.placement.name())
            })
        };
        let node_metrics = self.plan.nodes().iter().enumerate().map(report).collect();
        Some(Metrics {
            items_in: self.items_in,
            items_out: self.items_out,
            ..Metrics::of_nodes(self.plan.name(), total, inside, node_metrics)
        })
    }

    /// Abandon what is in progress and clean up, in reverse order. Returns the final metrics and the cleanups that failed.
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
            if let Err(fault) = stop(&mut *self.machine.nodes[index]) {
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

    /// Drop what is in progress. Closing a generator enters its node, so it takes the lock.
    fn abandon(&mut self) -> Vec<NodeFailure<P::Fault>> {
        let Self { machine, node_lock, .. } = self;
        let mut failed = Vec::new();
        match node_lock {
            Some(node_lock) if machine.has_generators() => node_lock.enter(&mut || failed = machine.abandon()),
            _ => failed = machine.abandon(),
        }
        failed.into_iter().map(|(node, phase, fault)| self.failure(node, None, phase, fault)).collect()
    }

    fn blame(&self, node: usize, item_index: Option<u64>, phase: Phase, fault: P::Fault) -> RunError<P::Fault> {
        self.machine.record(node, |recorder| recorder.failed::<P>(&fault, 1));
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
        if !self.machine.nodes[node].info().has_lifecycle {
            return;
        }
        if phase == Phase::Initialize {
            self.machine.record(node, |recorder| recorder.initialize = took);
        }
        if let Some(observer) = &self.machine.observer {
            observer.stepped(&self.plan.nodes()[node].id, phase, None, took);
        }
    }
}

/// After a panic the runner is not closed, and its nodes still hold what they acquired.
impl<P: Payload> Drop for Runner<P> {
    fn drop(&mut self) {
        // The panic is reported.
        if self.owes_cleanup > 0 {
            drop(catch_unwind(AssertUnwindSafe(|| self.abandon())));
        }
        while self.owes_cleanup > 0 {
            drop(catch_unwind(AssertUnwindSafe(|| self.clean_up_nodes())));
        }
    }
}

/// Do some work in the nodes when no other session is inside.
fn enter<T>(node_lock: Option<&dyn NodeLock>, cancel: &CancelFlag, work: impl FnOnce() -> T) -> Result<T, Hindrance> {
    let Some(node_lock) = node_lock else { return Ok(work()) };
    let mut work = Some(work);
    let mut result = None;
    node_lock.enter_unless(cancel, &mut || result = work.take().map(|work| work()))?;
    result.ok_or(Hindrance::Cancelled)
}
