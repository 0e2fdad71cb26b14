//! Measures the calls in a kernel: a function for each node, which the kernel calls with each result.
//!
//! It is a C function with one argument, because the interpreter calls nothing else as fast, and a call is measured that takes
//! no longer itself.

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use remotemedia_runtime::{CallTimes, Calls};

/// The measured calls of one node.
#[pyclass(module = "remotemedia._core", frozen)]
struct NodeTimes(CallTimes);

/// The functions for the nodes of a kernel, and what they have measured.
pub(crate) struct Timing(Vec<(Py<NodeTimes>, Py<PyAny>)>);

impl Timing {
    pub(crate) fn new(py: Python<'_>, nodes: usize) -> PyResult<Self> {
        let with_function = |times| {
            let times = Bound::new(py, NodeTimes(times))?;
            let function = function_of(&times)?;
            Ok((times.unbind(), function.unbind()))
        };
        CallTimes::of(nodes).into_iter().map(with_function).collect::<PyResult<_>>().map(Self)
    }

    /// The function of each node: it returns its argument.
    pub(crate) fn functions(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.0.iter().map(|(_, function)| function.clone_ref(py)).collect()
    }

    /// The times of one of the nodes.
    pub(crate) fn node(&self, node: usize) -> &CallTimes {
        &self.0[node].0.get().0
    }

    /// What each node has measured since the last time.
    pub(crate) fn take(&self) -> Vec<Calls> {
        self.0.iter().map(|(times, _)| times.get().0.take()).collect()
    }
}

#[allow(unsafe_code, reason = "PyO3 makes no functions with this calling convention")]
fn function_of<'py>(times: &Bound<'py, NodeTimes>) -> PyResult<Bound<'py, PyAny>> {
    // The address of the definition, which the interpreter keeps and which therefore lives for ever.
    static DEFINITION: OnceLock<usize> = OnceLock::new();
    let definition = *DEFINITION.get_or_init(|| {
        std::ptr::from_mut(Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: c"note".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: note },
            ml_flags: ffi::METH_O,
            ml_doc: std::ptr::null(),
        }))) as usize
    });
    // SAFETY: the definition is one of a function with one argument; `times` is what the function takes as its first.
    unsafe {
        let function =
            ffi::PyCFunction_NewEx(definition as *mut ffi::PyMethodDef, times.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(times.py(), function)
    }
}

/// A node has returned `result`. Returns it.
#[allow(unsafe_code, reason = "the interpreter calls it")]
unsafe extern "C" fn note(times: *mut ffi::PyObject, result: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this while the thread is attached, with the object that `function_of` gave it, which the
    // function keeps alive, and with an argument that it holds.
    unsafe {
        let py = Python::assume_attached();
        let times = Borrowed::from_ptr(py, times).cast_unchecked::<NodeTimes>();
        times.get().0.note(result != ffi::Py_None());
        ffi::Py_INCREF(result);
    }
    result
}
