//! What an interpreter writes as it aborts: its stack, which the error about its end has, too, and which should be read once.

use std::time::{Duration, Instant};

/// Python's fault handler begins with this, whatever the fault.
const BEGINNING: &str = "Fatal Python error: ";

/// A process that goes on writing for longer does not abort.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A program with many threads has many stacks.
const MOST_LINES: usize = 100;

/// The last lines that a process has written to its standard error stream, from the one on that says that it aborts.
#[derive(Default)]
pub(crate) struct CrashOutput {
    lines: Vec<String>,
    since: Option<Instant>,
}

impl CrashOutput {
    /// Whether a line belongs here. If it turns out that the process does not abort, the lines so far are passed to `emit`.
    pub(crate) fn take(&mut self, line: &str, mut emit: impl FnMut(&str)) -> bool {
        if self.since.is_some_and(|since| since.elapsed() >= ABORT_TIMEOUT || self.lines.len() >= MOST_LINES) {
            self.since = None;
            self.lines.drain(..).for_each(|line| emit(&line));
        }
        if self.since.is_none() && line.starts_with(BEGINNING) {
            self.since = Some(Instant::now());
        }
        if self.since.is_some() {
            self.lines.push(line.to_owned());
        }
        self.since.is_some()
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use crate::worker::parent::process::crash_output::*;

    /// Which of the lines are emitted at once.
    fn emitted(output: &mut CrashOutput, lines: &[&str]) -> Vec<String> {
        let mut emitted = Vec::new();
        for line in lines {
            let mut earlier = Vec::new();
            let is_held = output.take(line, |line| earlier.push(line.to_owned()));
            emitted.append(&mut earlier);
            emitted.extend((!is_held).then(|| (*line).to_owned()));
        }
        emitted
    }

    #[test]
    fn an_abort_and_what_follows_are_held_back() {
        let mut output = CrashOutput::default();

        assert_eq!(emitted(&mut output, &["busy", "Fatal Python error: Aborted", "", "Current thread"]), ["busy"]);
        assert_eq!(output.lines(), ["Fatal Python error: Aborted", "", "Current thread"]);
    }

    #[test]
    fn a_process_that_only_says_so_goes_on_saying() {
        let mut output = CrashOutput::default();
        emitted(&mut output, &["Fatal Python error: a joke"]);
        output.since = output.since.and_then(|since| since.checked_sub(ABORT_TIMEOUT));

        assert_eq!(emitted(&mut output, &["and on"]), ["Fatal Python error: a joke", "and on"]);
    }
}
