//! The context variables of callers, around the calls of nodes that work for them: copies, as with `asyncio.to_thread`.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use crate::attach::attach;
use crate::node::callers;
use crate::node::callers::{Callers, Frame, Frames, Place};

/// A `contextvars.Context`. The default stands for none: work stays in the context of its thread.
#[derive(Clone, Default)]
pub struct CallerContext(Option<Arc<Py<PyAny>>>);

impl CallerContext {
    /// A copy of the context that this thread is in, for work that is not waited for. It may be one for all callers that have no variables:
    /// only copies of it are entered.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Self> {
        static EMPTY: PyOnceLock<CallerContext> = PyOnceLock::new();
        let context = Self::copy_of_current(py)?;
        if context.object(py).is_some_and(|context| context.len().is_ok_and(|count| count == 0)) {
            return Ok(EMPTY.get_or_init(py, || context).clone());
        }
        if callers::carried(py)?.is_some() {
            context.set_callers(py, &Py::new(py, Callers::default())?)?;
        }
        Ok(context)
    }

    /// A copy of the context that this thread is in, for work that these calls of nodes wait for as long as the other value lives.
    pub(crate) fn awaited_by(py: Python<'_>, frames: Frames) -> PyResult<(Self, Option<AwaitedGuard>)> {
        let context = Self::copy_of_current(py)?;
        if frames.is_empty() && callers::carried(py)?.is_none() {
            return Ok((context, None));
        }
        let awaited = AwaitedGuard(Callers::holding(py, frames)?);
        context.set_callers(py, &awaited.0)?;
        Ok((context, Some(awaited)))
    }

    /// A copy of the context that this thread is in, for work that is waited for until the calls of nodes that this thread is in are over.
    pub(crate) fn with_callers(py: Python<'_>) -> PyResult<Self> {
        let frames = callers::current(py)?;
        if frames.is_empty() {
            return Self::copy_of_current(py);
        }
        Self::carrying(py, &Callers::holding(py, frames)?)
    }

    /// The same for work that is waited for now and then: `callers` says by whom.
    pub(crate) fn carrying(py: Python<'_>, callers: &Py<Callers>) -> PyResult<Self> {
        let context = Self::copy_of_current(py)?;
        context.set_callers(py, callers)?;
        Ok(context)
    }

    #[allow(unsafe_code, reason = "PyO3 has no safe call for it")]
    fn copy_of_current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: this thread is attached, and the call returns a new reference or NULL.
        Self::of_pointer(py, unsafe { ffi::PyContext_CopyCurrent() })
    }

    #[allow(unsafe_code, reason = "PyO3 has no safe call for it, and by way of methods it takes several times as long")]
    fn set_callers(&self, py: Python<'_>, callers: &Py<Callers>) -> PyResult<()> {
        let Some(context) = &self.0 else { return Ok(()) };
        let _entered = Entered::new(context.bind(py))?;
        // SAFETY: this thread is attached, and both arguments are live objects; the call returns a new reference or NULL.
        let token = unsafe { ffi::PyContextVar_Set(callers::variable(py)?.as_ptr(), callers.as_ptr()) };
        // SAFETY: as above.
        unsafe { Bound::from_owned_ptr_or_err(py, token) }.map(drop)
    }

    /// The `contextvars.Context`.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.0.as_ref().map(|context| context.bind(py))
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
        let common = py.import("remotemedia._asyncio.contexts")?.call_method1("common", (list,))?;
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

/// A call of a node that is in progress without a thread, until this is dropped.
pub(crate) struct BegunCall {
    frame: Arc<Frame>,
    _awaited: Option<AwaitedGuard>,
}

impl BegunCall {
    /// With the context for it.
    pub(crate) fn new(py: Python<'_>, place: &Arc<Place>) -> PyResult<(CallerContext, Self)> {
        let frame = Frame::begin(place);
        let frames = callers::with_own(callers::current(py)?, &frame);
        let (context, awaited) = CallerContext::awaited_by(py, frames)?;
        Ok((context, Self { frame, _awaited: awaited }))
    }
}

impl Drop for BegunCall {
    fn drop(&mut self) {
        self.frame.end();
    }
}

/// The work in a context is waited for as long as this lives.
pub(crate) struct AwaitedGuard(Py<Callers>);

impl Drop for AwaitedGuard {
    fn drop(&mut self) {
        self.0.get().hold(Frames::new());
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
