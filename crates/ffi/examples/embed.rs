//! Runs the node objects of a Python module, `app.py`, from Rust, and prints `[10, 30, 60]`.

#![allow(clippy::disallowed_methods, reason = "this program has an interpreter of its own")]

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_ffi::{Object, run_blocking};
use remotemedia_runtime::Items;

pub(crate) fn outputs() -> PyResult<Vec<i64>> {
    Python::attach(|py| {
        let sys = py.import("sys")?;
        let core = pyo3::wrap_pymodule!(remotemedia_ffi::_core)(py);
        sys.getattr("modules")?.set_item("remotemedia._core", core)?;
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        sys.getattr("path")?.call_method1("extend", ([package, program],))?;

        let pipeline = py.import("app")?.getattr("pipeline")?;
        let graph = py.import("remotemedia._graph.graph")?.call_method1("resolve", (pipeline,))?;
        let numbers = PyList::new(py, 1..=3)?;
        let mut items = Items(numbers.iter().map(|number| Object(number.unbind())));
        let mut outputs: Vec<Object> = Vec::new();
        run_blocking(py, &graph, &mut items, &mut outputs, false)?;
        outputs.iter().map(|output| output.0.extract(py)).collect()
    })
}

#[allow(dead_code, clippy::print_stdout, reason = "an example shows what it does; a test calls the rest of it")]
fn main() -> PyResult<()> {
    println!("{:?}", outputs()?);
    Ok(())
}
