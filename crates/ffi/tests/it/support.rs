//! The interpreter, feeds and sinks that the tests share.

use std::ffi::CString;
use std::ops::Range;
use std::sync::Once;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_ffi::{Object, run_blocking};
use remotemedia_runtime::{Feed, Sink};

/// Run a test in the interpreter, which has our package and the module `user_nodes`.
pub(crate) fn python(test: impl FnOnce(Python<'_>) -> PyResult<()>) {
    static IS_PREPARED: Once = Once::new();
    Python::attach(|py| {
        // The other tests need the interpreter, so waits for them are detached.
        py.detach(|| IS_PREPARED.call_once(|| Python::attach(|py| prepare(py).expect("the package is importable"))));
        test(py).expect("no unexpected exception");
    });
}

fn prepare(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let core = pyo3::wrap_pymodule!(remotemedia_ffi::_core)(py);
    sys.getattr("modules")?.set_item("remotemedia._core", core)?;
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    sys.getattr("path")?.call_method1("extend", ([package, program],))?;
    sys.setattr("dont_write_bytecode", true)
}

/// What an expression over the names of `user_nodes` gives.
pub(crate) fn user_node<'py>(py: Python<'py>, expression: &str) -> PyResult<Bound<'py, PyAny>> {
    py.eval(&CString::new(expression)?, Some(&py.import("user_nodes")?.dict()), None)
}

pub(crate) fn evaluate<'py>(py: Python<'py>, expression: &str) -> PyResult<Bound<'py, PyAny>> {
    py.eval(&CString::new(expression)?, None, None)
}

/// The checked pipeline of these nodes.
pub(crate) fn graph_of<'py>(nodes: &[Bound<'py, PyAny>]) -> PyResult<Bound<'py, PyAny>> {
    let py = nodes[0].py();
    py.import("remotemedia._graph.graph")?.call_method1("resolve", (PyList::new(py, nodes)?,))
}

/// What comes out of a chain of nodes.
pub(crate) fn run<'py>(
    py: Python<'py>,
    nodes: &[Bound<'py, PyAny>],
    mut feed: impl Feed<Object>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut outputs = Vec::new();
    let mut sink = Called(|output: Object| {
        outputs.push(output.0);
        Ok(())
    });
    run_blocking(py, &graph_of(nodes)?, &mut feed, &mut sink, false)?;
    Ok(outputs.into_iter().map(|output| output.into_bound(py)).collect())
}

pub(crate) fn numbers(outputs: &[Bound<'_, PyAny>]) -> Vec<i64> {
    outputs.iter().map(|output| output.extract().expect("the outputs are numbers")).collect()
}

/// Numbers one by one.
pub(crate) struct Numbers(pub(crate) Range<i64>);

impl Feed<Object> for Numbers {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let Some(number) = self.0.next() else { return Ok(None) };
        Python::attach(|py| Ok(Some(Object(number.into_pyobject(py)?.into_any().unbind()))))
    }
}

/// Numbers as many at once as the engine wants.
pub(crate) struct Chunked(pub(crate) Numbers);

impl Feed<Object> for Chunked {
    fn next(&mut self) -> PyResult<Option<Object>> {
        self.0.next()
    }

    fn next_chunk(&mut self, limit: usize) -> Option<PyResult<Object>> {
        let numbers: Vec<i64> = self.0.0.by_ref().take(limit).collect();
        Some(Python::attach(|py| Ok(Object(PyList::new(py, numbers)?.into_any().unbind()))))
    }
}

/// Objects that a closure gives.
pub(crate) struct Objects<F>(pub(crate) F);

impl Objects<()> {
    pub(crate) fn new<const COUNT: usize>(
        objects: [&Bound<'_, PyAny>; COUNT],
    ) -> Objects<impl FnMut() -> Option<Py<PyAny>>> {
        let mut objects = objects.map(|object| object.clone().unbind()).into_iter();
        Objects(move || objects.next())
    }
}

impl<F: FnMut() -> Option<Py<PyAny>>> Feed<Object> for Objects<F> {
    fn next(&mut self) -> PyResult<Option<Object>> {
        Ok((self.0)().map(Object))
    }
}

/// A sink that calls a closure.
pub(crate) struct Called<F>(pub(crate) F);

impl<F: FnMut(Object) -> PyResult<()>> Sink<Object> for Called<F> {
    fn accept(&mut self, output: Object) -> PyResult<()> {
        (self.0)(output)
    }
}
