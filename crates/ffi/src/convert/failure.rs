//! The one place where failures of the runtime become Python exceptions.
//!
//! The exceptions are defined in Python; `remotemedia._errors` builds them for this executor and the reference one alike.

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use remotemedia_runtime::{Error, Failure, NodeFailure, RunError};

pyo3::import_exception!(asyncio, CancelledError);
pyo3::import_exception!(remotemedia._errors, Located);
pyo3::import_exception!(remotemedia.exceptions, ManifestError);
pyo3::import_exception!(remotemedia.exceptions, PipelineError);
pyo3::import_exception!(remotemedia.exceptions, SessionClosedError);
pyo3::import_exception!(remotemedia.exceptions, SessionInterruptedError);

const ERRORS: &str = "remotemedia._errors";

/// The exception for a refused pipeline or manifest.
pub(crate) fn refused(error: &Error) -> PyErr {
    match error {
        Error::Manifest { .. } => ManifestError::new_err(as_sentence(&error.to_string())),
        _ => PipelineError::new_err(as_sentence(&error.to_string())),
    }
}

/// The exception for a run that failed.
pub(crate) fn failed(py: Python<'_>, failure: Failure<PyErr>) -> PyErr {
    let first = failure.first.map(|error| ended(py, error));
    let cleanups: Vec<PyErr> = failure.cleanups.into_iter().map(|failure| node_error(py, failure)).collect();
    combine(py, first, cleanups).unwrap_or_else(|error| error)
}

/// The exception for what ended a run, or one input of a session.
pub(crate) fn ended(py: Python<'_>, error: RunError<PyErr>) -> PyErr {
    match error {
        RunError::Node(failure) => node_error(py, failure),
        RunError::Interrupt(fault) | RunError::Feed(fault) | RunError::Sink(fault) => original(py, &fault),
        RunError::Cancelled => CancelledError::new_err(()),
        RunError::Interrupted => SessionInterruptedError::new_err("The session was interrupted and dropped the item"),
        RunError::Closed => SessionClosedError::new_err("The session is closed; call pipeline.open() for a new one"),
        RunError::NoThread(error) => no_thread("the session", &error),
        RunError::Deadlock(text) => PipelineError::new_err(text),
        RunError::Timeout { node_id, item_index, timeout, is_stopped } => {
            made_by(py, ERRORS, "timeout_error", (node_id, item_index, timeout.as_secs_f64(), is_stopped))
        }
    }
}

/// The exception where the system refuses a thread; as in Python, a `RuntimeError`.
pub(crate) fn no_thread(whose: &str, error: &std::io::Error) -> PyErr {
    PyRuntimeError::new_err(format!(
        "Cannot start a thread for {whose}: {error}; raise the limits on threads and memory (ulimit -u, ulimit -v)"
    ))
}

/// The exception for a run that panicked.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    PyRuntimeError::new_err(format!(
        "the engine stopped because of an internal error; please report it: {}",
        text.unwrap_or("no further text")
    ))
}

pub(crate) fn node_error(py: Python<'_>, failure: NodeFailure<PyErr>) -> PyErr {
    // What Python sets apart from errors passes through as itself.
    let original = original(py, &failure.fault);
    if !original.is_instance_of::<pyo3::exceptions::PyException>(py) {
        return original;
    }
    let arguments = (failure.node_id, failure.item_index, failure.phase.name(), failure.fault.into_value(py));
    made_by(py, ERRORS, "node_error", arguments)
}

/// What a node in a worker raised, of an error that says where that was; else the error itself.
pub(crate) fn original(py: Python<'_>, fault: &PyErr) -> PyErr {
    if !fault.is_instance_of::<Located>(py) {
        return fault.clone_ref(py);
    }
    fault.value(py).getattr("error").map_or_else(|error| error, PyErr::from_value)
}

/// Whether a worker was lost that is not started again.
pub(crate) fn is_final(py: Python<'_>, fault: &PyErr) -> bool {
    fault.is_instance_of::<Located>(py)
        && fault.value(py).getattr("is_final").is_ok_and(|value| value.is_truthy().unwrap_or(true))
}

pub(crate) fn combine(py: Python<'_>, first: Option<PyErr>, cleanups: Vec<PyErr>) -> PyResult<PyErr> {
    if cleanups.is_empty()
        && let Some(first) = first
    {
        return Ok(first);
    }
    let cleanups: Vec<_> = cleanups.into_iter().map(|error| error.into_value(py)).collect();
    let first = first.map(|error| error.into_value(py));
    let combined = py.import(ERRORS)?.call_method1("combine", (first, cleanups))?;
    Ok(PyErr::from_value(combined))
}

/// The exception that a function of a Python module makes, or the one that it raises.
pub(crate) fn made_by<'py>(py: Python<'py>, module: &str, function: &str, arguments: impl PyCallArgs<'py>) -> PyErr {
    let made = py.import(module).and_then(|module| module.call_method1(function, arguments));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Report an error that no caller receives.
pub(crate) fn report<T>(py: Python<'_>, result: PyResult<T>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}

/// Rust errors are phrases in lower case, Python ones are sentences.
fn as_sentence(text: &str) -> String {
    let mut messages = text.chars();
    messages.next().map_or_else(String::new, |first| first.to_uppercase().chain(messages).collect())
}
