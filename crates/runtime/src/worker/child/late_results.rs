//! Results do not wait for an item that takes long.
//!
//! The thread of the nodes collects the results of short items, and cannot write them while it is in a node.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::worker::protocol::poll::timespec;

/// How long a result waits for the item behind it.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// Readable when results have waited long enough.
pub(crate) struct LateResults(OwnedFd);

impl LateResults {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Results wait from now on. Where they are written earlier, nothing is left to write when they are due.
    pub(crate) fn note_waiting(&self) {
        let once = Itimerspec { it_interval: Timespec::default(), it_value: timespec(LONGEST_WAIT) };
        // A node may have closed it. They then wait for the item.
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).ok();
    }

    /// Wait for other results.
    pub(crate) fn clear(&self) {
        rustix::io::read(&self.0, &mut [0; 8]).ok();
    }
}

impl AsFd for LateResults {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
