//! The metrics of nodes that run on the caller's event loop.

use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::{MeasuredNode, Measurement};

use crate::convert::json::metrics_to_python;

/// Collects the metrics of nodes that an event loop calls. Nodes are given by their numbers in plan order.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct LoopMetrics(Measurement);

#[pymethods]
impl LoopMetrics {
    /// `nodes` are triples of an id, the name of a class, and a placement.
    #[new]
    fn new(pipeline: String, nodes: Vec<(String, String, String)>) -> Self {
        let nodes = nodes.into_iter().map(|(id, node_type, placement)| MeasuredNode { id, node_type, placement });
        Self(Measurement::new(pipeline, nodes.collect()))
    }

    fn note_initialize(&self, node: usize, nanos: u64) {
        self.0.note_initialize(node, Duration::from_nanos(nanos));
    }

    fn note_item(&self, node: usize) {
        self.0.note_item(node);
    }

    fn note_call(&self, node: usize, nanos: u64) {
        self.0.note_call(node, Duration::from_nanos(nanos));
    }

    fn note_failure(&self, node: usize, is_interrupt: bool) {
        self.0.note_failure(node, is_interrupt);
    }

    fn note_output(&self, node: usize) {
        self.0.note_output(node);
    }

    fn count_in(&self) {
        self.0.count_in();
    }

    fn count_out(&self) {
        self.0.count_out();
    }

    fn count_interrupted(&self, items: u64) {
        self.0.count_interrupted(items);
    }

    fn note_queue(&self, len: u64) {
        self.0.note_queue(len);
    }

    fn note_wait(&self, nanos: u64) {
        self.0.note_wait(Duration::from_nanos(nanos));
    }

    /// The metrics so far, as a dict.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        metrics_to_python(py, &self.0.metrics())
    }
}
