//! The Python package that the program carries inside.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::environment::Environment;

/// The path below `python/remotemedia` of each file of the package, its text, and the code of a module.
type File = (&'static str, &'static [u8], Option<&'static [u8]>);

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/package.in"));

/// The version of the code; empty if there is none.
const MAGIC_NUMBER: &[u8] = &include!(concat!(env!("OUT_DIR"), "/magic.in"));

/// Makes `import remotemedia` find the package inside, whatever is installed.
const FINDER: &str = include_str!("finder.py");

/// Make the package importable.
pub(crate) fn install(py: Python<'_>, environment: &Environment) -> PyResult<()> {
    let (files, compiled) = (PyDict::new(py), PyDict::new(py));
    for (path, text, module) in FILES {
        files.set_item(path, PyBytes::new(py, text))?;
        if let Some(module) = module {
            compiled.set_item(path, PyBytes::new(py, module))?;
        }
    }
    let compiled = (PyBytes::new(py, MAGIC_NUMBER), compiled);
    let core = pyo3::wrap_pymodule!(remotemedia_ffi::_core)(py);
    let finder = PyModule::from_code(
        py,
        &std::ffi::CString::new(FINDER)?,
        c"<remotemedia-host>/finder.py",
        c"_remotemedia_host_finder",
    )?;
    // A worker is another process of this program.
    let program = std::env::current_exe()?;
    finder.call_method1("install", (files, compiled, core, environment.origin, program.as_os_str()))?;
    Ok(())
}

/// Warn about installed packages of other versions, which other programs of this environment use.
pub(crate) fn warn_of_other_versions(py: Python<'_>) -> PyResult<()> {
    py.import("remotemedia._cli.doctor")?.call_method0("warn_of_other_versions").map(drop)
}
