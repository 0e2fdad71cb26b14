//! The context variables of callers, around the calls of nodes that work for them: copies, as with `asyncio.to_thread`.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::attach::attach;

/// A `contextvars.Context`. The default stands for none: work stays in the context of its thread.
#[derive(Clone, Default)]
pub struct CallerContext(Option<Arc<Py<PyAny>>>);

impl CallerContext {
    /// A copy of the context that this thread is in.
    #[allow(unsafe_code, reason = "PyO3 has no safe call for it")]
    pub(crate) fn current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: this thread is attached, and the call returns a new reference or NULL.
        Self::of_pointer(py, unsafe { ffi::PyContext_CopyCurrent() })
    }

    /// A copy, which a call may change.
    #[allow(unsafe_code, reason = "PyO3 has no safe call for it")]
    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let Some(context) = &self.0 else { return Ok(Self(None)) };
        // SAFETY: this thread is attached, the argument is a live context, and the call returns a new reference or NULL.
        Self::of_pointer(py, unsafe { ffi::PyContext_Copy(context.as_ptr()) })
    }

    #[allow(unsafe_code, reason = "PyO3 has no safe call for it")]
    fn of_pointer(py: Python<'_>, pointer: *mut ffi::PyObject) -> PyResult<Self> {
        // SAFETY: `pointer` is an owned reference, or NULL with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, pointer) }?;
        Ok(Self(Some(Arc::new(context.unbind()))))
    }

    /// The variables that have the same value in all of them.
    pub(crate) fn common(py: Python<'_>, contexts: &[Self]) -> PyResult<Self> {
        let Some((first, others)) = contexts.split_first() else { return Ok(Self(None)) };
        let address = |context: &Self| context.0.as_ref().map(|context| context.as_ptr());
        if others.iter().all(|other| address(other) == address(first)) {
            return first.copy(py);
        }
        let list = PyList::new(py, contexts.iter().flat_map(|context| &context.0).map(|context| context.bind(py)))?;
        let common = py.import("remotemedia._contexts")?.call_method1("common", (list,))?;
        Ok(Self(Some(Arc::new(common.unbind()))))
    }

    /// Run `work` in this context, which must not be entered already.
    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        let Some(context) = &self.0 else { return work() };
        attach(|py| {
            let _entered =
                Entered::new(context.bind(py)).inspect_err(|error| error.clone_ref(py).write_unraisable(py, None));
            work()
        })
    }
}

/// This thread is in a context for as long as this lives.
struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    #[allow(unsafe_code, reason = "PyO3 has no safe call for entering a context")]
    fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: this thread is attached, and the argument is a live context.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
            return Err(PyErr::fetch(context.py()));
        }
        Ok(Self(context))
    }
}

impl Drop for Entered<'_, '_> {
    #[allow(unsafe_code, reason = "PyO3 has no safe call for leaving a context")]
    fn drop(&mut self) {
        // SAFETY: this thread is attached, and has left every context that it entered after this one.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } < 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}
