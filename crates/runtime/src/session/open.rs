//! Opening a session: stages and links from a plan, initialization, threads.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use crate::locks::{Condvar, Mutex, TimedMutex};

use crate::cancel::CancelFlag;
use crate::execution::machine::Machine;
use crate::execution::metrics::Recorders;
use crate::execution::progress::Progress;
use crate::failure::{Failure, NodeFailure, RunError};
use crate::layout::Edge;
use crate::limits::CLOSE_TIMEOUT;
use crate::node::{Node, stop};
use crate::numbering::NO_INPUT;
use crate::options::WhenFull;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::session::queues::admission::AdmissionQueue;
use crate::session::queues::in_flight::InFlight;
use crate::session::queues::inbox::{Inbox, Policy};
use crate::session::queues::joiner::Joiner;
use crate::session::queues::reorder::Reorder;
use crate::session::stages::shared::Core;
use crate::session::stages::source::SourceNode;
use crate::session::stages::stage::{Link, Replica, Stage};
use crate::session::stages::tasks::{Outcome, PollWhile, Tasks};
use crate::session::stages::threads::Threads;
use crate::session::watchdog::Watch;
use crate::session::{Closed, InlinePlan, NodeLockOf, Replicas, Session, SessionSettings};

/// How often a thread that waits for `initialize` checks for a stop request.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A node of one replica: the numbers of its stage, of the replica, and of the node in its stage.
pub(crate) type Place = (usize, usize, usize);

impl<P: Payload> Session<P> {
    /// Initialize the nodes, which stand in plan order. If one fails, it and those before it are cleaned up.
    ///
    /// # Panics
    /// If the nodes are not those of the plan: one entry for each, with as many replicas as its options say.
    pub fn open(
        plan: Arc<Plan>,
        nodes: Vec<Replicas<P>>,
        settings: &SessionSettings<P>,
        lock_of: NodeLockOf<'_>,
    ) -> Result<Self, Failure<P::Fault>> {
        assert_eq!(plan.nodes().len(), nodes.len(), "a plan is opened with one entry for each of its nodes");
        let mut nodes = nodes;
        let source_tasks = if settings.inline == InlinePlan::InRun { None } else { adopt_source(&mut nodes) };
        // Where the plan needs no queue, its nodes run on each thread that calls.
        let is_on_callers = plan.is_direct() && settings.inline != InlinePlan::OnThread && source_tasks.is_none();
        let mut stages = build_stages(&plan, nodes, settings, lock_of);
        for replica in stages.iter_mut().flat_map(|stage| &mut stage.replicas) {
            replica.tasks = (!is_on_callers && replica.worker.is_none()).then(Tasks::default);
        }
        let senders_of_output = stages.iter().filter(|stage| stage.links.iter().any(|link| link.to.is_none())).count();
        let window = plan.window(settings.queue_size);
        let core = Arc::new(Core {
            stages,
            in_flight: InFlight::new(),
            outputs: (senders_of_output > 1).then(|| Mutex::new(Joiner::new(senders_of_output))),
            admission_queue: AdmissionQueue::new(),
            window,
            chunks: if source_tasks.is_none() { plan.chunks(settings.queue_size) } else { None },
            draining: AtomicUsize::new(0),
            with_metrics: settings.with_metrics,
            is_closed: AtomicBool::new(false),
            reporter: settings.reporter.clone(),
            observer: settings.observer.clone(),
            source: Progress::default(),
            on_callers: Arc::new(AtomicBool::new(is_on_callers)),
            bringing: AtomicUsize::new(0),
            has_left_work: AtomicBool::new(false),
            paused: Mutex::new(None),
            source_tasks,
            plan,
        });
        if let Some(observer) = &settings.observer {
            observer.opened(&core.plan);
        }
        let session = Self {
            watch: Mutex::default(),
            core,
            threads: Threads::default(),
            interrupting: TimedMutex::new(()),
            owed: Mutex::new(Vec::new()),
            stop: settings.stop.clone(),
            calls_out: AtomicU64::new(0),
            calls_interrupted: AtomicU64::new(0),
            opened: Instant::now(),
        };
        match session.start(settings.stall_warning).and_then(|()| session.initialize()) {
            Ok(()) => Ok(session),
            Err(error) => {
                let stop_waiting = || settings.stop_waiting.iter().for_each(|stop_waiting| stop_waiting());
                let Closed { cleanups, abandoned, .. } = session.close(CLOSE_TIMEOUT, &stop_waiting);
                if let Some(reporter) = &settings.reporter {
                    for stall in &abandoned {
                        reporter.abandoned(stall, CLOSE_TIMEOUT);
                    }
                }
                Err(Failure { first: Some(error), cleanups })
            }
        }
    }

    /// Start the threads that the session has from the beginning.
    fn start(&self, stall_warning: Option<Duration>) -> Result<(), RunError<P::Fault>> {
        let started = if self.is_on_callers() { Ok(()) } else { self.threads.start(&self.core) };
        let watch = started.and_then(|()| Watch::start(&self.core, stall_warning)).map_err(|error| {
            // End the waits for threads that were not started.
            self.core.close_tasks();
            RunError::NoThread(error)
        })?;
        *self.watch.lock() = watch;
        Ok(())
    }

    fn initialize(&self) -> Result<(), RunError<P::Fault>> {
        let core = &self.core;
        for number in 0..core.plan.nodes().len() {
            let places = self.places_of(number);
            // Replicas in workers become ready at the same time.
            let prepare = |&(stage, replica, node): &Place| {
                let mut machine = core.stages[stage].replicas[replica].machine.lock();
                let Some(remote) = machine.nodes[node].as_remote() else { return false };
                remote.prepare();
                self.owe_cleanup((stage, replica, node));
                true
            };
            let prepared: Vec<bool> = places.iter().map(prepare).collect();
            for (place, is_begun) in places.into_iter().zip(prepared) {
                if self.stop.is_set() {
                    return Err(RunError::Cancelled);
                }
                if !is_begun {
                    self.owe_cleanup(place);
                }
                self.initialize_node(place)?;
            }
        }
        Ok(())
    }

    /// Initialize a node on its thread, and wait for it. A stop request, of this thread or by the flag, ends the wait; the node may still
    /// be at it then.
    fn initialize_node(&self, (stage, replica, node): Place) -> Result<(), RunError<P::Fault>> {
        let mut stop_request = None;
        let mut goes_on = || {
            stop_request = stop_request.take().or_else(|| P::check_signals().err());
            stop_request.is_none() && !self.stop.is_set()
        };
        let polling = PollWhile { interval: POLL_INTERVAL, goes_on: &mut goes_on };
        let outcome = self.core.in_nodes((stage, replica), polling, move |_, replica, machine| {
            replica.note_thread(machine);
            machine.initialize(node)?;
            machine.adopt_source(node);
            Ok(())
        });
        if matches!(outcome, Outcome::NotBegun) {
            self.owed.lock().pop();
        }
        if let Some(stop_request) = stop_request {
            return Err(RunError::Interrupt(stop_request));
        }
        match outcome {
            _ if self.stop.is_set() => Err(RunError::Cancelled),
            Outcome::Done(outcome) => outcome.unwrap_or_else(|panic| resume_unwind(panic)),
            Outcome::Unfinished | Outcome::NotBegun => Err(RunError::Cancelled),
        }
    }

    fn owe_cleanup(&self, place: Place) {
        self.owed.lock().push(place);
    }

    /// Where the replicas of a node are.
    fn places_of(&self, number: usize) -> Vec<Place> {
        let core = &self.core;
        let stage = core.plan.stage_of(number);
        let node = core.plan.stages()[stage].nodes.binary_search(&number).expect("a node is in its stage");
        (0..core.stages[stage].replicas.len()).map(|replica| (stage, replica, node)).collect()
    }
}

/// Let a source in this process run on a thread of its own. Returns what others ask of it.
fn adopt_source<P: Payload>(nodes: &mut [Replicas<P>]) -> Option<Arc<Tasks>> {
    let [first] = &mut nodes.first_mut()?.nodes[..] else { return None };
    first.as_source()?;
    let tasks: Arc<Tasks> = Arc::default();
    let source = nodes[0].nodes.pop()?;
    nodes[0].nodes.push(Box::new(SourceNode::new(source, &tasks)));
    Some(tasks)
}

fn build_stages<P: Payload>(
    plan: &Arc<Plan>,
    nodes: Vec<Replicas<P>>,
    settings: &SessionSettings<P>,
    lock_of: NodeLockOf<'_>,
) -> Vec<Stage<P>> {
    let mut nodes: Vec<Vec<Option<Box<dyn Node<P>>>>> =
        nodes.into_iter().map(|replicas| replicas.nodes.into_iter().map(Some).collect()).collect();
    // A run has nothing to interrupt but itself.
    let own_stop = || if settings.inline == InlinePlan::InRun { settings.stop.clone() } else { CancelFlag::default() };
    let mut machines: Vec<Vec<Machine<P>>> = Vec::new();
    for (index, stage) in plan.stages().iter().enumerate() {
        let replicas = stage.nodes.iter().map(|&node| nodes[node].len()).max().unwrap_or(1);
        let machine_of = |replica: usize| {
            let members = stage.nodes.iter();
            let members =
                members.map(|&node| nodes[node][replica].take().expect("as many replicas as the options say"));
            let mut machine = Machine::new(plan, index, members.collect(), own_stop());
            machine.recorders = settings
                .with_metrics
                .then(|| Recorders::new(machine.nodes.iter().map(|node| node.info().failure_counts)));
            machine.observer.clone_from(&settings.observer);
            machine.input = NO_INPUT;
            if let Some(handle) = machine.nodes[0].as_remote().map(|remote| remote.handle()) {
                machine.work_elsewhere(&*handle);
            }
            machine
        };
        machines.push((0..replicas).map(machine_of).collect());
    }
    let links: Vec<Vec<Link>> = (0..machines.len()).map(|stage| links_of(plan, stage, &machines)).collect();
    machines
        .into_iter()
        .zip(links)
        .enumerate()
        .map(|(index, (machines, links))| build_stage(plan, index, machines, links, settings, lock_of))
        .collect()
}

#[allow(clippy::too_many_arguments, reason = "the parts of a stage, put together in one place")]
fn build_stage<P: Payload>(
    plan: &Plan,
    index: usize,
    machines: Vec<Machine<P>>,
    links: Vec<Link>,
    settings: &SessionSettings<P>,
    lock_of: NodeLockOf<'_>,
) -> Stage<P> {
    let planned = &plan.stages()[index];
    let options = &planned.options;
    let queue_size = options.queue_size.unwrap_or(settings.queue_size);
    let sides = plan.sides_of(index);
    // Parts of an input that may overtake each other, or meet in different replicas, are put together first.
    let needs_assembler = sides > 1 || (planned.is_parallel() && (!options.is_ordered || machines[0].has_gates()));
    let width = planned.width(queue_size);
    let policy = Policy {
        capacity: if sides > 1 && options.when_full == WhenFull::Wait { usize::MAX } else { queue_size },
        when_full: options.when_full,
        is_only_way: plan.is_only_way(index),
    };
    Stage {
        index,
        inbox: Inbox::new(policy),
        entry: machines[0].entry_of(Edge { from: None, to: None }),
        joiner: needs_assembler.then(|| Mutex::new(Joiner::new(sides))),
        reorder: planned.is_parallel().then(|| {
            let reorder = Reorder::new(options.is_ordered, width, width + queue_size.max(width));
            // The items of a worker only wait there: it is cheaper to send several than to be woken for each.
            if planned.sends_ahead() { reorder.in_steps_of((width / options.replicas / 2).max(1)) } else { reorder }
        }),
        replicas: machines
            .into_iter()
            .enumerate()
            .map(|(replica, mut machine)| Replica {
                stop: machine.is_cancelled.clone(),
                progress: machine.progress.clone(),
                worker: machine.nodes[0].as_remote().map(|remote| remote.handle()),
                last_given: AtomicU64::new(0),
                must_forget: AtomicBool::new(false),
                under_way: AtomicUsize::new(0),
                busy_before: AtomicU64::new(0),
                keep_time: machine.nodes.iter().map(|node| node.info().keeps_time).collect(),
                recorders: machine.recorders.clone(),
                node_lock: lock_of(&planned.nodes, replica),
                machine: TimedMutex::new(machine),
                tasks: None,
            })
            .collect(),
        links,
        waited_us: AtomicU64::new(0),
        item_nanos: AtomicU64::new(0),
        ending: AtomicUsize::new(0),
        started: Mutex::default(),
        has_finished: Condvar::new(),
        chunk_done_at: Mutex::default(),
    }
}

/// The links out of a stage: one to each stage that gets something of it, and one out of the pipeline.
fn links_of<P: Payload>(plan: &Plan, stage: usize, machines: &[Vec<Machine<P>>]) -> Vec<Link> {
    let terminals = plan.terminals();
    let mut links: Vec<Link> = Vec::new();
    for (exit, edge) in machines[stage][0].exits.iter().enumerate() {
        let to = edge.to.map(|node| plan.stage_of(node));
        let place = match to {
            Some(target) => machines[target][0].entry_of(*edge).expect("an exit leads to an entry"),
            None => edge.from.and_then(|from| terminals.iter().position(|&node| node == from)).unwrap_or(0),
        };
        match links.iter_mut().find(|link| link.to == to) {
            Some(link) => link.exits.push((exit, place)),
            None => links.push(Link { to, exits: vec![(exit, place)] }),
        }
    }
    if machines[stage][0].exits.is_empty() {
        // All last nodes are in this stage, and meet at its own gate.
        links.push(Link { to: None, exits: vec![(0, 0)] });
    }
    links
}

impl<P: Payload> Machine<P> {
    /// Initialize one node.
    pub(crate) fn initialize(&mut self, node: usize) -> Result<(), RunError<P::Fault>> {
        let started = Instant::now();
        self.progress.enter(node, NO_INPUT);
        let outcome = self.nodes[node].initialize();
        self.progress.leave();
        self.note_phase(node, Phase::Initialize, started.elapsed());
        outcome.map_err(|fault| self.failure(node, None, Phase::Initialize, fault))
    }

    /// A source gets no items: what is put in takes the way of its outputs.
    pub(crate) fn adopt_source(&mut self, node: usize) {
        if self.nodes[node].as_source().is_some() {
            self.bypass(node);
        }
    }

    /// Clean one node up.
    pub(crate) fn clean_up(&mut self, node: usize) -> Result<(), NodeFailure<P::Fault>> {
        let started = Instant::now();
        self.progress.enter(node, NO_INPUT);
        let stopped = stop(&mut *self.nodes[node]);
        let outcome = stopped.and(self.nodes[node].cleanup());
        self.progress.leave();
        self.note_phase(node, Phase::Cleanup, started.elapsed());
        outcome.map_err(|fault| self.node_failure(node, None, Phase::Cleanup, fault))
    }
}
