//! `remotemedia.serve`: the service of the command line, in a program of Python.

use std::ffi::OsString;

use pyo3::prelude::*;
use remotemedia_commands::{Failure, ServeHost, serve_pipeline};

use crate::attach::{attach, detach};
use crate::command_failure::attached;
use crate::convert::failure;
use crate::loader::PyPipeline;

/// Serve a checked graph on this thread. `host` is a `remotemedia._serving.Host`.
pub(crate) fn serve(graph: &Bound<'_, PyAny>, words: Vec<OsString>, host: Py<PyAny>) -> PyResult<()> {
    let py = graph.py();
    let mut pipeline = PyPipeline::of(graph, Some(host.getattr(py, "new_opener")?))?;
    let outcome = detach(py, move || serve_pipeline(words, &mut pipeline, &PyHost(host)));
    outcome.map_err(|failure| raised(py, &failure))
}

/// The exception for a failure: what Python has raised, or what the service says itself.
fn raised(py: Python<'_>, failure: &Failure) -> PyErr {
    let cause = failure.cause.as_ref().and_then(|cause| cause.0.downcast_ref::<PyErr>());
    cause.map_or_else(
        || failure::made_by(py, "remotemedia._cli.serving", "refusal", (&failure.message,)),
        |error| error.clone_ref(py),
    )
}

/// The program around the service.
struct PyHost(Py<PyAny>);

impl ServeHost for PyHost {
    fn check_stop(&self) -> Result<(), Failure> {
        attached(|py| self.0.call_method0(py, "check_stop").map(drop))
    }

    fn ready(&self, url: &str) {
        // An error of the program does not stop the service.
        attach(|py| failure::report(py, self.0.call_method1(py, "ready", (url,))));
    }

    fn shows(&self, is_warning: bool, text: &str) -> bool {
        let shown = attached(|py| self.0.call_method1(py, "shows", (is_warning, text))?.extract(py));
        shown.unwrap_or(false)
    }
}
