//! The trace and profile functions that Python gives to threads that it starts itself.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Install the functions of `threading.settrace` and `threading.setprofile` on this thread, which Python has not started, so that
/// debuggers, coverage and profilers see its nodes. Called from Rust, not from Python, so that no frame of ours is reported.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    static GETTRACE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static GETPROFILE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    for (once, current, set) in [(&GETTRACE, "gettrace", "settrace"), (&GETPROFILE, "getprofile", "setprofile")] {
        let hook = once.import(py, "threading", current)?.call0()?;
        if !hook.is_none() {
            py.import("sys")?.call_method1(set, (hook,))?;
        }
    }
    Ok(())
}
