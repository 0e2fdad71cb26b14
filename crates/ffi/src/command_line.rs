//! The command line, on Python's main thread: what `remotemedia_core.main` and `remotemedia-host` have in common.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::attach::detach;
use crate::loader::PyLoader;

/// Run the command that `arguments` name, and return its exit code. `program` is the name that its messages begin with.
///
/// For as long as it runs, SIGTERM ends it as Ctrl-C does, nodes cleaned up, and what user code prints goes to stderr: stdout
/// is for outputs alone.
pub fn main(py: Python<'_>, program: &str, arguments: Vec<OsString>) -> u8 {
    let around = match surroundings(py) {
        Ok(around) => around,
        Err(error) => {
            error.print(py);
            return 1;
        }
    };
    let code = detach(py, move || remotemedia_commands::main(arguments.into_iter(), program, &PyLoader));
    if let Err(error) = around.call_method0(py, "close") {
        error.print(py);
    }
    code
}

fn surroundings(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(py.import("remotemedia._cli.signals")?.call_method0("enter")?.unbind())
}
