//! The steps of a run on the Python logger `remotemedia`, at level DEBUG.

use std::sync::Arc;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use remotemedia_runtime::{Observer, Payload, Phase, Plan, Reporter, Stall};

use crate::attach::attach;
use crate::convert::failure;
use crate::convert::object::Object;

/// `logging.DEBUG`.
const DEBUG: u8 = 10;

/// An observer that logs, if DEBUG is enabled, which it can only be once `logging` has been imported.
pub(crate) fn observer(py: Python<'_>) -> PyResult<Option<Arc<dyn Observer>>> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if LOGGER.get(py).is_none() && !py.import("sys")?.getattr("modules")?.contains("logging")? {
        return Ok(None);
    }
    let logger = LOGGER.get_or_try_init(py, || {
        // Not taken from `sys.modules`: another thread may be in the middle of importing it, and is waited for here.
        PyResult::Ok(py.import("logging")?.call_method1("getLogger", ("remotemedia",))?.unbind())
    })?;
    let is_enabled: bool = logger.bind(py).call_method1(intern!(py, "isEnabledFor"), (DEBUG,))?.extract()?;
    Ok(is_enabled.then(|| Arc::new(LoggingObserver { logger: logger.clone_ref(py) }) as Arc<dyn Observer>))
}

struct LoggingObserver {
    logger: Py<PyAny>,
}

impl LoggingObserver {
    fn debug(&self, text: &str) {
        attach(|py| {
            if let Err(error) = self.logger.bind(py).call_method1("debug", ("%s", text)) {
                error.write_unraisable(py, Some(self.logger.bind(py)));
            }
        });
    }
}

impl Observer for LoggingObserver {
    fn opened(&self, plan: &Plan) {
        let ids: Vec<&str> = plan.nodes().iter().map(|node| node.id.as_str()).collect();
        self.debug(&format!("pipeline '{}': plan of {} nodes: {}", plan.name(), ids.len(), ids.join(", ")));
        for (stage, number) in plan.stages().iter().zip(1..) {
            let ids: Vec<&str> = stage.nodes.iter().map(|&node| plan.nodes()[node].id.as_str()).collect();
            self.debug(&format!("stage {number} ({}): {}", stage.placement.name(), ids.join(", ")));
        }
    }

    fn stepped(&self, node_id: &str, phase: Phase, item_index: Option<u64>, took: Duration) {
        let item = item_index.map_or_else(String::new, |index| format!(" item {index}"));
        self.debug(&format!("node '{node_id}': {}{item} in {} us", phase.name(), took.as_micros()));
    }
}

/// Logs to the logger `remotemedia` what stops no run, but should be known.
pub(crate) struct LoggingReporter;

impl Reporter<Object> for LoggingReporter {
    fn log_ignored(&self, fault: PyErr) {
        log_ignored_error(&fault);
    }

    fn stalled(&self, stall: &Stall) {
        let thread = (!stall.is_in_worker).then_some(stall.thread);
        let arguments = (stall.node_id.clone(), stall.item_index, stall.for_at_least.as_secs_f64(), thread);
        log("stalled", |py| arguments.into_pyobject(py));
    }

    fn abandoned(&self, stall: &Stall, timeout: Duration) {
        report_abandoned(stall, timeout);
    }

    fn dropped(&self, node_id: &str, count: u64) {
        log("dropped", |py| (node_id, count).into_pyobject(py));
    }
}

/// Log an error that belongs to no input. A cancellation is not an error.
pub(crate) fn log_ignored_error(fault: &PyErr) {
    if !Object::is_cancellation(fault) {
        log("log_ignored_error", |py| (failure::original(py, fault).into_value(py),).into_pyobject(py));
    }
}

/// Log a call that did not return when the run closed.
pub(crate) fn report_abandoned(stall: &Stall, waited: Duration) {
    let waited_secs = (waited.as_secs_f64() * 10.0).round() / 10.0;
    let arguments = (stall.node_id.clone(), stall.item_index, stall.phase.name(), waited_secs, stall.thread);
    log("report_abandoned", |py| arguments.into_pyobject(py));
}

/// Call a function of `remotemedia._log`.
fn log(name: &str, arguments: impl FnOnce(Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyTuple>>) {
    attach(|py| {
        let called = py.import("remotemedia._log").and_then(|module| module.getattr(name)?.call1(arguments(py)?));
        failure::report(py, called);
    });
}
