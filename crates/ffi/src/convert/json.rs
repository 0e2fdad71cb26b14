//! Metrics as Python objects.

use pyo3::prelude::*;
use pythonize::pythonize;
use remotemedia_runtime::Metrics;

/// The metrics of a run as a dict.
pub(crate) fn metrics_to_python<'py>(py: Python<'py>, metrics: &Metrics) -> PyResult<Bound<'py, PyAny>> {
    Ok(pythonize(py, metrics)?)
}
