//! A pipeline that is open: its nodes are initialized, inputs go in from any thread, each client gets its own outputs.
//!
//! Every stage has a queue and a thread of its own, on which its nodes are initialized, called and cleaned up; all-inline plans need
//! neither, and run by [`Session::direct`] or [`Session::run`] on the calling thread.
//!
//! *Invariant:* every input ends as outputs, as an error of its client, or as a counted drop; its client receives the end in any case.
//!
//! *Invariant:* a full queue blocks its producer, but a stage that joins parts of inputs accepts every envelope: it
//! could otherwise wait for itself. The window on inputs in flight bounds what it holds.

mod chunked_streams;
mod chunks;
mod close;
mod deadline;
mod direct;
mod interrupt;
mod metrics;
mod on_callers;
mod open;
mod pace;
mod queues;
mod run;
mod stages;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::locks::{Mutex, TimedMutex};

pub use self::chunked_streams::ChunkedStream;
pub use self::direct::Direct;
pub use self::on_callers::{Bringing, Worked};
pub use self::pace::Pace;
pub use self::queues::clients::Client;
pub use self::queues::outbox::{Next, Outbox, Overflow};
pub use self::stages::shared::{Admission, Drain};
use self::stages::shared::{Core, Input, Submission};
use self::stages::threads::Threads;
use self::watchdog::Watch;
use crate::cancel::CancelFlag;
use crate::execution::metrics::Metrics;
use crate::failure::{NodeFailure, RunError};
use crate::limits::{CLOSE_TIMEOUT, DEFAULT_QUEUE_SIZE};
use crate::node::{Node, NodeLock, Observer};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;

/// How a session is opened.
pub struct SessionSettings<P: Payload> {
    /// Collect [`Metrics`].
    pub with_metrics: bool,
    /// Called for each step.
    pub observer: Option<Arc<dyn Observer>>,
    /// Called for stalls, drops, and errors that end nothing.
    pub reporter: Option<Arc<dyn Reporter<P>>>,
    /// Parcels that may wait before a stage whose node does not say.
    pub queue_size: usize,
    /// How long a call may take before it is reported.
    pub stall_warning: Option<Duration>,
    /// Set by the session while nodes should not wait: during an interrupt, and from its end on. The policies of the nodes have it too.
    pub stop: CancelFlag,
    /// Called when nodes should be stopped from waiting because the session is not opened after all.
    pub stop_waiting: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Where the nodes of an all-inline plan run.
    pub inline: InlinePlan,
}

/// Where the nodes of an all-inline plan run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InlinePlan {
    /// On a thread of the session, as the nodes of other plans.
    OnThread,
    /// On each thread that calls: by [`Session::direct`], or where [`Session::work_here`] or [`Bringing::work`] is called after an input is
    /// put in, until [`Session::start_thread`].
    OnCallers,
    /// On the thread that calls [`Session::run`], the source among them.
    InRun,
}

impl<P: Payload> Default for SessionSettings<P> {
    /// Nothing is measured or reported; [`DEFAULT_QUEUE_SIZE`] items may wait before a stage.
    fn default() -> Self {
        Self {
            with_metrics: false,
            observer: None,
            reporter: None,
            queue_size: DEFAULT_QUEUE_SIZE,
            stall_warning: None,
            stop: CancelFlag::default(),
            stop_waiting: None,
            inline: InlinePlan::OnThread,
        }
    }
}

/// Who puts an input in.
pub struct Caller<P: Payload> {
    /// Receives the outputs.
    pub client: Arc<dyn Client<P>>,
    /// The nodes work in a copy of it.
    pub context: P::Context,
    /// A caller waits for the outputs of this input.
    pub is_urgent: bool,
    /// The index by which its client counts the item, if not by that in the session: errors have it.
    pub own_index: Option<u64>,
}

/// Receives events that end nothing but should be known.
pub trait Reporter<P: Payload>: Send + Sync {
    /// An error that no input can be blamed for.
    fn log_ignored(&self, fault: P::Fault);

    /// A node has been at one item for so long.
    fn stalled(&self, stall: &Stall);

    /// The session was not opened, and a node did not return from its `initialize` in this time.
    fn abandoned(&self, stall: &Stall, timeout: Duration);

    /// So many items were dropped before this node since the last report.
    fn dropped(&self, node_id: &str, count: u64);
}

/// A call that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The id of the node.
    pub node_id: String,
    /// The index of the input, where there is one.
    pub item_index: Option<u64>,
    /// What was called: `cleanup`, or else [`Phase::Process`].
    pub phase: Phase,
    /// For how long, at least.
    pub for_at_least: Duration,
    /// The number of the thread, as the nodes' [`NodeLock`] gave it.
    pub thread: u64,
    /// It is a worker that has not returned, not a thread of this process.
    pub is_in_worker: bool,
}

/// The nodes of one entry of a plan: one, or as many as replicas, and the locks of those that sessions share.
pub struct Replicas<P: Payload> {
    /// The node objects.
    pub nodes: Vec<Box<dyn Node<P>>>,
}

/// Makes the lock of the nodes of one replica of a stage, which are given by their numbers in the plan.
pub type NodeLockOf<'a> = &'a dyn Fn(&[usize], usize) -> Option<Box<dyn NodeLock>>;

/// A call of a node that was in progress at some moment.
#[derive(Clone, Copy, Debug)]
pub struct AtWork {
    stage: usize,
    replica: usize,
    reading: crate::execution::progress::Reading,
}

impl AtWork {
    /// The number of the thread, as the nodes' [`NodeLock`] gave it.
    pub fn thread(&self) -> u64 {
        self.reading.thread
    }
}

/// What remains of a session that has closed.
#[derive(Debug)]
pub struct Closed<F> {
    /// The cleanups that failed, in the order in which they ran.
    pub cleanups: Vec<NodeFailure<F>>,
    /// The calls that did not return in time. Their threads, and the nodes of their stages, are abandoned.
    pub abandoned: Vec<Stall>,
    /// The metrics of the whole session, if they were collected.
    pub metrics: Option<Metrics>,
}

/// An open pipeline.
pub struct Session<P: Payload> {
    core: Arc<Core<P>>,
    threads: Threads,
    watch: Mutex<Option<Watch>>,
    /// Held during an interruption.
    interrupting: TimedMutex<()>,
    /// Initialize was entered: stage, replica and node in it, in that order.
    owed: Mutex<Vec<open::Place>>,
    stop: CancelFlag,
    calls_out: AtomicU64,
    /// Calls on their caller's thread that were interrupted, and that `interrupt` has not counted.
    calls_interrupted: AtomicU64,
    opened: Instant,
}

impl<P: Payload> Session<P> {
    /// The plan that is open.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.core.plan
    }

    /// The processes of the workers at this moment.
    pub fn worker_processes(&self) -> Vec<u32> {
        let replicas = self.core.stages.iter().flat_map(|stage| &stage.replicas);
        replicas.filter_map(|replica| replica.worker.as_ref()?.process_id()).collect()
    }

    /// How many inputs can be in flight at once.
    pub fn capacity(&self) -> usize {
        self.core.window
    }

    /// Put an input in; `None` is the end of input, which flushes the nodes.
    ///
    /// Never waits. After [`Admission::Later`], `admitted` is called when the input is in, which is the time to put in the
    /// next one, or with `false` if the session has closed. An urgent input is one that a caller waits for: batches don't keep it waiting
    /// for company.
    pub fn submit(
        &self,
        item: Option<P>,
        client: Arc<dyn Client<P>>,
        is_urgent: bool,
        admitted: Option<Box<dyn FnOnce(bool) + Send>>,
    ) -> Admission {
        let context = P::Context::default();
        self.submit_from(Caller { client, context, is_urgent, own_index: None }, item, admitted)
    }

    /// The same for a caller with a context, in which the nodes work on the input.
    pub fn submit_from(
        &self,
        caller: Caller<P>,
        item: Option<P>,
        admitted: Option<Box<dyn FnOnce(bool) + Send>>,
    ) -> Admission {
        let Caller { client, context, is_urgent, own_index } = caller;
        if self.is_closed() {
            client.done(Err(RunError::Closed));
            return Admission::Never;
        }
        let input = item.map_or(Input::End, |item| Input::Item(self.core.for_entries(item)));
        self.core.submit(Submission { input, client, context, is_urgent, own_index, admitted })
    }

    /// Whether the plan makes its own input, by [`Session::start_source`].
    pub fn has_source(&self) -> bool {
        self.core.source_tasks.is_some()
    }

    /// Let the source of the plan run on its thread, until it ends or the session closes.
    ///
    /// `expect` is called before each of its items is put in for `client`. At the end of the source the nodes are flushed: one more
    /// input of the client, which it must expect before this call. The source works in `context`, and so do the nodes after it.
    pub fn start_source(&self, client: Arc<dyn Client<P>>, context: P::Context, expect: Box<dyn Fn() + Send>) {
        if let Some(tasks) = &self.core.source_tasks {
            let core = Arc::clone(&self.core);
            tasks.note_producing(true);
            // Its end is reported to the client.
            drop(tasks.send(move || stages::source::run(&core, &client, context, &*expect), || {}));
        }
    }

    /// The outputs of this client's inputs are no longer wanted. Returns the calls that work on one of them.
    ///
    /// What the nodes hold of these inputs is forgotten before the next one; where a stream is left before its end, what they hold of all.
    pub fn abandon(&self, client: &Arc<dyn Client<P>>) -> Vec<AtWork> {
        let is_left = client.is_left();
        let abandoned = self.core.in_flight.abandon(client);
        self.core.forget_waiting(client);
        let first_of_all = if is_left { Some(0) } else { None };
        self.core.stages.iter().flat_map(|stage| stage.leave(&abandoned, first_of_all)).collect()
    }

    /// The node in whose call the thread with this number is, if it is in one of this session's.
    pub fn node_of(&self, thread: u64) -> Option<&str> {
        let core = &self.core;
        let replicas = core
            .stages
            .iter()
            .flat_map(|stage| stage.replicas.iter().map(move |replica| (stage.index, &*replica.progress)));
        let mut places = replicas.chain([(core.plan.stage_of(0), &core.source)]);
        places.find_map(|(stage, progress)| {
            let reading = progress.read().filter(|reading| reading.thread == thread)?;
            let node = core.plan.stages()[stage].nodes.get(reading.node)?;
            Some(core.plan.nodes()[*node].id.as_str())
        })
    }

    /// Whether an input need not wait at this moment.
    pub fn has_room(&self) -> bool {
        self.core.has_room()
    }

    /// Returns a function that counts the calls of nodes that are in progress.
    pub fn call_counter(&self) -> Box<dyn Fn() -> usize + Send + Sync> {
        // Weak: the nodes of the session may hold this function.
        let core = Arc::downgrade(&self.core);
        Box::new(move || {
            let Some(core) = core.upgrade() else { return 0 };
            let at_work = |stage: &stages::stage::Stage<P>| {
                let replicas = stage.replicas.iter().filter(|replica| replica.progress.read().is_some()).count();
                replicas + stage.started.lock().len()
            };
            core.stages.iter().map(at_work).sum::<usize>() + usize::from(core.source.read().is_some())
        })
    }

    /// Hand on what is done of the chunks in workers before their other items are, which take longer than expected.
    pub fn hand_on_chunks(&self) {
        for stage in &self.core.stages {
            let started: Vec<_> = stage.started.lock().values().cloned().collect();
            started.iter().filter_map(|begun| begun.hand_on.get()).for_each(|hand_on| hand_on());
        }
    }

    /// Whether a thread is still in the same call.
    pub fn is_still(&self, at_work: &AtWork) -> bool {
        self.core.stages[at_work.stage].replicas[at_work.replica].progress.read() == Some(at_work.reading)
    }

    /// Begin to wait until all that went in has come out: batches no longer wait for company.
    pub fn begin_drain(&self) -> Drain {
        self.core.begin_drain()
    }

    /// Whether all inputs that went in before are done, or become so within `timeout`, or the session has closed.
    pub fn is_drained(&self, drain: &mut Drain, timeout: Duration) -> bool {
        self.is_closed() || self.core.is_drained(drain, timeout)
    }

    /// Batches may wait for company again.
    pub fn end_drain(&self) {
        self.core.end_drain();
    }

    /// When the session closes, cancel the calls in progress in workers, as far as their language can. The calls in this process are left to
    /// their callers.
    pub fn cancel_calls(&self) {
        let replicas = self.core.stages.iter().flat_map(|stage| &stage.replicas);
        replicas.filter_map(|replica| replica.worker.as_ref()).for_each(|worker| worker.cancel_calls());
    }

    /// This process is a fork of the one that has opened the session. Here it is closed; nothing of it is touched, as its threads and
    /// workers are the other one's.
    pub fn leave_to_parent(&self) {
        self.core.is_closed.store(true, Ordering::SeqCst);
    }

    /// Whether it takes no more inputs: it is closed, or a call that cannot be stopped has ended it.
    pub fn has_ended(&self) -> bool {
        self.is_closed() || self.core.admission_queue.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

impl<P: Payload> Drop for Session<P> {
    fn drop(&mut self) {
        // Callers that need the outcome call `close`.
        if !self.is_closed() {
            drop(self.end(CLOSE_TIMEOUT, &|| {}));
        }
    }
}
