//! How long a session that closes waits for what is in progress.

use std::time::{Duration, Instant};

use crate::payload::Payload;
use crate::session::watchdog::Latch;

/// How often a waiting thread checks for a stop request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node may clean up when others have used up the time of the close.
const GRACE: Duration = Duration::from_secs(1);

/// The same after a stop request.
const HURRIED_GRACE: Duration = Duration::from_millis(100);

/// Ends at a time, or at once when this thread is asked to stop, as by a second Ctrl-C.
pub(super) struct Deadline<'a, P: Payload> {
    planned: Instant,
    end: Instant,
    next_look: Instant,
    stop_request: Option<P::Fault>,
    /// Called at a stop request.
    end_workers: &'a (dyn Fn() + Sync),
}

impl<'a, P: Payload> Deadline<'a, P> {
    pub(super) fn at(planned: Instant, end_workers: &'a (dyn Fn() + Sync)) -> Self {
        Self { planned, end: planned, next_look: Instant::now() + POLL_INTERVAL, stop_request: None, end_workers }
    }

    /// Whether nothing should be waited for any more.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + POLL_INTERVAL;
            if let Err(stop_request) = P::check_signals() {
                self.stop_request.get_or_insert(stop_request);
                self.end = now;
                (self.end_workers)();
            }
        }
        now >= self.end
    }

    /// Wait for a latch; whether it opened in time.
    pub(super) fn wait_for(&mut self, latch: &Latch) -> bool {
        loop {
            if latch.wait_until(self.end.min(self.next_look)) {
                return true;
            }
            if self.is_over() {
                return false;
            }
        }
    }

    /// One node has used up the time; the others still get some.
    pub(super) fn grant_grace(&mut self) {
        self.end = if self.stop_request.is_some() { Instant::now() + HURRIED_GRACE } else { self.planned + GRACE };
    }

    /// The stop request that ended it, if one did.
    pub(super) fn stop_request(self) -> Option<P::Fault> {
        self.stop_request
    }
}
