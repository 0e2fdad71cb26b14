//! The end of a session: within a deadline, in every state.

use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::stage::{Stage, Unit};
use super::tasks::{Outcome, Patience};
use super::threads::{Panic, Role};
use super::{Closed, Session, Stall, watch};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::{NodeFailure, Payload, RunError};

/// How often a session that closes looks whether what was under way has ended.
const LOOK: Duration = Duration::from_millis(1);

/// As long has a node to clean up when others have used up the time of the close.
const GRACE: Duration = Duration::from_secs(1);

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
        let busy = P::wait(|| self.threads.wait_until_idle(deadline));
        self.wait_for_started(deadline, stop_waiting);
        let mut end = End { deadline, busy: Vec::new(), left_behind: Vec::new(), cleanups: Vec::new(), panic: None };
        for thread in busy {
            self.leave_behind(thread, deadline, &mut end);
        }
        self.abandon_all(&mut end);
        self.clean_up(deadline, &mut end);
        self.core.close_tasks();
        let joined = P::wait(|| self.threads.join(deadline + GRACE, &end.busy));
        let End { left_behind, cleanups, panic, .. } = end;
        (Closed { cleanups, left_behind, metrics: self.metrics() }, panic.or(joined))
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
        if let Some(tasks) = &core.source_tasks {
            tasks.wake();
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

    /// A thread does not come back in time.
    fn leave_behind(&self, thread: Busy, deadline: Instant, end: &mut End<P>) {
        for stall in self.stalls_of(thread.0) {
            if !end.left_behind.contains(&stall) {
                end.left_behind.push(stall);
            }
        }
        end.busy.push(thread);
        // The others are not to suffer for the time that it has used up.
        end.deadline = deadline + GRACE;
    }

    /// Drop what the nodes are in the middle of.
    fn abandon_all(&self, end: &mut End<P>) {
        for place in self.core.replicas() {
            let abandon = |unit: &Unit<P>, machine: &mut Machine<P>| {
                let failed = unit.enter(machine, Machine::abandon).into_iter();
                failed.map(|(node, phase, fault)| machine.node_failure(node, None, phase, fault)).collect()
            };
            // What is not reached here is not reached below.
            let failures: Option<Vec<_>> = self.in_idle_nodes(place, end, abandon);
            end.cleanups.extend(failures.into_iter().flatten());
        }
    }

    fn clean_up(&self, deadline: Instant, end: &mut End<P>) {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        for (stage, unit, node) in owed.into_iter().rev() {
            let is_source = node == 0 && stage == self.core.plan.stage_of(0) && self.core.source_tasks.is_some();
            if is_source && end.busy.contains(&(stage, Role::Source)) {
                // Its generator is still at work.
                continue;
            }
            let clean_up = move |unit: &Unit<P>, machine: &mut Machine<P>| {
                unit.note_thread(machine);
                machine.clean_up(node)
            };
            if let Some(outcome) = self.in_idle_nodes((stage, unit), end, clean_up) {
                end.cleanups.extend(outcome.err());
                continue;
            }
            self.leave_behind((stage, Role::Replica(unit)), deadline, end);
            if is_source {
                end.busy.push((stage, Role::Source));
            }
        }
    }

    /// Do something with the nodes of a replica, if its thread comes to that in time. A panic is kept for the end.
    fn in_idle_nodes<R: Send + 'static>(
        &self,
        (stage, unit): (usize, usize),
        end: &mut End<P>,
        work: impl FnOnce(&Unit<P>, &mut Machine<P>) -> R + Send + 'static,
    ) -> Option<R> {
        if self.core.stages[stage].units[unit].elsewhere.is_none() && end.busy.contains(&(stage, Role::Replica(unit))) {
            return None;
        }
        let deadline = end.deadline;
        let mut goes_on = || Instant::now() < deadline;
        let patience = Patience { interval: LOOK, goes_on: &mut goes_on };
        match self.core.in_nodes((stage, unit), patience, |_, unit, machine| work(unit, machine)) {
            Outcome::Done(Ok(result)) => Some(result),
            Outcome::Done(Err(panic)) => {
                end.panic.get_or_insert(panic);
                None
            }
            Outcome::Unfinished | Outcome::NotBegun => None,
        }
    }
}

/// What comes of a close.
struct End<P: Payload> {
    deadline: Instant,
    /// The threads that have not come back.
    busy: Vec<Busy>,
    left_behind: Vec<Stall>,
    cleanups: Vec<NodeFailure<P::Fault>>,
    panic: Option<Panic>,
}

/// A thread of a stage, by the number of the stage.
type Busy = (usize, Role);
