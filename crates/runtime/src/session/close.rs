//! The end of a session: within a deadline, in every state.

use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::threads::Panic;
use super::{Closed, Session, Stall, watch};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::{NodeFailure, Payload, RunError};

/// How often a session that closes looks whether what was under way has ended.
const LOOK: Duration = Duration::from_millis(1);

impl<P: Payload> Session<P> {
    /// Stop, clean up and end all threads, within `timeout`. What does not come back in time is named and left behind.
    ///
    /// `stop_waiting` is called when nodes should be stopped from waiting.
    ///
    /// # Panics
    /// If a node did, on a thread of the session.
    pub fn close(&self, timeout: Duration, stop_waiting: &dyn Fn()) -> Closed<P::Fault> {
        let (closed, panic) = self.end(timeout, stop_waiting);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        closed
    }

    pub(super) fn end(&self, timeout: Duration, stop_waiting: &dyn Fn()) -> (Closed<P::Fault>, Option<Panic>) {
        let deadline = Instant::now() + timeout;
        for elsewhere in
            self.core.stages.iter().flat_map(|stage| &stage.units).filter_map(|unit| unit.elsewhere.as_ref())
        {
            elsewhere.end_by(deadline);
        }
        self.stop(stop_waiting);
        if let Some(watch) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
            P::wait(|| watch.end());
        }
        let (stages, panic) = P::wait(|| self.threads.join(deadline));
        let mut left_behind: Vec<Stall> = stages.into_iter().flat_map(|stage| self.stalls_of(stage)).collect();
        self.wait_for_started(deadline, stop_waiting);
        let cleanups = self.clean_up(deadline, &mut left_behind);
        (Closed { cleanups, left_behind, metrics: self.metrics() }, panic)
    }

    /// Wait for items that are under way without a thread: their node must not be cleaned up before.
    fn wait_for_started(&self, deadline: Instant, stop_waiting: &dyn Fn()) {
        for stage in &self.core.stages {
            while !stage.lock_started().is_empty() && Instant::now() < deadline {
                stop_waiting();
                std::thread::sleep(LOOK);
            }
            // What does not come back would hold the session for ever.
            stage.lock_started().clear();
        }
    }

    /// Let nothing more in, stop what is under way, and tell all clients.
    fn stop(&self, stop_waiting: &dyn Fn()) {
        let core = &self.core;
        core.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.stop.set();
        let waiting = core.door.close();
        core.stages.iter().flat_map(|stage| &stage.units).for_each(|unit| unit.stop.set());
        let clients = core.tracker.take_all();
        clients.forget();
        for stage in &core.stages {
            stage.inbox.close();
            if let Some(reorder) = &stage.reorder {
                reorder.close();
            }
        }
        core.stages.iter().for_each(Stage::interrupt_elsewhere);
        stop_waiting();
        clients.tell(|| RunError::Closed);
        for submission in waiting {
            submission.client.done(Err(RunError::Closed));
            if let Some(admitted) = submission.admitted {
                admitted(false);
            }
        }
    }

    /// The calls that are under way in a stage.
    fn stalls_of(&self, stage: usize) -> Vec<Stall> {
        let core = &self.core;
        let source = (stage == core.plan.stage_of(0)).then_some(&core.source);
        let places = core.stages[stage].units.iter().map(|unit| &*unit.progress).chain(source);
        let readings = places.filter_map(Progress::read);
        readings.map(|reading| watch::stall(&core.plan, stage, reading, Duration::ZERO)).collect()
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
            if node == 0 && stage == self.core.plan.stage_of(0) && self.core.source.read().is_some() {
                // The generator of the source is still at work.
                continue;
            }
            let unit = &self.core.stages[stage].units[unit];
            // Whoever hangs inside holds the lock: its node cannot be cleaned up.
            let Some(mut machine) = unit.lock_until(deadline) else {
                let stalls = self.stalls_of(stage).into_iter();
                left_behind.extend(stalls.filter(|stall| !left_behind.contains(stall)).collect::<Vec<_>>());
                continue;
            };
            if let Err(failure) = machine.clean_up(node) {
                failures.push(failure);
            }
        }
        failures
    }
}
