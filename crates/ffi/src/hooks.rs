//! The trace and profile functions that Python gives to threads that it starts itself.

use pyo3::prelude::*;

/// Let this thread, which Python has not started, follow `threading.settrace` and `threading.setprofile`: debuggers, coverage and
/// profilers see its nodes. Called from here and not from Python, so that no frame of ours is reported.
pub(crate) fn follow(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    for (current, set) in [("gettrace", "settrace"), ("getprofile", "setprofile")] {
        let hook = threading.call_method0(current)?;
        if !hook.is_none() {
            py.import("sys")?.call_method1(set, (hook,))?;
        }
    }
    Ok(())
}
