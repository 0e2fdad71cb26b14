//! From arguments to an exit code.

use std::ffi::OsString;

use crate::cli::{CommandLine, HostOptions, Verb};
use crate::loader::Loader;
use crate::{check, doctor, graph, nodes, run, serve, terminal};

/// Run the command line, and return the exit code of the process.
///
/// `arguments` are those after the name of the program. `program` is the name in help texts and errors;
/// [`HOST_PROGRAM`](crate::HOST_PROGRAM) accepts `--python` too, which it has handled by then.
pub fn main(arguments: impl Iterator<Item = OsString>, program: &str, loader: &dyn Loader) -> u8 {
    let line = match CommandLine::read(program, arguments.collect()) {
        Ok(line) => line,
        Err(error) => return terminal::report_usage(&error),
    };
    let outcome = match &line.verb {
        Verb::Run(options) => run::run(options, loader),
        Verb::Serve(options) => serve::serve(options, loader),
        Verb::Check(options) => check::check(options, loader),
        Verb::Graph(options) => graph::graph(options, loader),
        Verb::Nodes(options) => nodes::nodes(options, loader),
        Verb::Doctor => doctor::doctor(loader),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            terminal::report(&failure, program, line.traceback);
            failure.kind.exit_code()
        }
    }
}

/// What a host has to know before it starts an interpreter.
///
/// `Err` is an exit code: help, the version or a usage error has been printed, and no interpreter is needed.
pub fn host_options(arguments: impl Iterator<Item = OsString>) -> Result<HostOptions, u8> {
    HostOptions::read(arguments.collect()).map_err(|error| terminal::report_usage(&error))
}
