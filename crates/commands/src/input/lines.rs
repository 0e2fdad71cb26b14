//! Lines of text, with their numbers.

use std::io::{BufRead, Read};

use crate::failure::Failure;
use crate::terminal::read_failure;

/// More than any line that is meant as one item; without a limit a binary file without line breaks would fill the memory.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// The lines of a UTF-8 text, without their ends (`\n` or `\r\n`).
pub(crate) struct Lines<R> {
    reader: R,
    name: String,
    /// The number of the line that was read last, from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, name: String) -> Self {
        Self { reader, name, number: 0 }
    }

    /// A failure that names the line that was read last.
    pub(crate) fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::failed(format!("{}, line {}: {what}", self.name, self.number))
    }

    fn read_line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = Vec::new();
        let count = self
            .reader
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| read_failure(&self.name, &error))?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        if count as u64 > MAX_LINE_BYTES {
            return Err(self.failure(format!("longer than {} MiB; is this a text file?", MAX_LINE_BYTES >> 20)));
        }
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if self.number == 1 && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        String::from_utf8(line).map(Some).map_err(|error| {
            let at = error.utf8_error().valid_up_to() + 1;
            self.failure(format!(
                "not UTF-8 text (at byte {at} of the line); convert the file with iconv, or set --format"
            ))
        })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<String, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_line().transpose()
    }
}
