//! The metrics of nodes that something else than the engine calls, such as an event loop.

use std::time::{Duration, Instant};

use crate::execution::metrics::{Metrics, Recorder, whole_micros};
use crate::locks::Mutex;

/// A node, as metrics name it.
#[derive(Clone, Debug)]
pub struct MeasuredNode {
    /// Its id.
    pub id: String,
    /// The name of its class.
    pub node_type: String,
    /// Where it runs.
    pub placement: String,
}

/// Collects the metrics of the nodes of a pipeline. Nodes are given by their numbers in plan order.
pub struct Measurement {
    pipeline: String,
    nodes: Vec<MeasuredNode>,
    opened: Instant,
    state: Mutex<State>,
}

struct State {
    recorders: Vec<Recorder>,
    items_in: u64,
    items_out: u64,
    interrupted: u64,
    waited: Duration,
    peak_queue_len: u64,
}

impl Measurement {
    /// Start the clock.
    pub fn new(pipeline: String, nodes: Vec<MeasuredNode>) -> Self {
        let recorders = nodes.iter().map(|_| Recorder::new()).collect();
        let state =
            State { recorders, items_in: 0, items_out: 0, interrupted: 0, waited: Duration::ZERO, peak_queue_len: 0 };
        Self { pipeline, nodes, opened: Instant::now(), state: Mutex::new(state) }
    }

    fn note(&self, node: usize, change: impl FnOnce(&mut Recorder)) {
        change(&mut self.state.lock().recorders[node]);
    }

    /// A node was initialized.
    pub fn note_initialize(&self, node: usize, took: Duration) {
        self.note(node, |recorder| recorder.initialize += took);
    }

    /// A node receives an item.
    pub fn note_item(&self, node: usize) {
        self.note(node, |recorder| recorder.items_in += 1);
    }

    /// A call of a node has ended.
    pub fn note_call(&self, node: usize, took: Duration) {
        self.note(node, |recorder| recorder.called(took));
    }

    /// A call of a node raised, or was stopped by an interruption.
    pub fn note_failure(&self, node: usize, is_interrupt: bool) {
        self.note(node, |recorder| recorder.raised(is_interrupt, 1));
    }

    /// A node made an output.
    pub fn note_output(&self, node: usize) {
        self.note(node, |recorder| recorder.items_out += 1);
    }

    /// An item came in.
    pub fn count_in(&self) {
        self.state.lock().items_in += 1;
    }

    /// An output left the last node.
    pub fn count_out(&self) {
        self.state.lock().items_out += 1;
    }

    /// Items were dropped by an interruption.
    pub fn count_interrupted(&self, items: u64) {
        self.state.lock().interrupted += items;
    }

    /// So many items wait to enter the nodes.
    pub fn note_queue(&self, len: u64) {
        let mut state = self.state.lock();
        state.peak_queue_len = state.peak_queue_len.max(len);
    }

    /// Items have waited to enter the nodes, for this time in all.
    pub fn note_wait(&self, waited: Duration) {
        self.state.lock().waited += waited;
    }

    /// The metrics so far.
    pub fn metrics(&self) -> Metrics {
        let total = self.opened.elapsed();
        let state = self.state.lock();
        let inside: Duration = state.recorders.iter().map(Recorder::inside).sum();
        let report =
            |(recorder, node): (&Recorder, &MeasuredNode)| recorder.report(&node.id, &node.node_type, &node.placement);
        let mut node_metrics: Vec<_> = state.recorders.iter().zip(&self.nodes).map(report).collect();
        if let Some(first) = node_metrics.first_mut() {
            first.queue_wait_us = whole_micros(state.waited);
            first.peak_queue_len = state.peak_queue_len;
        }
        Metrics {
            items_in: state.items_in,
            items_out: state.items_out,
            interrupted: state.interrupted,
            ..Metrics::of_nodes(&self.pipeline, total, inside, node_metrics)
        }
    }
}
