//! Reading and writing that waits where the system would rather not.
//!
//! Parents such as Node.js and ssh hand on descriptors with `O_NONBLOCK`. The flag belongs to all programs that share the
//! descriptor, so it is left as it is, and a read or a write that would block waits in `poll`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// How long a signal may go unnoticed while a descriptor takes nothing.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A file or a pipe whose reads wait for data, whatever its flags say.
pub(crate) struct BlockingFile(pub(crate) File);

impl Read for BlockingFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::IN, None)?,
                other => return other,
            }
        }
    }
}

/// Write some of `bytes`, as `write` does; `Interrupted` also if nothing could be written for so long that it is time to look for
/// signals.
pub(crate) fn write_some(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    match file.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            wait_for(file, PollFlags::OUT, Some(SIGNAL_POLL_INTERVAL))?;
            Err(ErrorKind::Interrupted.into())
        }
        other => other,
    }
}

/// Write all of `bytes`, however long it takes.
pub(crate) fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_some(file, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Stdin without the lock and the buffer of the standard library, so that a thread left waiting in it holds nothing.
pub(crate) fn stdin() -> io::Result<File> {
    duplicate(io::stdin())
}

/// Stdout without the line buffer of the standard library.
pub(crate) fn stdout() -> io::Result<File> {
    duplicate(io::stdout())
}

/// Stderr, as a file.
pub(crate) fn stderr() -> io::Result<File> {
    duplicate(io::stderr())
}

/// The descriptor that a name such as `/dev/stdout` or `/dev/fd/3` stands for, as a file; nothing for other names.
///
/// Opening such a name would open the file behind it once more, from its beginning.
pub(crate) fn named_by(path: &Path) -> Option<io::Result<File>> {
    let number: i32 = match path.to_str()? {
        "/dev/stdout" => 1,
        "/dev/stderr" => 2,
        name => {
            let number = name.strip_prefix("/dev/fd/").or_else(|| name.strip_prefix("/proc/self/fd/"))?;
            number.parse().ok().filter(|number| *number >= 0)?
        }
    };
    // SAFETY: it is borrowed for one call, which duplicates it; one that is not open is refused by the system.
    #[allow(unsafe_code, reason = "the number comes from the command line")]
    let named = unsafe { BorrowedFd::borrow_raw(number) };
    Some(named.try_clone_to_owned().map(File::from))
}

/// Open a named pipe for writing; nothing while it has no reader.
pub(crate) fn open_named_pipe(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Wait until the file is ready for what the flags say, until `timeout` is over, or until a signal comes.
fn wait_for(file: &File, readiness: PollFlags, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| timeout.try_into().expect("a short time fits"));
    match poll(&mut [PollFd::new(file, readiness)], timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
