//! The `remotemedia-host` program: RemoteMedia without an installed wheel.
//!
//! It finds the user's Python environment, starts the interpreter that it was built with as that environment's own would start,
//! hands it the Python package that it carries inside, and calls the commands. It knows nothing of pipelines.

mod environment;
mod interpreter;
mod package;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use environment::Environment;
use interpreter::Interpreter;
use pyo3::types::PyAnyMethods;
use remotemedia_commands::HOST_PROGRAM;

/// The exit code of wrong use: what was asked for does not exist or fit.
const USAGE: u8 = 2;

/// The exit code of Python itself when it could not write out what was left in its buffers.
const LOST_OUTPUT: u8 = 120;

/// The first word of a call that this program makes of itself, for a worker. No user has a reason for it, so no help mentions it.
const WORKER: &str = "worker";

#[allow(clippy::print_stderr, reason = "the commands, which print for us, run inside the interpreter")]
fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("{HOST_PROGRAM}: {problem}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<u8, String> {
    let words = arguments.get(1..).unwrap_or_default();
    if let [word, interpreter] = words
        && word == WORKER
    {
        return be_worker(arguments, interpreter);
    }
    let options = match remotemedia_commands::host_options(words.iter().cloned()) {
        Ok(options) => options,
        // Help, or a complaint about the words: it has been printed.
        Err(code) => return Ok(code),
    };
    let environment = Environment::find(options.python.as_deref(), options.target.as_deref())?;
    let interpreter = Interpreter::start(&environment.interpreter, arguments)?;
    let code = interpreter.attach(|py| {
        package::install(py, &environment)?;
        package::warn_of_other_versions(py)?;
        Ok(remotemedia_ffi::main(py, HOST_PROGRAM, words.to_vec()))
    });
    let code = code.map_err(|error: pyo3::PyErr| format!("cannot start the embedded Python package: {error}"));
    let is_flushed = interpreter.finish();
    match code? {
        0 if !is_flushed => Ok(LOST_OUTPUT),
        code => Ok(code),
    }
}

/// Be a worker process, in the environment in which the program that started it runs.
fn be_worker(arguments: &[OsString], interpreter: &OsString) -> Result<u8, String> {
    let environment = Environment::of_parent(interpreter);
    let interpreter = Interpreter::start(&environment.interpreter, arguments)?;
    let served = interpreter.attach(|py| {
        package::install(py, &environment)?;
        py.import("remotemedia._workers.process")?.call_method0("main").map(drop)
    });
    let served = served.map_err(|error: pyo3::PyErr| format!("the worker failed: {error}"));
    interpreter.finish();
    served.map(|()| 0)
}
