//! Calls on the caller's own thread, for all-inline plans: no queue, no other thread.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Session;
use crate::execution::machine::{Machine, Stop};
use crate::failure::RunError;
use crate::node::bulk::InProgress;
use crate::node::endpoints::Sink;
use crate::numbering::{self, NO_INPUT};
use crate::payload::Payload;
use crate::session::stages::stage::Replica;
use crate::session::stages::work::blame;

/// How often a thread that waits for the nodes checks whether the session has closed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What became of a call on the caller's own thread.
pub enum Direct<P: Payload> {
    /// All outputs are out.
    Done,
    /// A node failed.
    Failed(RunError<P::Fault>),
    /// Another thread is inside: the item comes back. [`Session::wait_until_free`] waits for it.
    Busy(Option<P>),
}

impl<P: Payload> Session<P> {
    /// Whether the plan can be called on the caller's own thread.
    pub fn is_direct(&self) -> bool {
        self.core.plan.is_direct()
    }

    /// Whether a call can take its item through on its own thread when no other is at work: all nodes are in one worker.
    pub fn is_one_worker(&self) -> bool {
        self.core.plan.is_one_worker()
    }

    /// Take an item through an all-inline plan, or one that is one worker, on this thread; `None` flushes the nodes.
    pub fn direct(&self, item: Option<P>, sink: &mut dyn Sink<P>) -> Direct<P> {
        let mut item = Some(item);
        let outcome = self.directly(|machine| {
            if let Some(Some(item)) = item.take() {
                machine.input = numbering::of_item(self.core.in_flight.number_items(1));
                return machine.take(item, sink);
            }
            machine.input = numbering::of_end(self.core.in_flight.items(), 0);
            machine.flush(sink)
        });
        outcome.unwrap_or_else(|| Direct::Busy(item.flatten()))
    }

    /// Continue with a value that a node returned to a [`crate::Bulk`], and with what else is in progress. If another
    /// thread is inside, `unfinished` stays.
    pub fn resume(&self, unfinished: &mut Option<(usize, P, InProgress<P>)>, sink: &mut dyn Sink<P>) -> Direct<P> {
        let outcome = self.directly(|machine| {
            machine.input = numbering::of_item(self.last_index());
            let Some((node, returned, left)) = unfinished.take() else { return Ok(()) };
            let took = left.took;
            machine.take_over(left);
            machine.resume(node, returned, took, sink)
        });
        outcome.unwrap_or(Direct::Busy(None))
    }

    /// Do something with the nodes that goes past the engine, while no other thread is inside; `false` if one is.
    /// It is watched as if it were in the first node.
    pub fn direct_with(&self, work: &mut dyn FnMut()) -> bool {
        let done = self.directly(|machine| {
            machine.progress.enter(0, NO_INPUT);
            work();
            machine.progress.leave();
            Ok(())
        });
        done.is_some()
    }

    /// The same for one item, which is counted.
    pub fn direct_item(&self, work: &mut dyn FnMut()) -> bool {
        let done = self.directly(|machine| {
            machine.progress.enter(0, numbering::of_item(self.core.in_flight.number_items(1)));
            work();
            machine.progress.leave();
            Ok(())
        });
        done.is_some()
    }

    /// Wait until no other thread is inside the nodes of an all-inline plan, for at most `timeout`; returns whether none is.
    pub fn wait_until_free(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let replica = self.replica();
        // A call on a closed session ends at once, even if another thread is inside.
        while !self.is_closed() {
            let left = deadline.saturating_duration_since(Instant::now());
            if replica.stop.wait_until_clear(left)
                && replica.lock_until(deadline.min(Instant::now() + POLL_INTERVAL)).is_some()
            {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
        true
    }

    /// Count items that went past the engine. Returns the index of the first.
    pub fn count_direct(&self, count: u64) -> u64 {
        self.core.in_flight.number_items(count)
    }

    /// The index of the last item that was counted.
    pub fn last_index(&self) -> u64 {
        self.core.in_flight.items().saturating_sub(1)
    }

    /// Outputs of direct calls, for the metrics.
    pub fn count_direct_outputs(&self, count: u64) {
        self.calls_out.fetch_add(count, Ordering::Relaxed);
    }

    fn replica(&self) -> &Replica<P> {
        &self.core.stages[0].replicas[0]
    }

    /// `None` if another thread is inside.
    fn directly(&self, work: impl FnOnce(&mut Machine<P>) -> Result<(), Stop<P::Fault>>) -> Option<Direct<P>> {
        if self.core.is_closed.load(Ordering::Relaxed) {
            return Some(Direct::Failed(RunError::Closed));
        }
        let replica = self.replica();
        if replica.stop.is_set() {
            // What comes while the session is interrupted waits for the end of that, as it does at admission.
            return None;
        }
        let mut machine = replica.machine.try_lock()?;
        if self.core.is_closed.load(Ordering::Relaxed) {
            return Some(Direct::Failed(RunError::Closed));
        }
        self.core.forget_if_asked(replica, &mut machine);
        let outcome = replica.try_enter(&mut machine, work);
        let outcome = outcome.unwrap_or_else(|hindrance| Err(Stop::Hindered(hindrance)));
        let result = match outcome {
            Ok(()) => Direct::Done,
            Err(stop) => {
                let error = blame(&mut machine, stop);
                let failed = replica.abandon(&mut machine);
                self.core.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
                let is_stopped = self.core.was_stopped(replica, &error);
                Direct::Failed(if is_stopped { self.stopped() } else { error })
            }
        };
        // An input that comes by the queue must find another number here than its own.
        machine.input = NO_INPUT;
        drop(machine);
        Some(result)
    }

    /// Why a call was stopped. Called with the nodes locked, so that the interrupting thread finds it counted.
    fn stopped(&self) -> RunError<P::Fault> {
        if self.core.is_closed.load(Ordering::Relaxed) {
            return RunError::Closed;
        }
        self.calls_interrupted.fetch_add(1, Ordering::Relaxed);
        RunError::Interrupted
    }
}
