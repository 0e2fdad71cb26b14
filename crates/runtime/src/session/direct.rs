//! Calls on the caller's own thread, for all-inline plans: no queue, no other thread.

use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use super::Session;
use super::stage::{Unit, blame};
use crate::machine::{Machine, Stop};
use crate::{Payload, RunError, Sink};

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

    /// Take an item through an all-inline plan on this thread; `None` flushes the nodes.
    pub fn direct(&self, item: Option<P>, sink: &mut dyn Sink<P>) -> Direct<P> {
        let mut item = Some(item);
        let outcome = self.directly(|machine| match item.take() {
            Some(Some(item)) => {
                machine.item_index = self.calls.fetch_add(1, Ordering::Relaxed);
                machine.take(item, sink)
            }
            _ => machine.flush(sink),
        });
        outcome.unwrap_or_else(|| Direct::Busy(item.flatten()))
    }

    /// Go on with an answer that a node gave to a [`crate::Bulk`]. Where another thread is inside, `answer` stays.
    pub fn resume(&self, node: usize, answer: &mut Option<P>, sink: &mut dyn Sink<P>) -> Direct<P> {
        let outcome = self.directly(|machine| {
            machine.item_index = self.calls.load(Ordering::Relaxed).saturating_sub(1);
            answer.take().map_or(Ok(()), |answer| machine.resume(node, answer, sink))
        });
        outcome.unwrap_or(Direct::Busy(None))
    }

    /// Do something with the nodes that goes past the engine, while no other thread is inside; `false` if one is.
    pub fn direct_with(&self, work: &mut dyn FnMut()) -> bool {
        let done = self.directly(|_| {
            work();
            Ok(())
        });
        done.is_some()
    }

    /// Wait until no other thread is inside the nodes of an all-inline plan.
    pub fn wait_until_free(&self) {
        drop(self.unit().lock());
    }

    /// Items that went past the engine, for the metrics.
    pub fn count_direct(&self, count: u64) {
        self.calls.fetch_add(count, Ordering::Relaxed);
    }

    /// Outputs of direct calls, for the metrics.
    pub fn count_direct_outputs(&self, count: u64) {
        self.calls_out.fetch_add(count, Ordering::Relaxed);
    }

    fn unit(&self) -> &Unit<P> {
        &self.core.stages[0].units[0]
    }

    /// `None` if another thread is inside.
    fn directly(&self, work: impl FnOnce(&mut Machine<P>) -> Result<(), Stop<P::Fault>>) -> Option<Direct<P>> {
        let unit = self.unit();
        let mut machine = match unit.machine.try_lock() {
            Ok(machine) => machine,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if self.core.is_closed.load(Ordering::Relaxed) {
            return Some(Direct::Failed(RunError::Closed));
        }
        let outcome = unit.enter(&mut machine, work);
        let answer = match outcome {
            Ok(()) => Direct::Done,
            Err(stop) => {
                let error = blame(&mut machine, stop);
                let failed = unit.enter(&mut machine, Machine::abandon);
                self.core.note_failures(failed.into_iter().map(|(_, _, fault)| fault));
                Direct::Failed(if matches!(error, RunError::Cancelled) { self.stopped() } else { error })
            }
        };
        // An input that comes by the queue must find another number here than its own.
        machine.item_index = u64::MAX;
        Some(answer)
    }

    /// Why a call was stopped. Called with the nodes locked, so that whoever interrupted it finds it counted.
    fn stopped(&self) -> RunError<P::Fault> {
        if self.core.is_closed.load(Ordering::Relaxed) {
            return RunError::Closed;
        }
        self.calls_interrupted.fetch_add(1, Ordering::Relaxed);
        RunError::Interrupted
    }
}
