//! The Python package that the program carries inside.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::environment::Environment;

/// The path below `python/remotemedia` and the text of each file of the package.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/package.in"));

/// Makes `import remotemedia` find the package inside, whatever is installed.
const FINDER: &str = include_str!("finder.py");

/// Make the package importable.
pub(crate) fn install(py: Python<'_>, environment: &Environment) -> PyResult<()> {
    let files = PyDict::new(py);
    for (path, content) in FILES {
        files.set_item(path, PyBytes::new(py, content))?;
    }
    let core = pyo3::wrap_pymodule!(remotemedia_ffi::_core)(py);
    let finder = PyModule::from_code(
        py,
        &std::ffi::CString::new(FINDER)?,
        c"<remotemedia-host>/finder.py",
        c"_remotemedia_host_finder",
    )?;
    // A worker is another process of this program.
    let program = std::env::current_exe()?;
    finder.call_method1("install", (files, core, environment.origin, program.as_os_str()))?;
    Ok(())
}

/// Warn about installed packages of other versions, which other programs of this environment use.
pub(crate) fn warn_of_other_versions(py: Python<'_>) -> PyResult<()> {
    py.import("remotemedia._cli.doctor")?.call_method0("warn_of_other_versions").map(drop)
}
