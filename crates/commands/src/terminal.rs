//! The one module that prints. Outputs of pipelines have their own way out, in `output`.

use std::io::{self, IsTerminal};

use crate::descriptor;
use crate::failure::{Failure, FailureKind};

/// Print `text` to stdout, as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let written = descriptor::stdout().and_then(|mut stdout| descriptor::write_all(&mut stdout, text.as_bytes()));
    written.map_err(|error| write_failure("stdout", &error))
}

/// Print a line to stderr. A failure is ignored: there is no place to report it.
pub(crate) fn note(text: &str) {
    write(format!("{text}\n").as_bytes());
}

/// Print whole lines to stderr, as [`note`].
pub(crate) fn write(lines: &[u8]) {
    let _ = descriptor::stderr().and_then(|mut stderr| descriptor::write_all(&mut stderr, lines));
}

/// Print why a command ended early, as far as its user needs to know.
pub(crate) fn report(failure: &Failure, program: &str, with_full_traceback: bool) {
    match failure.kind {
        FailureKind::OutputClosed => return,
        FailureKind::Interrupted if failure.message.is_empty() => return note("interrupted"),
        FailureKind::Terminated if failure.message.is_empty() => return note("terminated"),
        _ => {}
    }
    let traceback = if with_full_traceback { &failure.full_traceback } else { &failure.traceback };
    if let Some(traceback) = traceback.as_ref().filter(|text| !text.trim().is_empty()) {
        note(traceback.trim_end());
    }
    note(&format!("{program}: {}", failure.message.trim_end()));
    if !with_full_traceback && hides_frames(failure) {
        note("(use --traceback to show the full traceback)");
    }
}

/// Print clap's help or error, and return its exit code.
pub(crate) fn report_usage(error: &clap::Error) -> u8 {
    // With stdout closed the help has no reader.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Whether a person watches stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// The failure for an error in writing to `target`.
pub(crate) fn write_failure(target: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(FailureKind::OutputClosed, format!("{target} was closed by its reader"));
    }
    Failure::failed(format!("cannot write to {target}: {}", reason(error)))
}

/// The failure for an error in reading `source`.
pub(crate) fn read_failure(source: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {source}: {}", reason(error)))
}

/// Why the system refused something, without the number that it has for that.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Whether the short traceback leaves out frames of the full one.
fn hides_frames(failure: &Failure) -> bool {
    failure.traceback.is_some() && failure.full_traceback.is_some() && failure.full_traceback != failure.traceback
}
