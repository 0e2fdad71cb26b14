//! The child process of a worker: its start, its end, and what it writes to its standard streams.

pub(crate) mod crash_output;
pub(crate) mod launch;
pub(crate) mod spawn;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::worker::parent::process::crash_output::CrashOutput;
use crate::worker::parent::process::spawn::{Spawned, spawn};
use crate::worker::protocol::poll::await_readable;
use crate::worker::usage::usage;
use crate::worker::{ExitCause, StdStream};

/// How many lines of the standard error stream are kept for the message about a worker's end.
const KEPT_LINES: usize = 20;

/// A line longer than this is cut.
const LONGEST_LINE: usize = 16 * 1024;

/// A process that was killed is gone after at most so long, unless the kernel itself is stuck.
pub(crate) const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a worker has started may take as long to end after it.
const CHILDREN_TIMEOUT: Duration = Duration::from_millis(500);

/// The signal at which a worker writes the stacks of its threads.
pub const STACK_SIGNAL: i32 = 50;

/// Stacks come in one go: after such a pause nothing more does.
const QUIET_TIME: Duration = Duration::from_millis(20);

/// A child in a process group of its own.
pub(crate) struct Process {
    id: Pid,
    /// Readable when the child has ended. Where the system has no such thing, the end of the socket shows it.
    ended: Option<OwnedFd>,
    is_reaped: bool,
    streams: [Lines; 2],
    stderr: VecDeque<String>,
    crash_output: CrashOutput,
    /// Processor time that it had used when it ended.
    pub(crate) cpu_us: u64,
}

impl Process {
    /// Start a program with `socket` as its standard input.
    pub(crate) fn start(program: &OsStr, arguments: &[impl AsRef<OsStr>], socket: OwnedFd) -> io::Result<Self> {
        let Spawned { id, stdout, stderr } = spawn(program, arguments, socket)?;
        let ended = rustix::process::pidfd_open(id, PidfdFlags::empty()).ok();
        let streams = [Lines::new(stdout.into(), StdStream::Out)?, Lines::new(stderr.into(), StdStream::Err)?];
        Ok(Self {
            id,
            ended,
            is_reaped: false,
            streams,
            stderr: VecDeque::new(),
            crash_output: CrashOutput::default(),
            cpu_us: 0,
        })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// What to watch: its end, and its streams as long as they are open.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = self.streams.iter().filter_map(|lines| lines.pipe.as_ref()).map(AsFd::as_fd);
        self.ended.iter().map(AsFd::as_fd).chain(streams)
    }

    /// The lines that have arrived since the last call.
    pub(crate) fn read_lines(&mut self, mut emit: impl FnMut(StdStream, &str)) {
        for lines in &mut self.streams {
            lines.read();
            while let Some(line) = lines.take_line() {
                if lines.stream == StdStream::Err {
                    if self.crash_output.take(&line, |line| emit(StdStream::Err, line)) {
                        continue;
                    }
                    self.stderr.push_back(line.clone());
                    if self.stderr.len() > KEPT_LINES {
                        self.stderr.pop_front();
                    }
                }
                emit(lines.stream, &line);
            }
        }
    }

    /// The last lines of its standard error stream.
    pub(crate) fn stderr(&self) -> String {
        let lines = self.stderr.iter().chain(self.crash_output());
        lines.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// What it wrote there as it aborted, which was not forwarded yet.
    pub(crate) fn crash_output(&self) -> &[String] {
        self.crash_output.lines()
    }

    /// Whether it has ended. It is not reaped here: until then its number is not reused, and its usage can be read.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Waiting fails if the process was already reaped.
        matches!(rustix::process::waitid(WaitId::Pid(self.id), options), Ok(Some(_)) | Err(_))
    }

    /// Wait for its end, for so long at most; whether it has ended.
    pub(crate) fn await_end(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.has_ended() || left.is_zero() {
                return self.has_ended();
            }
            match &self.ended {
                Some(ended) => await_readable(ended, Some(left)),
                None => std::thread::sleep(left.min(Duration::from_micros(200))),
            }
        }
    }

    /// Let it write to its standard error stream where its threads are, as far as it can.
    pub(crate) fn dump_stacks(&mut self, timeout: Duration, mut emit: impl FnMut(StdStream, &str)) {
        signal_stack_dump(self.id());
        let deadline = Instant::now() + timeout;
        let mut quiet_since = None;
        while Instant::now() < deadline && quiet_since.is_none_or(|since: Instant| since.elapsed() < QUIET_TIME) {
            let mut has_written = false;
            self.read_lines(|stream, line| {
                has_written |= stream == StdStream::Err;
                emit(stream, line);
            });
            if has_written {
                quiet_since = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// End it, whatever it is at.
    pub(crate) fn kill(&self) {
        let killed = match &self.ended {
            // Its number may be that of another one by now, where it was waited for by others.
            Some(process) => rustix::process::pidfd_send_signal(process, Signal::KILL),
            None => rustix::process::kill_process(self.id, Signal::KILL),
        };
        // One that has ended need not be ended.
        killed.ok();
    }

    /// Wait for its end, read the last of its streams, and end the processes that it has abandoned.
    pub(crate) fn reap(&mut self, emit: impl FnMut(StdStream, &str)) -> ExitCause {
        self.await_end(EXIT_TIMEOUT);
        self.cpu_us = usage(&self.id().to_string()).map_or(0, |usage| usage.cpu_us);
        let status = rustix::process::waitid(WaitId::Pid(self.id), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        self.is_reaped = !matches!(status, Ok(None));
        self.end_group();
        self.read_lines(emit);
        match status {
            Ok(Some(status)) => cause_of(status.terminating_signal(), status.exit_status()),
            Ok(None) => ExitCause::NotStarted("cannot wait for it".to_owned()),
            // The program ignores the ends of its children, or waits for all of them.
            Err(_) => {
                let status = self.ended.as_ref().and_then(status_of_gone);
                status.map_or(ExitCause::Unknown, |status| cause_of(status.signal(), status.code()))
            }
        }
    }

    /// End what it has started. What ends by itself with it, as that does which removes its temporary things, may do so.
    fn end_group(&self) {
        let group = self.id;
        let deadline = Instant::now() + CHILDREN_TIMEOUT;
        // An orphan is waited for by others.
        while rustix::process::test_kill_process_group(group).is_ok() {
            if Instant::now() >= deadline {
                rustix::process::kill_process_group(group, Signal::KILL).ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_reaped {
            // The process that held it open ended in the middle of the line.
            self.kill();
            self.reap(|_, _| {});
        }
    }
}

/// Let a process write where its threads are.
pub(crate) fn signal_stack_dump(process: u32) {
    // SAFETY: a number among those of the real-time signals, none of which a C library keeps for itself.
    #[allow(unsafe_code, reason = "rustix knows no names for real-time signals")]
    let signal = unsafe { Signal::from_raw_unchecked(STACK_SIGNAL) };
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // One that has ended in the meantime has nothing to report.
        rustix::process::kill_process(process, signal).ok();
    }
}

/// How a process ended that was already reaped. Newer systems report it as soon as the process is gone.
fn status_of_gone(process: &OwnedFd) -> Option<ExitStatus> {
    let deadline = Instant::now() + QUIET_TIME;
    loop {
        let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
        // SAFETY: the system writes to a structure that is as large as the request says, for which zeros are a value.
        #[allow(unsafe_code, reason = "rustix does not know this request")]
        let (has_info, info) = unsafe {
            (*info.as_mut_ptr()).mask = libc::PIDFD_INFO_EXIT.into();
            (libc::ioctl(process.as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) == 0, info.assume_init())
        };
        if has_info && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0 {
            return Some(ExitStatus::from_raw(info.exit_code));
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn cause_of(signal: Option<i32>, code: Option<i32>) -> ExitCause {
    signal.map_or_else(|| ExitCause::Exited(code.unwrap_or(-1)), ExitCause::Killed)
}

/// A pipe that is read line by line.
struct Lines {
    pipe: Option<std::fs::File>,
    stream: StdStream,
    bytes: Vec<u8>,
}

impl Lines {
    fn new(pipe: OwnedFd, stream: StdStream) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: Some(pipe.into()), stream, bytes: Vec::new() })
    }

    fn read(&mut self) {
        let mut chunk = [0; 8192];
        // Others come after one that never stops.
        for _ in 0..8 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// The next whole line, and at the end what is left.
    fn take_line(&mut self) -> Option<String> {
        let end = self.bytes.iter().position(|&byte| byte == b'\n');
        let (text, taken) = match end {
            Some(end) => (end, end + 1),
            None if self.bytes.len() > LONGEST_LINE || (self.pipe.is_none() && !self.bytes.is_empty()) => {
                (self.bytes.len(), self.bytes.len())
            }
            None => return None,
        };
        let line = String::from_utf8_lossy(&self.bytes[..text]).into_owned();
        self.bytes.drain(..taken);
        Some(line)
    }
}
