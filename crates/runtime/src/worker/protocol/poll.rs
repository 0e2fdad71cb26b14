//! How threads of both sides wait.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a thread that waits for the other process checks whether it must stop.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a thread polls for the next message of the other process before it sleeps, if the last one came within this time: waking a
/// process may take longer.
pub(crate) const SHORT_WAIT: Duration = Duration::from_micros(40);

/// Wait until a file is readable, for at most `timeout` if there is one. May return too early.
pub(crate) fn await_readable(file: &impl AsFd, timeout: Option<Duration>) {
    poll(&mut [PollFd::new(file, PollFlags::IN)], timeout.map(timespec).as_ref()).ok();
}

/// A duration as `poll` takes it, at most an hour where it is too long for that.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    duration.try_into().unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
}
