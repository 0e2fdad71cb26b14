//! Results do not wait for an item that takes long.
//!
//! The thread of the nodes collects the results of short items, and cannot write them while it is in a node.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::worker::protocol::poll::timespec;
use crate::worker::protocol::status_page::monotonic;

/// How long a result waits for those behind it.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// Readable when results may have waited long enough.
pub(crate) struct LateResults {
    timer: OwnedFd,
    /// When the oldest result came that is not written, in nanoseconds; 0 if all are.
    since_ns: AtomicU64,
    is_armed: AtomicBool,
}

impl LateResults {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer, since_ns: AtomicU64::new(0), is_armed: AtomicBool::new(false) })
    }

    /// A result waits to be written, since this time of [`monotonic`] at most.
    pub(crate) fn note_result(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if self.since_ns.load(Ordering::SeqCst) == 0 {
            self.since_ns.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).ok();
        }
        self.arm(LONGEST_WAIT);
    }

    /// The results so far are being written.
    pub(crate) fn note_written(&self) {
        self.since_ns.store(0, Ordering::SeqCst);
    }

    /// Whether results have waited long enough. Called when this is readable, by the thread that then writes them.
    pub(crate) fn are_due(&self) -> bool {
        rustix::io::read(&self.timer, &mut [0; 8]).ok();
        // From here on, a result that comes arms the timer again.
        self.is_armed.store(false, Ordering::SeqCst);
        let since = self.since_ns.load(Ordering::SeqCst);
        if since == 0 {
            return false;
        }
        let waited = monotonic().saturating_sub(Duration::from_nanos(since));
        if waited < LONGEST_WAIT {
            self.arm(LONGEST_WAIT.saturating_sub(waited));
            return false;
        }
        self.note_written();
        true
    }

    fn arm(&self, wait: Duration) {
        if self.is_armed.load(Ordering::SeqCst) || self.is_armed.swap(true, Ordering::SeqCst) {
            return;
        }
        // A timer of no time would never expire.
        let it_value = timespec(wait.max(Duration::from_nanos(1)));
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        // A node may have closed it. They then wait for the item.
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).ok();
    }
}

impl AsFd for LateResults {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
