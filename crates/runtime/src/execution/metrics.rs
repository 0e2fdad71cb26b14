//! What a run measured: counts and durations, in all and a node.

use std::sync::Arc;
use std::time::Duration;

use crate::locks::Mutex;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure_counts::{Counts, FailureCounts};
use crate::node::bulk::Calls;
use crate::payload::Payload;

/// The metrics of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// The name of the pipeline.
    pub pipeline: String,
    /// From before the first `initialize` to after the last `cleanup`.
    pub total_duration_us: u64,
    /// The total less the time inside the nodes.
    pub overhead_us: u64,
    /// Items that went in.
    pub items_in: u64,
    /// Items that came out.
    pub items_out: u64,
    /// Items that failed for good at any node.
    pub errors: u64,
    /// Calls that raised at any node.
    pub failures: u64,
    /// Calls that were made again because the one before raised.
    pub retries: u64,
    /// Items that failed for good and were dropped by `on_error`.
    pub skipped: u64,
    /// Items that failed for good and were handed to a dead letter function.
    pub dead_lettered: u64,
    /// Items that found a queue full.
    pub dropped: u64,
    /// Inputs that a session dropped because it was interrupted.
    pub interrupted: u64,
    /// One entry a node, in plan order.
    pub node_metrics: Vec<NodeMetrics>,
}

impl Metrics {
    /// What the metrics of the nodes add up to, after a time in all and a time inside the nodes.
    pub(crate) fn of_nodes(pipeline: &str, total: Duration, inside: Duration, node_metrics: Vec<NodeMetrics>) -> Self {
        let sum = |of: fn(&NodeMetrics) -> u64| node_metrics.iter().map(of).sum();
        Self {
            pipeline: pipeline.to_owned(),
            total_duration_us: whole_micros(total),
            overhead_us: whole_micros(total.saturating_sub(inside)),
            errors: sum(|node| node.errors),
            failures: sum(|node| node.failures),
            retries: sum(|node| node.retries),
            skipped: sum(|node| node.skipped),
            dead_lettered: sum(|node| node.dead_lettered),
            dropped: sum(|node| node.dropped),
            node_metrics,
            ..Self::default()
        }
    }
}

/// The metrics of one node. Durations are of its calls, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each name says what it is")]
pub struct NodeMetrics {
    pub node_id: String,
    pub node_type: String,
    pub placement: String,
    pub items_in: u64,
    pub items_out: u64,
    /// Items that failed for good: after all retries, whatever was done about it then.
    pub errors: u64,
    /// Calls that raised. One call may be for a batch of items.
    pub failures: u64,
    /// Calls that were made again because the one before raised.
    pub retries: u64,
    /// Those of the `errors` that `on_error` dropped.
    pub skipped: u64,
    /// Those of the `errors` that were handed to a dead letter function.
    pub dead_lettered: u64,
    /// Items of calls that ended because they were stopped: by an interruption, a cancellation, or the end of the session.
    pub interrupted: u64,
    pub restarts: u64,
    pub total_duration_us: u64,
    pub avg_duration_us: f64,
    pub min_duration_us: f64,
    pub max_duration_us: f64,
    pub p50_duration_us: f64,
    pub p95_duration_us: f64,
    pub p99_duration_us: f64,
    pub initialize_duration_us: u64,
    pub queue_wait_us: u64,
    pub peak_queue_len: u64,
    pub dropped: u64,
    /// Only of the first node of a stage that runs in processes of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerMetrics>,
}

/// The metrics of the worker processes of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerMetrics {
    /// Workers that run now.
    pub processes: u64,
    /// Their numbers in the system, those of replicas in order.
    pub process_ids: Vec<u32>,
    /// How often one was started in the place of another.
    #[serde(skip)]
    pub restarts: u64,
    /// Items that were given to a worker once more, because the one before had not finished them.
    pub redeliveries: u64,
    /// Bytes that went to the workers by their sockets. What lies in shared memory is not among them.
    pub sent_bytes: u64,
    /// Bytes that came from them.
    pub received_bytes: u64,
    /// The time that finished items spent between here and the nodes: on the way and waiting for their turn.
    pub transport_us: u64,
    /// Processor time of the workers, in the system's ticks of mostly 10 ms.
    pub cpu_us: u64,
    /// Memory that the workers hold, shared memory among it.
    pub resident_bytes: u64,
}

impl WorkerMetrics {
    pub(crate) fn add(&mut self, other: Self) {
        self.processes += other.processes;
        self.process_ids.extend(other.process_ids);
        self.restarts += other.restarts;
        self.redeliveries += other.redeliveries;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.transport_us += other.transport_us;
        self.cpu_us += other.cpu_us;
        self.resident_bytes += other.resident_bytes;
    }
}

/// What a node that works elsewhere did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It took this long for one call.
    Took(Duration),
    /// Calls that raised were made again, as many times.
    Retried(u64),
}

/// Collects the metrics of one node while it runs.
pub(crate) struct Recorder {
    durations_ns: Histogram<u64>,
    inside: Duration,
    pub(crate) items_in: u64,
    pub(crate) items_out: u64,
    counts: Counts,
    /// What was done about failures inside the node.
    inner_counts: Option<Arc<FailureCounts>>,
    pub(crate) initialize: Duration,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        // Two digits keep a recorder in a few kilobytes and a percentile within one per cent.
        let durations_ns = Histogram::new(2).expect("two significant digits are allowed");
        Self {
            durations_ns,
            inside: Duration::ZERO,
            items_in: 0,
            items_out: 0,
            counts: Counts::default(),
            inner_counts: None,
            initialize: Duration::ZERO,
        }
    }

    /// What was counted here and inside the node.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts;
        if let Some(inner) = &self.inner_counts {
            inner.add_to(&mut counts);
        }
        counts
    }

    /// A call for this many items ended with this fault.
    pub(crate) fn failed<P: Payload>(&mut self, fault: &P::Fault, items: usize) {
        self.raised(P::is_interrupt(fault), items);
    }

    /// A call for so many items raised, or was stopped by an interruption.
    pub(crate) fn raised(&mut self, is_interrupt: bool, items: usize) {
        if is_interrupt {
            self.counts.interrupted += items as u64;
        } else {
            self.counts.failures += 1;
            self.counts.errors += items as u64;
        }
    }

    /// A call that raised is made once more.
    pub(crate) fn retried(&mut self) {
        self.counts.retries += 1;
        self.counts.failures += 1;
    }

    /// A call for one item failed for good, and something was done about that.
    pub(crate) fn handled(&mut self, is_dead_lettered: bool) {
        self.raised(false, 1);
        let count = if is_dead_lettered { &mut self.counts.dead_lettered } else { &mut self.counts.skipped };
        *count += 1;
    }

    /// A call took longer than it may, and nothing can end it.
    pub(crate) fn overran(&mut self) {
        self.counts.failures += 1;
        self.counts.errors += 1;
    }

    /// A node that works elsewhere has reported a step.
    pub(crate) fn stepped(&mut self, step: Step) {
        match step {
            Step::Took(took) => self.called(took),
            Step::Retried(count) => {
                self.counts.retries += count;
                self.counts.failures += count;
            }
        }
    }

    /// One call of the node ended.
    pub(crate) fn called(&mut self, took: Duration) {
        self.inside += took;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if self.durations_ns.record(nanos).is_err() {
            // Longer than a histogram can hold, which is centuries.
            self.durations_ns.saturating_record(nanos);
        }
    }

    /// Calls that a bulk has measured.
    pub(crate) fn called_in_bulk(&mut self, calls: &Calls) {
        self.items_in += calls.items_in;
        self.items_out += calls.items_out;
        for &(took, count) in &calls.durations {
            self.inside += took * u32::try_from(count).unwrap_or(u32::MAX);
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.durations_ns.saturating_record_n(nanos, count);
        }
    }

    /// Add the metrics of another replica.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both hold durations with the same precision and resize themselves, so that adding cannot fail.
        self.durations_ns.add(&other.durations_ns).ok();
        self.inside += other.inside;
        self.items_in += other.items_in;
        self.items_out += other.items_out;
        self.counts.add(other.counts());
        self.initialize += other.initialize;
    }

    pub(crate) fn inside(&self) -> Duration {
        self.inside + self.initialize
    }

    pub(crate) fn report(&self, node_id: &str, node_type: &str, placement: &str) -> NodeMetrics {
        let calls = self.durations_ns.len();
        let counts = self.counts();
        let at = |quantile: f64| if calls == 0 { 0.0 } else { micros(self.durations_ns.value_at_quantile(quantile)) };
        NodeMetrics {
            node_id: node_id.to_owned(),
            node_type: node_type.to_owned(),
            placement: placement.to_owned(),
            items_in: self.items_in,
            items_out: self.items_out,
            errors: counts.errors,
            failures: counts.failures,
            retries: counts.retries,
            skipped: counts.skipped,
            dead_lettered: counts.dead_lettered,
            interrupted: counts.interrupted,
            restarts: 0,
            total_duration_us: whole_micros(self.inside),
            avg_duration_us: average_micros(self.inside, calls),
            min_duration_us: if calls == 0 { 0.0 } else { micros(self.durations_ns.min()) },
            max_duration_us: if calls == 0 { 0.0 } else { micros(self.durations_ns.max()) },
            p50_duration_us: at(0.50),
            p95_duration_us: at(0.95),
            p99_duration_us: at(0.99),
            initialize_duration_us: whole_micros(self.initialize),
            queue_wait_us: 0,
            peak_queue_len: 0,
            dropped: 0,
            worker: None,
        }
    }
}

/// The recorders of the nodes of one stage, which may be read while the stage is at work.
#[derive(Clone)]
pub(crate) struct Recorders(Arc<[Mutex<Recorder>]>);

impl Recorders {
    /// One for each node, which may count failures inside.
    pub(crate) fn new(inner_counts: impl Iterator<Item = Option<Arc<FailureCounts>>>) -> Self {
        let recorders = inner_counts.map(|inner_counts| Recorder { inner_counts, ..Recorder::new() });
        Self(recorders.map(Mutex::new).collect())
    }

    /// Note something about a node.
    pub(crate) fn note<R>(&self, node: usize, change: impl FnOnce(&mut Recorder) -> R) -> R {
        change(&mut self.0[node].lock())
    }
}

pub(crate) fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a rounded figure for people")]
fn average_micros(total: Duration, calls: u64) -> f64 {
    if calls == 0 { 0.0 } else { (total.as_secs_f64() * 1e6 / calls as f64 * 1000.0).round() / 1000.0 }
}
