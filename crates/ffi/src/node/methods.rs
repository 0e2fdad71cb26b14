//! The methods of a user's object: which it has, of what kind they are, and how the others than `process` are called.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFunction, PyString, PyTuple};

use crate::asyncio::bridge::Bridge;
use crate::node::outputs::Kind;

/// When a coroutine of a node ends at the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// When the run is cancelled.
    Cancelled,
    /// When it ends by itself: it cleans up.
    Own,
}

/// Calls other methods of an object than `process`, where that runs.
pub(super) struct OtherMethods<'a> {
    pub(super) bridge: &'a Bridge,
    pub(super) runs_on_loop: bool,
}

impl OtherMethods<'_> {
    /// Call the method of this name, if the object has one. Returns whether it has.
    pub(super) fn call_if_any(&self, object: &Bound<'_, PyAny>, name: &str, end: End) -> PyResult<bool> {
        let Some(method) = optional_method(object, name)? else { return Ok(false) };
        self.call(method.bind(object.py()), PyTuple::empty(object.py()), end)?;
        Ok(true)
    }

    /// Call a method. A coroutine is awaited.
    pub(super) fn call<'py>(
        &self,
        method: &Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        end: End,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.runs_on_loop {
            return self.bridge.call(method, args, end == End::Own);
        }
        let mut returned = method.call1(args)?;
        while Kind::of(&returned)? == Kind::Coroutine {
            returned = match end {
                End::Cancelled => self.bridge.wait(returned)?,
                End::Own => self.bridge.wait_to_the_end(returned)?,
            };
        }
        Ok(returned)
    }
}

/// Whether the event loop runs `process`.
pub(super) fn is_async(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_async_kind(classify(object)?.extract()?))
}

pub(super) fn classify<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static CLASSIFY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASSIFY.import(object.py(), "remotemedia._graph.node_kinds", "classify")?.call1((object,))
}

pub(super) fn is_source(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_SOURCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    IS_SOURCE.import(object.py(), "remotemedia._graph.node_kinds", "is_source")?.call1((object,))?.extract()
}

pub(super) fn is_async_kind(kind: &str) -> bool {
    matches!(kind, "coroutine" | "async_generator" | "streaming")
}

/// Whether the event loop runs `process`, and can end it.
pub(crate) fn runs_on_loop(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(matches!(classify(object)?.extract::<&str>()?, "coroutine" | "async_generator"))
}

/// The function behind `object.process`, if it is an ordinary method of the object.
pub(super) fn plain_function<'py>(
    object: &Bound<'py, PyAny>,
    method: &Bound<'py, PyAny>,
) -> Option<Bound<'py, PyFunction>> {
    let owner = method.getattr("__self__").ok()?;
    let function = method.getattr("__func__").ok()?.cast_into::<PyFunction>().ok()?;
    owner.is(object).then_some(function)
}

/// The method `name`, if the object has one.
pub(super) fn optional_method(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Py<PyAny>>> {
    let method = attribute_or_none(object, name)?;
    Ok(method.is_callable().then(|| method.unbind()))
}

/// By way of Python's `getattr`: where there is none, others make an error first, which costs more than calling a node.
fn attribute_or_none<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static GETATTR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    GETATTR.import(py, "builtins", "getattr")?.call1((object, PyString::intern(py, name), py.None()))
}

/// Whether the object says that it is ready; then it belongs to its caller.
pub(super) fn is_initialized(object: &Bound<'_, PyAny>) -> bool {
    attribute_or_none(object, "is_initialized").is_ok_and(|value| value.is(PyBool::new(object.py(), true)))
}

/// A subclass that cleans up without calling its base would else seem ready, and its caller's, in the next run.
pub(crate) fn forget_initialized(object: &Bound<'_, PyAny>) {
    if is_initialized(object) {
        // An object whose flag cannot be set keeps it: then it says so of itself.
        drop(object.setattr("is_initialized", false));
    }
}
