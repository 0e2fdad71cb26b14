//! Failures of the commands, from what Python raises.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_commands::{Cause, Failure, FailureKind};

use crate::attach::attach;

/// Run `work` attached, and convert what it raises to a [`Failure`] of the commands.
pub(crate) fn attached<R>(work: impl FnOnce(Python<'_>) -> PyResult<R>) -> Result<R, Failure> {
    attach(|py| work(py).map_err(|error| failure_of(py, error)))
}

pub(crate) fn failure_of(py: Python<'_>, error: PyErr) -> Failure {
    let text = error.to_string();
    let cause = Cause(Arc::new(error.clone_ref(py)));
    let failure = explain(py, error).unwrap_or_else(|unexpected| Failure::failed(format!("{text} ({unexpected})")));
    Failure { cause: Some(cause), ..failure }
}

fn explain(py: Python<'_>, error: PyErr) -> PyResult<Failure> {
    let explain = py.import("remotemedia._cli.error_report")?.getattr("explain")?;
    let (kind, message, users, full, code): (String, String, String, String, u8) =
        explain.call1((error.into_value(py),))?.extract()?;
    let kind = match kind.as_str() {
        "usage" => FailureKind::Usage,
        "interrupted" => FailureKind::Interrupted,
        "terminated" => FailureKind::Terminated,
        "exit" => FailureKind::Exited(code),
        _ => FailureKind::Failed,
    };
    let non_empty = |text: String| (!text.is_empty()).then_some(text);
    Ok(Failure { kind, message, traceback: non_empty(users), full_traceback: non_empty(full), cause: None })
}
