//! Runs the node objects of a Python module, `app.py`, from Rust, and prints `[10, 30, 60]`.

use pyo3::prelude::*;
use remotemedia_ffi::{Object, run_blocking};
use remotemedia_runtime::{Feed, Sink};

struct Numbers(std::ops::RangeInclusive<i64>);

impl Feed<Object> for Numbers {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let Some(number) = self.0.next() else { return Ok(None) };
        Python::attach(|py| Ok(Some(Object(number.into_pyobject(py)?.into_any().unbind()))))
    }
}

struct Collected(Vec<i64>);

impl Sink<Object> for Collected {
    fn accept(&mut self, output: Object) -> PyResult<()> {
        self.0.push(Python::attach(|py| output.0.extract(py))?);
        Ok(())
    }
}

pub(crate) fn outputs() -> PyResult<Vec<i64>> {
    Python::attach(|py| {
        let sys = py.import("sys")?;
        let core = pyo3::wrap_pymodule!(remotemedia_ffi::_core)(py);
        sys.getattr("modules")?.set_item("remotemedia._core", core)?;
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        sys.getattr("path")?.call_method1("extend", ([package, program],))?;

        let pipeline = py.import("app")?.getattr("pipeline")?;
        let graph = py.import("remotemedia.core._graph")?.call_method1("resolve", (pipeline,))?;
        let mut outputs = Collected(Vec::new());
        run_blocking(py, &graph, &mut Numbers(1..=3), &mut outputs, false)?;
        Ok(outputs.0)
    })
}

#[allow(dead_code, clippy::print_stdout, reason = "an example shows what it does; a test calls the rest of it")]
fn main() -> PyResult<()> {
    println!("{:?}", outputs()?);
    Ok(())
}
