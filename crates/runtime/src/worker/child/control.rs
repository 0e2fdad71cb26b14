//! What a worker must notice while its nodes are at work: requests of the parent, and the parent's death.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::locks::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use crate::cancel::CancelFlag;
use crate::worker::child::late_results::LateResults;
use crate::worker::child::worker_host::IsStill;
use crate::worker::protocol::connection::Link;
use crate::worker::protocol::frame::Kind;
use crate::worker::protocol::poll::{await_readable, timespec};

/// How often to check for a parent that is gone without closing its socket, because another child has it too.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Nodes that have just started to wait are asked again to stop after this interval, which doubles each time.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How the nodes of a worker are stopped, see [`crate::worker::WorkerHost`].
pub(crate) struct Stops {
    pub(crate) stop_waiting: Box<dyn Fn() + Send + Sync>,
    pub(crate) cancel_wait: Box<dyn Fn(IsStill) + Send + Sync>,
    pub(crate) cancel_calls: Box<dyn Fn() + Send + Sync>,
}

/// The requests that the parent has sent and the worker has not completed.
pub(crate) struct ControlRequests {
    /// The number of the last interruption that was requested, and the last that was handled.
    interruption: AtomicU64,
    handled: AtomicU64,
    /// The number of the last interruption of which the nodes are notified.
    notified: AtomicU64,
    /// Items below this number are no longer wanted.
    stale_below: AtomicU64,
    /// The item in hand, or 0.
    in_hand: AtomicU64,
    /// Items that are no longer wanted, until their `Forget` has arrived.
    dropped: Mutex<BTreeSet<u64>>,
    has_dropped: AtomicBool,
    is_closing: AtomicBool,
    is_over: AtomicBool,
    /// Set while nodes should not wait.
    stop: CancelFlag,
    /// Wakes the thread of the nodes.
    pub(crate) wake_event: OwnedFd,
    /// It was woken, and looks at everything before it sleeps again.
    is_woken: AtomicBool,
}

impl ControlRequests {
    pub(crate) fn new(stop: CancelFlag) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            interruption: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            notified: AtomicU64::new(0),
            stale_below: AtomicU64::new(0),
            in_hand: AtomicU64::new(0),
            dropped: Mutex::default(),
            has_dropped: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            stop,
            wake_event: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_woken: AtomicBool::new(false),
        }))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// The interruption that is to be handled, if there is one.
    pub(crate) fn interruption(&self) -> Option<u64> {
        let requested = self.interruption.load(Ordering::Acquire);
        (requested != self.handled.load(Ordering::Acquire)).then_some(requested)
    }

    /// Whether the nodes are notified of this interruption, or of one that it has overtaken.
    pub(crate) fn are_nodes_notified(&self, interruption: u64) -> bool {
        let notified = self.notified.load(Ordering::Acquire);
        (self.handled.load(Ordering::Acquire) + 1..=interruption).contains(&notified)
    }

    /// The nodes have left what they were at.
    pub(crate) fn mark_handled(&self, interruption: u64) {
        self.stop.clear();
        if self.is_closing() {
            self.stop.set();
        }
        self.handled.store(interruption, Ordering::Release);
    }

    /// Whether an item came before an interruption.
    pub(crate) fn is_stale(&self, number: u64) -> bool {
        number < self.stale_below.load(Ordering::Acquire)
    }

    /// Whether an item was dropped, which costs nothing where none was.
    pub(crate) fn is_dropped(&self, number: u64) -> bool {
        self.has_dropped.load(Ordering::SeqCst) && self.dropped.lock().contains(&number)
    }

    /// The items that were dropped, and whose `Forget` has not arrived.
    pub(crate) fn dropped(&self) -> Vec<u64> {
        if self.has_dropped.load(Ordering::SeqCst) { self.dropped.lock().iter().copied().collect() } else { Vec::new() }
    }

    /// Nothing more comes of a dropped item.
    pub(crate) fn forget_dropped(&self, number: u64) {
        let mut dropped = self.dropped.lock();
        dropped.remove(&number);
        self.has_dropped.store(!dropped.is_empty(), Ordering::SeqCst);
    }

    /// The nodes are at this item from now on; 0 for none.
    pub(crate) fn take_in_hand(&self, number: u64) {
        self.in_hand.store(number, Ordering::SeqCst);
    }

    fn drop_item(&self, number: u64) {
        self.dropped.lock().insert(number);
        self.has_dropped.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The item in hand, if it was dropped.
    fn dropped_in_hand(&self) -> Option<u64> {
        let number = self.in_hand.load(Ordering::SeqCst);
        (number > 0 && self.is_dropped(number)).then_some(number)
    }

    /// The nodes are cleaned up.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            rustix::io::write(&self.wake_event, &1_u64.to_ne_bytes()).ok();
        }
    }

    /// Wait until the thread of the nodes is woken, for so long at most.
    pub(crate) fn wait_for_wake(&self, timeout: Duration) {
        await_readable(&self.wake_event, Some(timeout));
        self.clear_wake();
    }

    /// Forget the wakes so far, so that the next wait sleeps.
    pub(crate) fn clear_wake(&self) {
        rustix::io::read(&self.wake_event, &mut [0; 8]).ok();
        self.is_woken.store(false, Ordering::SeqCst);
    }

    /// Whether there is an order to follow before the next item.
    pub(crate) fn is_pressing(&self) -> bool {
        self.is_closing() || self.interruption().is_some()
    }

    fn must_stop(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && self.is_pressing()
    }

    /// Receive the parent's requests until it closes the socket.
    pub(crate) fn listen(self: &Arc<Self>, control: &Link, stops: &Stops) {
        let mut interval = FIRST_POLL_INTERVAL;
        loop {
            match control.next() {
                Ok(Some(received)) if received.head.kind == Kind::Drop => self.drop_item(received.head.number),
                Ok(Some(received)) => {
                    let must_cancel_calls = received.head.kind == Kind::Close && received.head.extra > 0;
                    match received.head.kind {
                        Kind::Interrupt | Kind::Discard => {
                            if received.head.kind == Kind::Interrupt {
                                self.notified.store(received.head.number, Ordering::Release);
                            }
                            self.stale_below.store(received.head.extra, Ordering::Release);
                            self.interruption.store(received.head.number, Ordering::Release);
                        }
                        Kind::Close => self.is_closing.store(true, Ordering::Release),
                        _ => {}
                    }
                    self.stop.set();
                    self.wake();
                    // From now on no other call begins.
                    if must_cancel_calls {
                        (stops.cancel_calls)();
                    }
                }
                Ok(None) => {
                    let dropped = self.dropped_in_hand();
                    if let Some(number) = dropped {
                        let requests = Arc::clone(self);
                        (stops.cancel_wait)(Box::new(move || requests.dropped_in_hand() == Some(number)));
                    }
                    interval = if dropped.is_some() {
                        interval.saturating_mul(2).min(POLL_INTERVAL)
                    } else {
                        FIRST_POLL_INTERVAL
                    };
                    await_readable(control, (dropped.is_some() || self.must_stop()).then_some(interval));
                    if self.must_stop() {
                        (stops.stop_waiting)();
                    }
                }
                Err(_) => return,
            }
        }
    }
}

/// End this process, and all that it has started, when its parent is gone, and write late results. Enters no interpreter: a node may
/// hold it.
pub(crate) fn watch_parent(control: &OwnedFd, parent: Option<Pid>, link: &Link, late_results: &LateResults) {
    loop {
        let mut fds = [PollFd::new(control, PollFlags::RDHUP), PollFd::new(late_results, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(POLL_INTERVAL))).ok();
        if fds.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) {
            // A node has closed it. The parent notices and handles that, if it lives.
            std::thread::sleep(POLL_INTERVAL);
        }
        if fds[1].revents().contains(PollFlags::IN) && late_results.are_due() {
            // If the parent does not read, they wait for the thread of the nodes.
            link.flush_some().ok();
        }
        let has_hung_up = fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
        if has_hung_up || rustix::process::getppid() != parent {
            rustix::process::kill_current_process_group(Signal::KILL).ok();
        }
    }
}
