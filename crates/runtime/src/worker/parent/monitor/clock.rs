//! The deadlines of a process: of its start, of one item, and of the session.

use std::time::{Duration, Instant};

use crate::payload::Payload;
use crate::worker::ExitCause;
use crate::worker::parent::monitor::Monitor;

/// How long a worker may take to start with an item, besides the item's own time: the machine may be busy.
const START_TIMEOUT: Duration = Duration::from_millis(300);

impl<P: Payload> Monitor<'_, P> {
    /// The time until the next deadline, if there is one.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let state = self.remote.lock();
        let mut deadline = state.end_by;
        let mut at = |then: Instant| deadline = Some(deadline.map_or(then, |deadline| deadline.min(then)));
        if !self.is_ready {
            at(self.started + self.remote.spec.options.initialize_timeout);
        }
        if let Some(timeout) = self.remote.spec.timeout
            && !state.pending.is_empty()
        {
            let at_work_for = self.connection.page.item_age().unwrap_or(Duration::ZERO);
            at(Instant::now() + timeout.saturating_sub(at_work_for).max(Duration::from_millis(1)));
        }
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn watch_the_clock(&mut self) {
        if !self.is_ready && self.started.elapsed() >= self.remote.spec.options.initialize_timeout {
            self.kill(ExitCause::TimedOut(self.remote.spec.options.initialize_timeout));
        }
        if let Some(timeout) = self.remote.spec.timeout
            && self.connection.page.item_age().is_some_and(|age| age >= timeout)
        {
            self.kill(ExitCause::TimedOut(timeout));
        }
        self.watch_for_silence();
    }

    /// A worker that has items but neither takes one nor sends a result is stopped, or its coroutines block each other.
    fn watch_for_silence(&mut self) {
        let Some(timeout) = self.remote.spec.timeout else { return };
        let has_items = self.remote.lock().pending.values().next().is_some_and(|pending| pending.is_sent);
        if !has_items || self.connection.page.reading().is_some() {
            self.quiet_since = Instant::now();
        } else if self.quiet_since.elapsed() >= timeout + START_TIMEOUT {
            self.kill(ExitCause::TimedOut(timeout));
        }
    }
}
