//! Items from outside as what the first node takes: instances of its class, if its annotation names one.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_runtime::Value;

use crate::convert::values;

pyo3::import_exception!(remotemedia._cli.items.shapes, ItemError);

/// Converts the items of a pipeline.
#[derive(Clone)]
pub(crate) struct ItemReader(Option<Arc<Py<PyAny>>>);

impl ItemReader {
    /// The reader for the items of a checked graph. Whether there is anything to convert is decided here, and not for each item.
    pub(crate) fn of(graph: &Bound<'_, PyAny>) -> PyResult<Self> {
        let reader = graph.py().import("remotemedia._cli.items.reader")?.call_method1("reader_of", (graph,))?;
        Ok(Self((!reader.is_none()).then(|| Arc::new(reader.unbind()))))
    }

    /// The item for a value.
    pub(crate) fn read<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        let item = values::to_python(py, value)?;
        match &self.0 {
            Some(reader) => reader.bind(py).call1((item,)),
            None => Ok(item),
        }
    }
}

/// What is wrong with an item that does not have the type that the first node takes.
pub(crate) fn mismatch(py: Python<'_>, error: &PyErr) -> Option<String> {
    error.is_instance_of::<ItemError>(py).then(|| error.value(py).to_string())
}
