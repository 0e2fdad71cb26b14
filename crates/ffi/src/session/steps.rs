//! What nodes do at the items of single calls, for those who trace them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::PyErr;
use remotemedia_commands::OnStep;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Client, Observer, Phase, Plan, RunError};

use crate::convert::object::Object;
use crate::session::call::Call;

/// The number of an item that has none yet.
const NONE: u64 = u64::MAX;

/// Observes a session for the callers of its calls, and for the log.
pub(crate) struct CallSteps {
    log: Option<Arc<dyn Observer>>,
    /// By the number of the item in the session.
    calls: Mutex<HashMap<u64, OnStep>>,
}

impl CallSteps {
    pub(crate) fn new(log: Option<Arc<dyn Observer>>) -> Arc<Self> {
        Arc::new(Self { log, calls: Mutex::default() })
    }

    /// Report the steps of a call until it is done.
    pub(crate) fn observe(self: &Arc<Self>, call: Call, on_step: OnStep) -> ObservedCall {
        ObservedCall { call, on_step, item_index: AtomicU64::new(NONE), steps: Arc::clone(self) }
    }
}

impl Observer for CallSteps {
    fn opened(&self, plan: &Plan) {
        if let Some(log) = &self.log {
            log.opened(plan);
        }
    }

    fn stepped(&self, node_id: &str, phase: Phase, item_index: Option<u64>, took: Duration) {
        if let Some(log) = &self.log {
            log.stepped(node_id, phase, item_index, took);
        }
        let on_step = item_index.and_then(|index| self.calls.lock().get(&index).cloned());
        if let Some(on_step) = on_step {
            on_step(node_id, took);
        }
    }
}

/// A call whose steps are reported.
pub(crate) struct ObservedCall {
    call: Call,
    on_step: OnStep,
    item_index: AtomicU64,
    steps: Arc<CallSteps>,
}

impl Client<Object> for ObservedCall {
    fn numbered(&self, item_index: u64) {
        self.item_index.store(item_index, Ordering::Relaxed);
        self.steps.calls.lock().insert(item_index, Arc::clone(&self.on_step));
    }

    fn output(&self, output: Object) {
        self.call.output(output);
    }

    fn done(&self, outcome: Result<(), RunError<PyErr>>) {
        self.steps.calls.lock().remove(&self.item_index.load(Ordering::Relaxed));
        self.call.done(outcome);
    }

    fn forget(&self) {
        self.call.forget();
    }
}
