//! The steps of a run on the Python logger `remotemedia`, at level DEBUG.

use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::{Observer, Phase, Plan};

/// An observer that logs, if somebody listens to DEBUG; nobody can, unless `logging` has been imported.
pub(crate) fn observer(py: Python<'_>) -> PyResult<Option<Box<dyn Observer>>> {
    if !py.import("sys")?.getattr("modules")?.contains("logging")? {
        return Ok(None);
    }
    // Not taken from `sys.modules`: another thread may be in the middle of importing it, and is waited for here.
    let logging = py.import("logging")?;
    let logger = logging.call_method1("getLogger", ("remotemedia",))?;
    let is_enabled: bool = logger.call_method1("isEnabledFor", (logging.getattr("DEBUG")?,))?.extract()?;
    Ok(is_enabled.then(|| Box::new(LoggingObserver { logger: logger.unbind() }) as Box<dyn Observer>))
}

struct LoggingObserver {
    logger: Py<PyAny>,
}

impl LoggingObserver {
    fn debug(&self, text: &str) {
        Python::attach(|py| {
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
