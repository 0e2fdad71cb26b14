//! The metrics of nodes that run on the caller's event loop, or on threads beside it.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::{MeasuredNode, Measurement};

use crate::convert::json::metrics_to_python;

/// Collects the metrics of nodes that an event loop calls. Nodes are given by their numbers in their stage.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct LoopMetrics {
    all: Arc<Measurement>,
    /// The number of the first node of the stage.
    first: usize,
    /// Whether outputs of the stage leave the pipeline.
    is_last: bool,
}

#[pymethods]
impl LoopMetrics {
    /// `nodes` are triples of an id, the name of a class, and a placement; the first `sources` of them make the items.
    #[new]
    fn new(pipeline: String, nodes: Vec<(String, String, String)>, sources: usize) -> Self {
        let nodes = nodes.into_iter().map(|(id, node_type, placement)| MeasuredNode { id, node_type, placement });
        Self { all: Arc::new(Measurement::new(pipeline, nodes.collect(), sources)), first: 0, is_last: true }
    }

    /// Collects the metrics of the stage of these nodes.
    fn of_stage(&self, first: usize, count: usize) -> Self {
        Self { all: Arc::clone(&self.all), first, is_last: first + count == self.all.len() }
    }

    fn note_initialize(&self, node: usize, nanos: u64) {
        self.all.note_initialize(self.first + node, Duration::from_nanos(nanos));
    }

    fn note_item(&self, node: usize) {
        self.all.note_item(self.first + node);
    }

    fn note_call(&self, node: usize, nanos: u64) {
        self.all.note_call(self.first + node, Duration::from_nanos(nanos));
    }

    fn note_failure(&self, node: usize, is_interrupt: bool) {
        self.all.note_failure(self.first + node, is_interrupt);
    }

    fn note_retry(&self, node: usize) {
        self.all.note_retry(self.first + node);
    }

    fn note_handled(&self, node: usize, is_dead_lettered: bool) {
        self.all.note_handled(self.first + node, is_dead_lettered);
    }

    fn note_output(&self, node: usize) {
        self.all.note_output(self.first + node);
    }

    fn note_received(&self, node: usize) {
        self.all.note_received(self.first + node);
    }

    fn note_returned(&self, node: usize, nanos: u64, has_output: bool) {
        self.all.note_returned(self.first + node, Duration::from_nanos(nanos), has_output);
    }

    fn count_in(&self) {
        if self.first == 0 {
            self.all.count_in();
        }
    }

    fn count_out(&self) {
        if self.is_last {
            self.all.count_out();
        }
    }

    fn count_interrupted(&self, items: u64) {
        self.all.count_interrupted(items);
    }

    fn note_queue(&self, len: u64) {
        self.all.note_queue(self.first, len);
    }

    fn note_wait(&self, nanos: u64) {
        self.all.note_wait(self.first, Duration::from_nanos(nanos));
    }

    /// The metrics of all nodes so far, as a dict.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        metrics_to_python(py, &self.all.metrics())
    }
}
