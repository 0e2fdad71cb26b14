//! What the service measures, in the text format of Prometheus.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>; names follow <https://prometheus.io/docs/practices/naming/>.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::LabelPair;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use remotemedia_runtime::{Metrics, NodeMetrics};

/// The media type of [`TextEncoder`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper ends of the classes of durations, in seconds.
const DURATIONS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const MICROS: f64 = 1e6;

/// A counter of nodes: its name, what it says, and where that is.
type OfNode<T> = (&'static str, &'static str, fn(&NodeMetrics) -> T);

const COUNTERS: [OfNode<u64>; 8] = [
    ("remotemedia_node_items_in_total", "Items that a node received.", |node| node.items_in),
    ("remotemedia_node_items_out_total", "Outputs of a node.", |node| node.items_out),
    ("remotemedia_node_errors_total", "Items that failed at a node after all retries.", |node| node.errors),
    ("remotemedia_node_failures_total", "Calls of a node that raised.", |node| node.failures),
    ("remotemedia_node_retries_total", "Calls of a node that were made again.", |node| node.retries),
    ("remotemedia_node_dropped_total", "Items that found the queue of a node full.", |node| node.dropped),
    ("remotemedia_node_interrupted_total", "Items of a node that were cancelled.", |node| node.interrupted),
    ("remotemedia_node_restarts_total", "Workers of a node that were replaced.", |node| node.restarts),
];

const SECONDS: [OfNode<f64>; 2] = [
    ("remotemedia_node_seconds_total", "Time in the calls of a node.", |node| seconds(node.total_duration_us)),
    ("remotemedia_node_queue_seconds_total", "Time that items waited for a node.", |node| seconds(node.queue_wait_us)),
];

/// What is measured of requests.
pub(crate) struct RequestMetrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    pub(crate) in_progress: IntGauge,
}

impl RequestMetrics {
    pub(crate) fn new() -> Self {
        let requests = Opts::new("remotemedia_requests_total", "Requests by path and status.");
        let durations =
            HistogramOpts::new("remotemedia_request_duration_seconds", "Time from a request to its response.");
        let metrics = Self {
            registry: Registry::new(),
            requests: fine(IntCounterVec::new(requests, &["path", "status"])),
            durations: fine(HistogramVec::new(durations.buckets(DURATIONS.to_vec()), &["path"])),
            in_progress: fine(IntGauge::new("remotemedia_calls_in_progress", "Calls that are in progress.")),
        };
        let Self { registry, requests, durations, in_progress } = &metrics;
        fine(registry.register(Box::new(requests.clone())));
        fine(registry.register(Box::new(durations.clone())));
        fine(registry.register(Box::new(in_progress.clone())));
        fine(registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())));
        metrics
    }

    /// How many calls there were, and how many of them failed.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let (mut total, mut failed) = (0, 0);
        for family in self.requests.collect() {
            for metric in family.get_metric() {
                let label = |name| {
                    let labels = metric.get_label().iter();
                    labels.filter(move |label| label.name() == name).map(LabelPair::value).next().unwrap_or_default()
                };
                if label("path") == "/call" {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                    let count = metric.get_counter().get_value() as u64;
                    total += count;
                    failed += if label("status").starts_with('2') { 0 } else { count };
                }
            }
        }
        (total, failed)
    }

    /// A request of a known path has its response.
    pub(crate) fn note(&self, path: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[path, &status.to_string()]).inc();
        self.durations.with_label_values(&[path]).observe(took.as_secs_f64());
    }

    /// All that is known now.
    pub(crate) fn text(&self, nodes: Option<&Metrics>, fill: &Fill) -> Vec<u8> {
        let mut text = Vec::new();
        let mut families = self.registry.gather();
        families.extend(nodes.map(of_nodes).unwrap_or_default());
        families.extend(fill.families());
        // It writes to memory, and the names are ours.
        fine(TextEncoder::new().encode(&families, &mut text));
        text
    }
}

/// How full the service is at this moment.
pub(crate) struct Fill {
    /// The sessions that are open.
    pub(crate) sessions: usize,
    /// The node after each queue, the items in the queue, and for how many it has room.
    pub(crate) queues: Vec<(String, usize, usize)>,
}

impl Fill {
    fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        let registry = Registry::new();
        let sessions = fine(IntGauge::new("remotemedia_sessions_open", "WebSockets that are open."));
        sessions.set(signed(self.sessions));
        fine(registry.register(Box::new(sessions)));
        let gauge = |name, help| {
            let gauge = fine(IntGaugeVec::new(Opts::new(name, help), &["node"]));
            fine(registry.register(Box::new(gauge.clone())));
            gauge
        };
        let items = gauge("remotemedia_node_queue_items", "Items in the queue before a node.");
        let room = gauge("remotemedia_node_queue_capacity_items", "Items for which the queue before a node has room.");
        for (node, len, capacity) in &self.queues {
            items.with_label_values(&[node]).set(signed(*len));
            if *capacity < usize::MAX {
                room.with_label_values(&[node]).set(signed(*capacity));
            }
        }
        registry.gather()
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn of_nodes(metrics: &Metrics) -> Vec<prometheus::proto::MetricFamily> {
    let registry = Registry::new();
    let nodes = || metrics.node_metrics.iter();
    for (name, help, of) in COUNTERS {
        let counter = fine(IntCounterVec::new(Opts::new(name, help), &["node"]));
        nodes().for_each(|node| counter.with_label_values(&[&node.node_id]).inc_by(of(node)));
        fine(registry.register(Box::new(counter)));
    }
    for (name, help, of) in SECONDS {
        let counter = fine(prometheus::CounterVec::new(Opts::new(name, help), &["node"]));
        nodes().for_each(|node| counter.with_label_values(&[&node.node_id]).inc_by(of(node)));
        fine(registry.register(Box::new(counter)));
    }
    let quantiles = Opts::new("remotemedia_node_duration_seconds", "Quantiles of the time of one call of a node.");
    let quantiles = fine(GaugeVec::new(quantiles, &["node", "quantile"]));
    for node in nodes() {
        let of_node = [("0.5", node.p50_duration_us), ("0.95", node.p95_duration_us), ("0.99", node.p99_duration_us)];
        for (quantile, micros) in of_node {
            quantiles.with_label_values(&[&*node.node_id, quantile]).set(micros / MICROS);
        }
    }
    fine(registry.register(Box::new(quantiles)));
    let cpu = Opts::new("remotemedia_worker_cpu_seconds_total", "Processor time of the workers of a node.");
    let cpu = fine(prometheus::CounterVec::new(cpu, &["node"]));
    let memory = Opts::new("remotemedia_worker_resident_memory_bytes", "Memory that the workers of a node hold.");
    let memory = fine(IntGaugeVec::new(memory, &["node"]));
    for (node, worker) in nodes().filter_map(|node| Some((&*node.node_id, node.worker.as_ref()?))) {
        cpu.with_label_values(&[node]).inc_by(seconds(worker.cpu_us));
        memory.with_label_values(&[node]).set(i64::try_from(worker.resident_bytes).unwrap_or(i64::MAX));
    }
    fine(registry.register(Box::new(cpu)));
    fine(registry.register(Box::new(memory)));
    registry.gather()
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// The value of what fails only for a name or label that is not allowed.
fn fine<T>(made: prometheus::Result<T>) -> T {
    made.expect("the names of metrics and labels are allowed, and each is there once")
}
