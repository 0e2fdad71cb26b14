//! A Python object as an item of the runtime.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use remotemedia_runtime::Payload;

use crate::asyncio::context::CallerContext;
use crate::attach::{attach, detach};
use crate::convert::failure::{self, CancelledError};
use crate::hooks;

/// A Python object on its way through a pipeline. It is passed on as it is, never copied or converted.
#[derive(Debug)]
pub struct Object(pub Py<PyAny>);

impl Payload for Object {
    type Fault = PyErr;
    type Context = CallerContext;

    fn current_context() -> CallerContext {
        attach(|py| or_none(py, CallerContext::with_callers(py)))
    }

    fn copy_context(context: &CallerContext) -> CallerContext {
        attach(|py| or_none(py, context.copy(py)))
    }

    fn is_same_context(context: &CallerContext, copy: &CallerContext) -> bool {
        attach(|py| match (context.object(py), copy.object(py)) {
            // Values that cannot be compared have changed.
            (Some(context), Some(copy)) => context.eq(copy).unwrap_or(false),
            _ => true,
        })
    }

    fn common_context(contexts: Vec<CallerContext>) -> CallerContext {
        attach(|py| or_none(py, CallerContext::common(py, &contexts)))
    }

    fn within<R>(context: &CallerContext, work: impl FnOnce() -> R) -> R {
        context.within(work)
    }

    fn duplicate(&self) -> Self {
        attach(|py| Self(self.0.clone_ref(py)))
    }

    fn duplicate_fault(fault: &PyErr) -> PyErr {
        attach(|py| fault.clone_ref(py))
    }

    fn wait<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        attach(|py| detach(py, work))
    }

    fn check_signals() -> PyResult<()> {
        #[allow(
            clippy::redundant_closure_for_method_calls,
            reason = "the method is for one lifetime, the closure for all"
        )]
        attach(|py| py.check_signals())
    }

    fn hold<R>(work: impl FnOnce() -> R) -> R {
        attach(|_| work())
    }

    fn dispose<T: Send>(garbage: T) {
        // Attached once for all of them.
        attach(|_| drop(garbage));
    }

    fn live(life: impl FnOnce() + Send) {
        static FORGET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        // Attached once and for all the interpreter keeps what it needs for this thread, instead of making it anew each time.
        attach(|py| {
            failure::report(py, hooks::install(py));
            detach(py, life);
            let forgotten = FORGET
                .import(py, "remotemedia._threads", "forget")
                .and_then(|forget| forget.call1((crate::node::lock::thread_id(),)));
            failure::report(py, forgotten);
        });
    }

    fn join(branches: Vec<(&str, Vec<Self>)>) -> Result<Self, PyErr> {
        attach(|py| {
            let joined = PyDict::new(py);
            for (id, mut outputs) in branches {
                let value = match outputs.len() {
                    0 => py.None().into_bound(py),
                    1 => outputs.remove(0).0.into_bound(py),
                    _ => PyList::new(py, outputs.into_iter().map(|output| output.0))?.into_any(),
                };
                joined.set_item(id, value)?;
            }
            Ok(Self(joined.into_any().unbind()))
        })
    }

    fn unpack(chunk: Self) -> Vec<Self> {
        attach(|py| match chunk.0.bind(py).cast::<PyList>() {
            Ok(items) => items.iter().map(|item| Self(item.unbind())).collect(),
            Err(_) => vec![chunk],
        })
    }

    fn pack(items: Vec<Self>) -> PyResult<Self> {
        attach(|py| Ok(Self(PyList::new(py, items.into_iter().map(|item| item.0))?.into_any().unbind())))
    }

    /// `KeyboardInterrupt`, `SystemExit` and cancellation, which Python itself sets apart from `Exception`.
    fn is_interrupt(fault: &PyErr) -> bool {
        attach(|py| !failure::original(py, fault).is_instance_of::<PyException>(py))
    }

    fn is_final(fault: &PyErr) -> bool {
        attach(|py| failure::is_final(py, fault))
    }

    fn is_cancellation(fault: &PyErr) -> bool {
        attach(|py| failure::original(py, fault).is_instance_of::<CancelledError>(py))
    }
}

/// Without memory for a context the work is done outside.
fn or_none(py: Python<'_>, context: PyResult<CallerContext>) -> CallerContext {
    context.unwrap_or_else(|error| {
        error.write_unraisable(py, None);
        CallerContext::default()
    })
}
