//! Calls on the caller's own thread, for all-inline plans: no queue, no other thread.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Session;
use crate::execution::machine::{Machine, Stop};
use crate::failure::RunError;
use crate::node::bulk::{Bulk, BulkOutcome};
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
                machine.input = numbering::of_item(self.number_items(1));
                return machine.take(item, sink);
            }
            machine.input = numbering::of_end(self.core.in_flight.items(), 0);
            machine.flush(sink)
        });
        outcome.unwrap_or_else(|| Direct::Busy(item.flatten()))
    }

    /// Take a chunk through an all-inline plan on this thread by `bulk`, which is `None` after a chunk that it could not finish.
    pub fn direct_chunk<B: Bulk<P>>(
        &self,
        chunk: Option<P>,
        bulk: &mut Option<B>,
        sink: &mut dyn Sink<P>,
    ) -> Direct<P> {
        let mut chunk = chunk;
        let outcome = self.directly(|machine| {
            while let Some(part) = chunk.take() {
                chunk = self.take_chunk(machine, bulk, part, sink)?.1;
            }
            Ok(())
        });
        outcome.unwrap_or(Direct::Busy(chunk))
    }

    /// Take an item through by `work`, past the engine, which finishes what it returns.
    pub fn direct_item(
        &self,
        work: &mut dyn FnMut() -> Option<Box<BulkOutcome<P>>>,
        sink: &mut dyn Sink<P>,
    ) -> Direct<P> {
        let outcome = self.directly(|machine| {
            machine.input = numbering::of_item(self.number_items(1));
            // It is watched as if it were in the first node.
            machine.progress.enter(0, machine.input);
            let left = work();
            machine.progress.leave();
            match left {
                None => Ok(()),
                Some(left) => self.settle_item(machine, left, sink),
            }
        });
        outcome.unwrap_or(Direct::Busy(None))
    }

    /// Away from the usual way of an item, which would have to make room for what is left on its stack.
    #[cold]
    #[inline(never)]
    #[allow(clippy::boxed_local, reason = "the caller should not have it on its stack")]
    fn settle_item(
        &self,
        machine: &mut Machine<P>,
        left: Box<BulkOutcome<P>>,
        sink: &mut dyn Sink<P>,
    ) -> Result<(), Stop<P::Fault>> {
        self.settle(machine, *left, sink).map(drop)
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

    /// Number items that come in past the queue. Returns the index of the first.
    pub(super) fn number_items(&self, count: u64) -> u64 {
        self.core.in_flight.number_items(count)
    }

    /// Outputs of direct calls, for the metrics.
    pub fn count_direct_outputs(&self, count: u64) {
        self.calls_out.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn replica(&self) -> &Replica<P> {
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
