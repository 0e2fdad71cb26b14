//! What an interpreter writes as it aborts: its stack, which the error about its end has, too, and which should be read once.

use std::time::{Duration, Instant};

use crate::payload::Payload;
use crate::worker::parent::client::Remote;
use crate::worker::{ExitCause, StdStream, WorkerExit};

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
    /// Whether a line belongs here. If it turns out that the process does not abort, the lines so far are passed to `told`.
    pub(crate) fn take(&mut self, line: &str, mut told: impl FnMut(&str)) -> bool {
        if self.since.is_some_and(|since| since.elapsed() >= ABORT_TIMEOUT || self.lines.len() >= MOST_LINES) {
            self.since = None;
            self.lines.drain(..).for_each(|line| told(&line));
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

/// The last output of a worker that an error may contain: its item is given to another worker, and if it ends that as well, the item's
/// error says the same.
#[derive(Default)]
pub(crate) struct HeldBack {
    lines: Vec<String>,
    item: Option<u64>,
}

impl HeldBack {
    /// A worker has ended. `told` is the loss that an error tells of, if one does.
    pub(crate) fn add<P: Payload>(
        &mut self,
        remote: &Remote<P>,
        lines: Vec<String>,
        item: Option<u64>,
        told: Option<&WorkerExit>,
    ) {
        let is_told = told.is_some_and(|loss| !matches!(loss.cause, ExitCause::TimedOut(_)));
        if !(is_told && item.is_some() && item == self.item) {
            self.tell(remote);
        }
        *self = Self { lines: if is_told { Vec::new() } else { lines }, item };
        if item.is_none() {
            self.tell(remote);
        }
    }

    /// Tell what was held back for an item that is done, and so for nothing.
    pub(crate) fn tell_if_done<P: Payload>(&mut self, remote: &Remote<P>) {
        let is_done = |item| !remote.lock().pending.contains_key(&item);
        if !self.lines.is_empty() && self.item.is_none_or(is_done) {
            self.tell(remote);
        }
    }

    fn tell<P: Payload>(&mut self, remote: &Remote<P>) {
        for line in self.lines.drain(..) {
            remote.codec.write_line(&remote.spec.node_ids, StdStream::Err, &line);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::worker::parent::crash_output::*;

    /// Which of the lines are told at once.
    fn told(output: &mut CrashOutput, lines: &[&str]) -> Vec<String> {
        let mut told = Vec::new();
        for line in lines {
            let mut earlier = Vec::new();
            let is_held = output.take(line, |line| earlier.push(line.to_owned()));
            told.append(&mut earlier);
            told.extend((!is_held).then(|| (*line).to_owned()));
        }
        told
    }

    #[test]
    fn an_abort_and_what_follows_are_held_back() {
        let mut output = CrashOutput::default();

        assert_eq!(told(&mut output, &["busy", "Fatal Python error: Aborted", "", "Current thread"]), ["busy"]);
        assert_eq!(output.lines(), ["Fatal Python error: Aborted", "", "Current thread"]);
    }

    #[test]
    fn a_process_that_only_says_so_goes_on_saying() {
        let mut output = CrashOutput::default();
        told(&mut output, &["Fatal Python error: a joke"]);
        output.since = output.since.and_then(|since| since.checked_sub(ABORT_TIMEOUT));

        assert_eq!(told(&mut output, &["and on"]), ["Fatal Python error: a joke", "and on"]);
    }
}
