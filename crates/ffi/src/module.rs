//! The extension module `remotemedia._core`.

use pyo3::prelude::*;

/// What the Python package calls; its users call the package.
#[pymodule(gil_used = true)]
pub mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyList;

    use crate::call;
    #[pymodule_export]
    use crate::call::Call;

    /// The version of the crates.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python programs look for")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Run a graph on a thread of its own and deliver the outcome on an event loop.
    #[pyfunction]
    fn start(
        graph: &Bound<'_, PyAny>,
        feed: Py<PyAny>,
        event_loop: Py<PyAny>,
        deliver: Py<PyAny>,
        enable_metrics: bool,
    ) -> PyResult<Call> {
        call::start(graph, feed, event_loop, deliver, enable_metrics)
    }

    /// Run a graph on this thread.
    #[pyfunction]
    fn run<'py>(
        graph: &Bound<'py, PyAny>,
        feed: &Bound<'py, PyAny>,
        enable_metrics: bool,
    ) -> PyResult<(Bound<'py, PyList>, Option<Bound<'py, PyAny>>)> {
        call::run(graph, feed, enable_metrics)
    }
}
