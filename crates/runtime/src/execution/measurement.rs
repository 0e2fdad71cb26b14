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
    /// How many of the nodes make the items: the first one after them receives these.
    sources: usize,
    opened: Instant,
    state: Mutex<State>,
}

struct State {
    recorders: Vec<Recorder>,
    items_in: u64,
    items_out: u64,
    interrupted: u64,
    /// One for each node; only the first node of a stage has one.
    queues: Vec<Queue>,
}

#[derive(Clone, Default)]
struct Queue {
    waited: Duration,
    peak_len: u64,
}

impl Measurement {
    /// Start the clock. The first `sources` nodes make the items.
    pub fn new(pipeline: String, nodes: Vec<MeasuredNode>, sources: usize) -> Self {
        let recorders = nodes.iter().map(|_| Recorder::new()).collect();
        let queues = vec![Queue::default(); nodes.len()];
        let state = State { recorders, items_in: 0, items_out: 0, interrupted: 0, queues };
        Self { pipeline, nodes, sources, opened: Instant::now(), state: Mutex::new(state) }
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
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

    /// A call of a node that raised is made once more.
    pub fn note_retry(&self, node: usize) {
        self.note(node, Recorder::retried);
    }

    /// A node failed on an item for good, and something was done about that.
    pub fn note_handled(&self, node: usize, is_dead_lettered: bool) {
        self.note(node, |recorder| recorder.handled(is_dead_lettered));
    }

    /// A node made an output.
    pub fn note_output(&self, node: usize) {
        self.note(node, |recorder| recorder.items_out += 1);
    }

    /// A node of a chain receives an item.
    pub fn note_received(&self, node: usize) {
        let mut state = self.state.lock();
        state.recorders[node].items_in += 1;
        state.items_in += u64::from(node == self.sources);
    }

    /// A node of a chain has received an item and returned.
    pub fn note_returned(&self, node: usize, took: Duration, has_output: bool) {
        let mut state = self.state.lock();
        let recorder = &mut state.recorders[node];
        recorder.items_in += 1;
        recorder.called(took);
        recorder.items_out += u64::from(has_output);
        state.items_in += u64::from(node == self.sources);
        state.items_out += u64::from(has_output && node + 1 == self.nodes.len());
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

    /// So many items wait to enter a stage, whose first node this is.
    pub fn note_queue(&self, first: usize, len: u64) {
        let peak_len = &mut self.state.lock().queues[first].peak_len;
        *peak_len = len.max(*peak_len);
    }

    /// Items have waited to enter a stage, for this time in all.
    pub fn note_wait(&self, first: usize, waited: Duration) {
        self.state.lock().queues[first].waited += waited;
    }

    /// The metrics so far.
    pub fn metrics(&self) -> Metrics {
        let total = self.opened.elapsed();
        let state = self.state.lock();
        let inside: Duration = state.recorders.iter().map(Recorder::inside).sum();
        let report =
            |(recorder, node): (&Recorder, &MeasuredNode)| recorder.report(&node.id, &node.node_type, &node.placement);
        let mut node_metrics: Vec<_> = state.recorders.iter().zip(&self.nodes).map(report).collect();
        for (node, queue) in node_metrics.iter_mut().zip(&state.queues) {
            node.queue_wait_us = whole_micros(queue.waited);
            node.peak_queue_len = queue.peak_len;
        }
        Metrics {
            items_in: state.items_in,
            items_out: state.items_out,
            interrupted: state.interrupted,
            ..Metrics::of_nodes(&self.pipeline, total, inside, node_metrics)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(sources: usize) -> Measurement {
        let node =
            |id: &str| MeasuredNode { id: id.to_owned(), node_type: "Node".to_owned(), placement: "inline".to_owned() };
        Measurement::new("p".to_owned(), vec![node("a"), node("b"), node("c")], sources)
    }

    #[test]
    fn items_of_a_chain_come_in_at_its_first_node_and_leave_at_its_last() {
        let took = Duration::from_micros(2);
        for sources in [0, 1] {
            let measured = measurement(sources);

            measured.note_returned(sources, took, true);
            measured.note_received(sources);
            measured.note_returned(2, took, true);
            measured.note_returned(2, took, false);

            let metrics = measured.metrics();
            assert_eq!((metrics.items_in, metrics.items_out), (2, 1));
            assert_eq!((metrics.node_metrics[2].items_in, metrics.node_metrics[2].items_out), (2, 1));
            assert_eq!(metrics.node_metrics[2].total_duration_us, 4);
        }
    }

    #[test]
    fn each_stage_has_a_queue_at_its_first_node() {
        let measured = measurement(0);

        measured.note_queue(1, 3);
        measured.note_queue(1, 2);
        measured.note_wait(1, Duration::from_micros(5));

        let nodes = measured.metrics().node_metrics;
        let queues: Vec<_> = nodes.iter().map(|node| (node.peak_queue_len, node.queue_wait_us)).collect();
        assert_eq!(queues, [(0, 0), (3, 5), (0, 0)]);
    }

    #[test]
    fn an_item_that_is_skipped_or_dead_lettered_is_one_error() {
        let measured = measurement(0);

        measured.note_retry(0);
        measured.note_handled(0, false);
        measured.note_handled(1, true);
        measured.note_failure(2, true);

        let metrics = measured.metrics();
        assert_eq!((metrics.failures, metrics.retries, metrics.errors), (3, 1, 2));
        assert_eq!((metrics.skipped, metrics.dead_lettered, metrics.node_metrics[2].interrupted), (1, 1, 1));
    }
}
