//! A file or a pipe that bytes go to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::replacement::Replacement;
use crate::descriptor;
use crate::failure::Failure;
use crate::input::Place;
use crate::loader::Loader;
use crate::terminal::{reason, write_failure};

/// How many bytes are written to a file at once.
const FILE_WRITE_BYTES: usize = 64 * 1024;

/// How often to check whether a named pipe has a reader.
const READER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes on their way to a file or a pipe.
pub(crate) struct Destination {
    pub(crate) name: String,
    /// What is not written yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) is_terminal: bool,
    file: File,
    /// What becomes of a file that appears as a whole; nothing for a pipe or a device.
    replacement: Option<Replacement>,
}

/// Why bytes are still waiting.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// It is time to look for signals; try again after that.
    Signal,
    /// They cannot be written.
    Failed(Failure),
}

impl Destination {
    /// Open `place` for writing. A file keeps what it holds until [`Destination::commit`].
    pub(crate) fn open(place: &Place, loader: &dyn Loader) -> Result<Self, Failure> {
        let (name, opened) = match place {
            Place::Stdin => ("stdout".to_owned(), descriptor::stdout().map(|file| (file, None))),
            Place::File(path) => (path.display().to_string(), open_path(path, loader)?),
        };
        let (file, replacement) =
            opened.map_err(|error| Failure::usage(format!("cannot write to {name}: {}", reason(&error))))?;
        Ok(Self { name, buffer: Vec::new(), is_terminal: file.is_terminal(), file, replacement })
    }

    /// Whether this is a file, which never makes its writer wait.
    pub(crate) fn is_regular(&self) -> bool {
        self.replacement.is_some()
    }

    /// Write what waits: all of it to a pipe or a terminal, where a reader may be waiting for it; to a file when it is much.
    pub(crate) fn write_due(&mut self) -> Result<(), Stuck> {
        let is_due = !self.is_regular() || self.buffer.len() >= FILE_WRITE_BYTES;
        if is_due { self.write_out() } else { Ok(()) }
    }

    /// Write all that waits. What could not be written waits on.
    pub(crate) fn write_out(&mut self) -> Result<(), Stuck> {
        let mut written = 0;
        let mut outcome = Ok(());
        while written < self.buffer.len() && outcome.is_ok() {
            // Not `write_all`: it goes back to waiting after a signal, and Ctrl-C would do nothing.
            match descriptor::write_some(&mut self.file, &self.buffer[written..]) {
                Ok(0) => outcome = Err(Stuck::Failed(write_failure(&self.name, &ErrorKind::WriteZero.into()))),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => outcome = Err(Stuck::Signal),
                Err(error) => outcome = Err(Stuck::Failed(write_failure(&self.name, &error))),
            }
        }
        self.buffer.drain(..written);
        outcome
    }

    /// Replace bytes that were written before, if the destination is a regular file.
    pub(crate) fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        if !self.is_regular() {
            return Ok(());
        }
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| write_failure(&self.name, &error))
    }

    /// All is written: put the new file in the place of the old one.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        let Some(replacement) = &mut self.replacement else { return Ok(()) };
        replacement.commit().map_err(|error| write_failure(&self.name, &error))
    }

    /// A sentence about what was written before a failure, if that is to be found somewhere.
    pub(crate) fn partial(&self) -> Option<String> {
        self.replacement.as_ref()?.partial(&self.file, &self.name)
    }
}

/// The file to write to, and what becomes of it. Fails only if the user does not want to wait any longer.
fn open_path(path: &Path, loader: &dyn Loader) -> Result<io::Result<(File, Option<Replacement>)>, Failure> {
    let opened = match (descriptor::named_by(path), path.metadata()) {
        (Some(file), _) => file,
        (None, Ok(found)) if found.file_type().is_fifo() => open_named_pipe(path, loader)?,
        (None, Ok(found)) if !found.is_file() && !found.is_dir() => OpenOptions::new().write(true).open(path),
        _ => return Ok(Replacement::begin(path).map(|(file, replacement)| (file, Some(replacement)))),
    };
    Ok(opened.map(|file| (file, None)))
}

/// Wait for the reader of a named pipe. The system would wait without a look at signals.
fn open_named_pipe(path: &Path, loader: &dyn Loader) -> Result<io::Result<File>, Failure> {
    loop {
        if let Some(opened) = descriptor::open_named_pipe(path).transpose() {
            return Ok(opened);
        }
        thread::sleep(READER_POLL_INTERVAL);
        loader.check_signals()?;
    }
}
