//! The end of what is in progress, and of nothing else.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::Session;
use crate::execution::machine::Machine;
use crate::failure::RunError;
use crate::locks::TimedGuard;
use crate::numbering::NO_INPUT;
use crate::payload::Payload;
use crate::session::queues::clients::Clients;
use crate::session::stages::shared::{Input, Submission};
use crate::session::stages::stage::Stage;
use crate::session::stages::tasks::PollWhile;

/// How often nodes are asked to stop waiting: one may just have begun to.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl<P: Payload> Session<P> {
    /// Drop what is queued and in progress. When this returns nothing of it can come out any more, and the nodes have been interrupted.
    ///
    /// Waits for the calls that are in progress, unless the session closes. What comes in meanwhile waits at admission. `stop_waiting` is
    /// called when the nodes should be stopped from waiting: for a coroutine, for instance. Returns how many inputs were dropped.
    pub fn interrupt(&self, stop_waiting: &dyn Fn()) -> u64 {
        self.interrupt_unless(stop_waiting, &|| false, |_| {})
    }

    /// The same, but stop waiting for a call in progress once `is_cancelled` returns `true`. Its node is not interrupted then; what it
    /// returns is dropped. `is_silent` receives the number as soon as it is known, before the clients, which may be many, are notified.
    pub fn interrupt_unless(
        &self,
        stop_waiting: &dyn Fn(),
        is_cancelled: &dyn Fn() -> bool,
        is_silent: impl FnOnce(u64),
    ) -> u64 {
        let core = &self.core;
        if self.is_closed() {
            return 0;
        }
        let Some(_only_one) = self.wait_for_others(is_cancelled) else { return 0 };
        let is_over = || self.is_closed() || is_cancelled();
        let waiting = core.admission_queue.hold();
        // Before the stages are stopped: one that is drops its outputs, and the input must not end well without them.
        let clients = core.in_flight.take_all_with_outputs();
        core.stages.iter().flat_map(|stage| &stage.replicas).for_each(|replica| replica.stop.set());
        // After the others: a retry whose pause this ends must see that its stage was stopped.
        self.stop.set();
        clients.forget();
        let queued: Vec<_> = core.stages.iter().map(|stage| stage.inbox.empty()).collect();
        core.stages.iter().for_each(Stage::discard_elsewhere);
        stop_waiting();
        if self.interrupt_nodes(stop_waiting, &is_over) {
            self.wait_until_silent(&clients, stop_waiting, &is_over);
        }
        self.stop.clear();
        core.stages.iter().flat_map(|stage| &stage.replicas).for_each(|replica| replica.stop.clear());
        fence(Ordering::SeqCst);
        if self.is_closed() {
            // A close may have set them before.
            core.stages.iter().flat_map(|stage| &stage.replicas).for_each(|replica| replica.stop.set());
            self.stop.set();
        }
        let is_through = !self.is_closed();
        let is_end = |submission: &&Submission<P>| matches!(submission.input, Input::End);
        let (ends, items): (Vec<_>, Vec<_>) = waiting.iter().partition(is_end);
        let mut waiting_clients: Clients<P> =
            items.iter().map(|submission| (&submission.client, submission.size() as u64)).collect();
        for end in ends {
            waiting_clients.add_end(&end.client);
        }
        let calls = self.calls_interrupted.swap(0, Ordering::Relaxed);
        let dropped = clients.count() + waiting_clients.count() + calls;
        core.in_flight.count_interrupted(dropped);
        is_silent(dropped);
        for clients in [clients, waiting_clients] {
            if is_through { clients.interrupted() } else { clients.fail_all(|| RunError::Closed) }
        }
        notify_waiting(waiting, is_through);
        core.admission_queue.release();
        core.admit_waiting();
        P::dispose(queued);
        dropped
    }

    /// Wait until no other thread interrupts; `None` if `is_cancelled` ends the wait.
    fn wait_for_others(&self, is_cancelled: &dyn Fn() -> bool) -> Option<TimedGuard<'_, ()>> {
        loop {
            let guard = self.interrupting.try_lock_until(Instant::now() + POLL_INTERVAL / 10);
            if guard.is_some() || is_cancelled() {
                return guard;
            }
        }
    }

    /// Wait for one node after the other, and interrupt it; `false` if it `is_over` before.
    fn interrupt_nodes(&self, stop_waiting: &dyn Fn(), is_over: &dyn Fn() -> bool) -> bool {
        let mut goes_on = || {
            let goes_on = !is_over();
            if goes_on {
                stop_waiting();
            }
            goes_on
        };
        for place in self.core.replicas() {
            let polling = PollWhile { interval: POLL_INTERVAL, goes_on: &mut goes_on };
            let interrupted = self.core.in_nodes(place, polling, |core, replica, machine| {
                core.abandon_paused(replica, machine);
                let failed = replica.enter(machine, Machine::interrupt);
                core.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
                machine.input = NO_INPUT;
            });
            if interrupted.result().is_none() {
                return false;
            }
        }
        true
    }

    /// Wait until nothing that began before is in flight or being handed over, or it `is_over`.
    fn wait_until_silent(&self, clients: &Clients<P>, stop_waiting: &dyn Fn(), is_over: &dyn Fn() -> bool) {
        let core = &self.core;
        for stage in core.stages.iter().filter(|stage| stage.reorder.is_some()) {
            let begun = stage.inbox.popped();
            while !stage.reorder().is_done_before(begun, POLL_INTERVAL) {
                stop_waiting();
                if is_over() {
                    return;
                }
            }
            // A generator that is drawn from while its outputs are handed on is closed there.
            while !stage.reorder().is_handed_on(POLL_INTERVAL) {
                stop_waiting();
                clients.forget();
                if is_over() {
                    return;
                }
            }
        }
        while !core.in_flight.is_quiet(POLL_INTERVAL) {
            clients.forget();
            if is_over() {
                return;
            }
        }
        for joiner in core.stages.iter().filter_map(|stage| stage.joiner.as_ref()).chain(&core.outputs) {
            joiner.lock().retain(|input| core.in_flight.is_open(input));
        }
        clients.forget();
    }
}

/// Report to the callers that wait at admission whether they may continue.
fn notify_waiting<P: Payload>(waiting: VecDeque<Submission<P>>, is_through: bool) {
    let mut callbacks = Vec::with_capacity(waiting.len());
    let mut garbage = Vec::with_capacity(waiting.len());
    for submission in waiting {
        callbacks.extend(submission.admitted);
        garbage.push((submission.input, submission.context));
    }
    P::dispose(garbage);
    for admitted in callbacks {
        admitted(is_through);
    }
}
