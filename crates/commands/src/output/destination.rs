//! A file or a pipe that bytes go to.

use std::fs::File;
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};

use crate::Failure;
use crate::input::Place;
use crate::terminal::{reason, write_failure};

/// As much as is written to a file at once.
const FILE_WRITE_BYTES: usize = 64 * 1024;

/// Bytes on their way to a file or a pipe.
pub(crate) struct Destination {
    pub(crate) name: String,
    /// What is not written yet.
    pub(crate) buffer: Vec<u8>,
    pub(crate) is_terminal: bool,
    file: File,
    pub(crate) is_regular: bool,
}

/// Why bytes are still waiting.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// A signal came while the reader of the pipe was slow; try again after looking at it.
    Signal,
    /// They cannot be written.
    Failed(Failure),
}

impl Destination {
    pub(crate) fn open(place: &Place) -> Result<Self, Failure> {
        let name = match place {
            Place::Stdin => "stdout".to_owned(),
            Place::File(path) => path.display().to_string(),
        };
        let file = match place {
            Place::Stdin => stdout_file(),
            Place::File(path) => File::create(path),
        };
        let file = file.map_err(|error| Failure::usage(format!("cannot write to {name}: {}", reason(&error))))?;
        let is_regular = matches!(place, Place::File(_)) && file.metadata().is_ok_and(|found| found.is_file());
        Ok(Self { name, buffer: Vec::new(), is_terminal: file.is_terminal(), file, is_regular })
    }

    /// Whether what waits should be written now.
    pub(crate) fn is_due(&self) -> bool {
        !self.is_regular || self.buffer.len() >= FILE_WRITE_BYTES
    }

    /// Write all that waits. What could not be written waits on.
    pub(crate) fn write_out(&mut self) -> Result<(), Stuck> {
        let mut written = 0;
        let mut outcome = Ok(());
        while written < self.buffer.len() && outcome.is_ok() {
            // Not `write_all`: it goes back to waiting after a signal, and Ctrl-C would do nothing.
            match self.file.write(&self.buffer[written..]) {
                Ok(0) => outcome = Err(Stuck::Failed(write_failure(&self.name, &io::ErrorKind::WriteZero.into()))),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => outcome = Err(Stuck::Signal),
                Err(error) => outcome = Err(Stuck::Failed(write_failure(&self.name, &error))),
            }
        }
        self.buffer.drain(..written);
        outcome
    }

    /// Write over bytes that were written before, where the destination lets go back.
    pub(crate) fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        if !self.is_regular {
            return Ok(());
        }
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| write_failure(&self.name, &error))
    }
}

/// Stdout without the line buffer of the standard library.
#[cfg(unix)]
fn stdout_file() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn stdout_file() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    io::stdout().as_handle().try_clone_to_owned().map(File::from)
}
