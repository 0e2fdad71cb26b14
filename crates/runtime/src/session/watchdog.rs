//! Looks from outside whether calls return: names what stalls, and ends what overruns its time.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::locks::{Condvar, Mutex};

use crate::execution::metrics::Recorder;
use crate::execution::progress::Reading;
use crate::failure::RunError;
use crate::node::policy::longest_call;
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::session::Stall;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{Replica, Stage};

/// Enough for a node to end a call of its own that takes too long, however busy the machine is.
const GRACE: Duration = Duration::from_secs(2);

/// Opened once, from any thread.
#[derive(Default)]
pub(crate) struct Latch {
    is_open: Mutex<bool>,
    has_opened: Condvar,
}

impl Latch {
    /// Opens the latch when it is dropped, so also when a thread panics.
    pub(crate) fn guard(self: Arc<Self>) -> impl Send {
        struct Guard(Arc<Latch>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Guard(self)
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock() = true;
        self.has_opened.notify_all();
    }

    /// Wait for it; whether it opened before the deadline.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        !self.has_opened.wait_while_for(&mut self.is_open.lock(), |is_open| !*is_open, left)
    }
}

/// The thread that watches one session.
pub(crate) struct Watch {
    ended: Arc<Latch>,
    thread: JoinHandle<()>,
}

/// What was seen of one replica the last time it changed.
struct Seen {
    reading: Option<Reading>,
    since: Instant,
    is_reported: bool,
    is_overdue: bool,
}

impl Seen {
    fn now(reading: Option<Reading>) -> Self {
        Self { reading, since: Instant::now(), is_reported: false, is_overdue: false }
    }
}

impl Watch {
    /// Watch a session, if there is anything to watch for.
    pub(crate) fn start<P: Payload>(core: &Arc<Core<P>>, stall_warning: Option<Duration>) -> io::Result<Option<Self>> {
        let timeouts = core.plan.nodes().iter().filter_map(|node| node.options.timeout);
        let has_drops = core.stages.iter().any(|stage| stage.inbox.drops());
        let shortest = timeouts.chain(stall_warning).chain(has_drops.then_some(Duration::from_secs(4))).min();
        let Some(shortest) = shortest else { return Ok(None) };
        let pause = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let ended = Arc::new(Latch::default());
        let end = Arc::clone(&ended);
        let core = Arc::downgrade(core);
        let thread = std::thread::Builder::new()
            .name("remotemedia-watch".into())
            .spawn(move || watch(&core, &end, pause, stall_warning))?;
        Ok(Some(Self { ended, thread }))
    }

    /// End the watch and its thread.
    pub(crate) fn end(self) {
        self.ended.open();
        drop(self.thread.join());
    }
}

fn watch<P: Payload>(core: &Weak<Core<P>>, ended: &Latch, pause: Duration, stall_warning: Option<Duration>) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut dropped: Vec<u64> = Vec::new();
    let mut reported_at = Instant::now();
    while !ended.wait_until(Instant::now() + pause) {
        let Some(core) = core.upgrade() else { return };
        let replicas =
            core.stages.iter().flat_map(|stage| stage.replicas.iter().map(move |replica| (stage, Some(replica))));
        let source = (&core.stages[core.plan.stage_of(0)], None);
        for (index, (stage, replica)) in replicas.chain([source]).enumerate() {
            let reading = replica.map_or_else(|| core.source.read(), |replica| reading_of(stage, replica));
            if seen.len() <= index {
                seen.push(Seen::now(None));
            }
            let seen = &mut seen[index];
            if seen.reading != reading {
                *seen = Seen::now(reading);
            }
            if let Some(reading) = reading {
                look_at(&core, (stage, replica), reading, seen, stall_warning);
            }
        }
        if reported_at.elapsed() >= Duration::from_secs(1) {
            reported_at = Instant::now();
            report_drops(&core, &mut dropped);
        }
    }
}

/// The call in progress in a replica, here or in the process that it has.
fn reading_of<P: Payload>(stage: &Stage<P>, replica: &Replica<P>) -> Option<Reading> {
    let Some(worker) = &replica.worker else { return replica.progress.read() };
    let (job, node) = worker.at_work()?;
    // Items are worked on there in the order in which they were begun here.
    let oldest = stage.started.lock().values().map(|begun| begun.at_work()).min();
    let input = oldest.or_else(|| replica.progress.read().and_then(|reading| reading.input));
    Some(Reading { step: job, node, input, thread: 0 })
}

fn look_at<P: Payload>(
    core: &Core<P>,
    (stage, replica): (&Stage<P>, Option<&Replica<P>>),
    reading: Reading,
    seen: &mut Seen,
    stall_warning: Option<Duration>,
) {
    let for_at_least = seen.since.elapsed();
    let worker = replica.and_then(|replica| replica.worker.as_ref());
    let stage = stage.index;
    let node = core.plan.stages()[stage].nodes.get(reading.node).map(|&node| &core.plan.nodes()[node]);
    let timeout = node.and_then(|node| node.options.timeout).filter(|_| reading.input.is_some());
    // A process that takes too long is ended by its supervisor.
    let timeout = timeout.filter(|_| worker.is_none());
    if let (Some(node), Some(timeout)) = (node, timeout)
        && for_at_least > longest_call(&node.options, timeout) + grace(core, stage, reading.node)
        && !std::mem::replace(&mut seen.is_overdue, true)
    {
        if let Some(recorders) = replica.and_then(|replica| replica.recorders.as_ref()) {
            recorders.note(reading.node, Recorder::overran);
        }
        let stall = stall(&core.plan, stage, reading, for_at_least);
        let own_index = reading.input.and_then(|input| core.in_flight.own_index(input));
        core.abort(|| RunError::Timeout {
            node_id: stall.node_id.clone(),
            item_index: own_index.or(stall.item_index),
            timeout,
            is_stopped: false,
        });
    }
    if !seen.is_reported && stall_warning.is_some_and(|limit| for_at_least >= limit) {
        seen.is_reported = true;
        if let Some(reporter) = &core.reporter {
            let is_in_worker = worker.is_some();
            reporter.stalled(&Stall { is_in_worker, ..stall(&core.plan, stage, reading, for_at_least) });
        }
        if let Some(worker) = worker {
            worker.dump_stacks();
        }
    }
}

/// How much longer a call may take whose node keeps its time itself, before it must be taken for one that nothing can end.
fn grace<P: Payload>(core: &Core<P>, stage: usize, node: usize) -> Duration {
    let keeps_time = core.stages[stage].replicas[0].keep_time.get(node).is_some_and(|&keeps_time| keeps_time);
    if keeps_time { GRACE } else { Duration::ZERO }
}

fn report_drops<P: Payload>(core: &Core<P>, reported: &mut Vec<u64>) {
    reported.resize(core.stages.len(), 0);
    for (stage, reported) in core.stages.iter().zip(reported) {
        let dropped = stage.inbox.metrics().dropped;
        if dropped > *reported
            && let Some(reporter) = &core.reporter
        {
            let node = core.plan.stages()[stage.index].nodes[0];
            reporter.dropped(&core.plan.nodes()[node].id, dropped - *reported);
        }
        *reported = dropped;
    }
}

/// A reading in words that mean something outside.
pub(crate) fn stall(plan: &Plan, stage: usize, reading: Reading, for_at_least: Duration) -> Stall {
    let node = plan.stages()[stage].nodes.get(reading.node).copied().unwrap_or_default();
    Stall {
        node_id: plan.nodes()[node].id.clone(),
        item_index: reading.input.and_then(numbering::known_item_index),
        phase: Phase::Process,
        for_at_least,
        thread: reading.thread,
        is_in_worker: false,
    }
}
