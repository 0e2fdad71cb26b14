//! The end of a session: within a deadline, in every state.

use std::sync::PoisonError;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::{Closed, Session, Stall, stage, watch};
use crate::machine::Machine;
use crate::{NodeFailure, Payload, RunError};

impl<P: Payload> Session<P> {
    /// Stop, clean up and end all threads, within `timeout`. What does not come back in time is named and left behind.
    ///
    /// `stop_waiting` is called when nodes should be stopped from waiting.
    pub fn close(&self, timeout: Duration, stop_waiting: &dyn Fn()) -> Closed<P::Fault> {
        let deadline = Instant::now() + timeout;
        self.stop(stop_waiting);
        if let Some(watch) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watch.end();
        }
        let mut left_behind = self.join_threads(deadline);
        let cleanups = self.clean_up(deadline, &mut left_behind);
        Closed { cleanups, left_behind, metrics: self.metrics() }
    }

    /// Let nothing more in, stop what is under way, and tell all clients.
    fn stop(&self, stop_waiting: &dyn Fn()) {
        let core = &self.core;
        core.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let waiting = core.door.close();
        core.stages.iter().flat_map(|stage| &stage.units).for_each(|unit| unit.stop.set());
        let clients = core.tracker.take_all();
        clients.iter().for_each(|client| client.forget());
        for stage in &core.stages {
            stage.inbox.close();
            if let Some(reorder) = &stage.reorder {
                reorder.close();
            }
        }
        stop_waiting();
        for client in clients {
            client.done(Err(RunError::Closed));
        }
        for submission in waiting {
            submission.client.done(Err(RunError::Closed));
            if let Some(admitted) = submission.admitted {
                admitted(false);
            }
        }
    }

    fn join_threads(&self, deadline: Instant) -> Vec<Stall> {
        let running = std::mem::take(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner).running);
        let mut left_behind = Vec::new();
        for (thread, latch, stage) in running {
            if latch.wait_until(deadline) {
                // A thread that panicked has told its clients by its guard; nothing is left to do for it.
                drop(thread.join());
            } else {
                left_behind.extend(self.stalls_of(stage));
            }
        }
        left_behind.dedup();
        left_behind
    }

    fn stalls_of(&self, stage: usize) -> Vec<Stall> {
        let core = &self.core;
        let stall = |unit: &stage::Unit<P>| {
            let reading = unit.progress.read()?;
            Some(watch::stall(&core.plan, stage, reading, Duration::ZERO))
        };
        core.stages[stage].units.iter().filter_map(stall).collect()
    }

    fn clean_up(&self, deadline: Instant, left_behind: &mut Vec<Stall>) -> Vec<NodeFailure<P::Fault>> {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failures = Vec::new();
        for unit in self.core.stages.iter().flat_map(|stage| &stage.units) {
            if let Some(mut machine) = unit.lock_until(deadline) {
                let failed = unit.enter(&mut machine, Machine::abandon);
                failures.extend(
                    failed.into_iter().map(|(node, phase, fault)| machine.node_failure(node, None, phase, fault)),
                );
            }
        }
        for (stage, unit, node) in owed.into_iter().rev() {
            let unit = &self.core.stages[stage].units[unit];
            // Whoever hangs inside holds the lock: its node cannot be cleaned up.
            let Some(mut machine) = unit.lock_until(deadline) else {
                left_behind.extend(
                    self.stalls_of(stage).into_iter().filter(|stall| !left_behind.contains(stall)).collect::<Vec<_>>(),
                );
                continue;
            };
            if let Err(failure) = machine.clean_up(node) {
                failures.push(failure);
            }
        }
        failures
    }
}
