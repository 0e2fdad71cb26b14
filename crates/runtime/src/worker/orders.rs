//! What a worker must hear although its nodes are at work: orders of the parent, and the parent's death.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use super::link::{Link, Transport};
use super::remote::timespec;
use super::wire::Kind;
use crate::CancelFlag;

/// A parent that is gone without closing its socket, because another child has it too, is missed after as long.
const LOOK: Duration = Duration::from_millis(250);

/// Nodes that have just begun to wait are told as often not to.
const AGAIN: Duration = Duration::from_millis(2);

/// The orders as they stand.
pub(super) struct Orders {
    /// The number of the last interruption that was ordered, and the last that was obeyed.
    interruption: AtomicU64,
    obeyed: AtomicU64,
    /// Items below this number are not wanted any more.
    stale_below: AtomicU64,
    is_closing: AtomicBool,
    is_over: AtomicBool,
    /// Set while nodes should not wait.
    stop: CancelFlag,
    /// Wakes the thread of the nodes.
    pub(super) nudge: OwnedFd,
}

impl Orders {
    pub(super) fn new(stop: CancelFlag) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            interruption: AtomicU64::new(0),
            obeyed: AtomicU64::new(0),
            stale_below: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            stop,
            nudge: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// The interruption that is to be obeyed, if there is one.
    pub(super) fn interruption(&self) -> Option<u64> {
        let ordered = self.interruption.load(Ordering::Acquire);
        (ordered != self.obeyed.load(Ordering::Acquire)).then_some(ordered)
    }

    /// The nodes have left what they were at.
    pub(super) fn obey(&self, interruption: u64) {
        self.stop.clear();
        if self.is_closing() {
            self.stop.set();
        }
        self.obeyed.store(interruption, Ordering::Release);
    }

    pub(super) fn is_stale(&self, number: u64) -> bool {
        number < self.stale_below.load(Ordering::Acquire)
    }

    /// The nodes are cleaned up.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(super) fn wake(&self) {
        rustix::io::write(&self.nudge, &1_u64.to_ne_bytes()).ok();
    }

    /// Wait until the thread of the nodes is woken, for so long at most.
    pub(super) fn await_nudge(&self, patience: Duration) {
        let mut fds = [PollFd::new(&self.nudge, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(patience))).ok();
        self.hear_nudge();
    }

    /// Sleep at the next wait again.
    pub(super) fn hear_nudge(&self) {
        rustix::io::read(&self.nudge, &mut [0; 8]).ok();
    }

    /// Whether there is something to be seen to before the next item.
    pub(super) fn is_pressing(&self) -> bool {
        self.is_closing() || self.interruption().is_some()
    }

    fn must_stop(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && self.is_pressing()
    }

    /// Hear the parent's orders, for as long as it lives.
    pub(super) fn listen(&self, control: &Link, stop_waiting: &(dyn Fn() + Sync), break_off: &(dyn Fn() + Sync)) {
        loop {
            match control.next() {
                Ok(Some(received)) => {
                    let must_break_off = received.head.kind == Kind::Close && received.head.extra > 0;
                    match received.head.kind {
                        Kind::Interrupt => {
                            self.stale_below.store(received.head.extra, Ordering::Release);
                            self.interruption.store(received.head.number, Ordering::Release);
                        }
                        Kind::Close => self.is_closing.store(true, Ordering::Release),
                        _ => {}
                    }
                    self.stop.set();
                    self.wake();
                    // From now on no other call begins.
                    if must_break_off {
                        break_off();
                    }
                }
                Ok(None) => {
                    let patience = self.must_stop().then(|| timespec(AGAIN));
                    let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
                    rustix::event::poll(&mut fds, patience.as_ref()).ok();
                    if self.must_stop() {
                        stop_waiting();
                    }
                }
                Err(_) => return,
            }
        }
    }
}

/// End this process, and all that it has started, when its parent is gone. Enters no interpreter: a node may hold it.
pub(super) fn watch_parent(control: &OwnedFd, parent: Option<Pid>) {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::RDHUP)];
        rustix::event::poll(&mut fds, Some(&timespec(LOOK))).ok();
        let has_hung_up = fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
        if has_hung_up || rustix::process::getppid() != parent {
            rustix::process::kill_current_process_group(Signal::KILL).ok();
        }
    }
}
