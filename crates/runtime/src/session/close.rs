//! The end of a session: within a deadline, in every state.

use std::panic::resume_unwind;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::deadline::Deadline;
use super::{Closed, Session, Stall};

use crate::execution::machine::Machine;
use crate::execution::progress::Progress;
use crate::failure::{NodeFailure, RunError};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{Replica, Stage};
use crate::session::stages::tasks::{Outcome, PollWhile};
use crate::session::stages::threads::{Panic, Role};
use crate::session::watchdog;

/// How often a session that closes looks whether what was in progress has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

impl<P: Payload> Session<P> {
    /// Stop, clean up and end all threads, within `timeout`. What does not return in time is named and abandoned.
    ///
    /// `stop_waiting` is called when nodes should be stopped from waiting. A stop request to this thread, such as a second Ctrl-C, ends
    /// the time at once, and is among the failures.
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
        let planned = Instant::now() + timeout;
        self.end_workers(planned);
        let end_workers = || self.end_workers(Instant::now());
        let mut deadline = Deadline::at(planned, &end_workers);
        self.stop(stop_waiting);
        if let Some(watch) = self.watch.lock().take() {
            P::wait(|| watch.end());
        }
        let is_on_callers = self.is_on_callers();
        let busy = if is_on_callers { Vec::new() } else { P::wait(|| self.threads.wait_until_idle(&mut deadline)) };
        self.wait_for_started(&mut deadline, stop_waiting);
        let mut end = End { deadline, busy: Vec::new(), abandoned: Vec::new(), cleanups: Vec::new(), panic: None };
        for thread in busy {
            self.leave_behind(thread, Phase::Process, &mut end);
        }
        self.abandon_all(&mut end);
        self.clean_up(&mut end);
        self.core.close_tasks();
        end.deadline.grant_grace();
        let joined = if is_on_callers { None } else { P::wait(|| self.threads.join(&mut end.deadline, &end.busy)) };
        let End { deadline, abandoned, mut cleanups, panic, .. } = end;
        if let Some(fault) = deadline.stop_request() {
            let node_id = abandoned.first().map_or_else(String::new, |stall| stall.node_id.clone());
            cleanups.push(NodeFailure { node_id, item_index: None, phase: Phase::Cleanup, fault });
        }
        (Closed { cleanups, abandoned, metrics: self.metrics() }, panic.or(joined))
    }

    fn end_workers(&self, deadline: Instant) {
        let replicas = self.core.stages.iter().flat_map(|stage| &stage.replicas);
        replicas.filter_map(|replica| replica.worker.as_ref()).for_each(|worker| worker.end_by(deadline));
    }

    /// Wait for items that are in progress without a thread: their node must not be cleaned up before.
    fn wait_for_started(&self, deadline: &mut Deadline<'_, P>, stop_waiting: &dyn Fn()) {
        for stage in &self.core.stages {
            let mut started = stage.started.lock();
            while !started.is_empty() && !deadline.is_over() {
                // A coroutine may have begun to wait only now.
                drop(started);
                stop_waiting();
                started = stage.started.lock();
                stage.has_finished.wait_for(&mut started, POLL_INTERVAL);
            }
            // What does not return would hold the session for ever.
            let left = std::mem::take(&mut *started);
            drop(started);
            drop(left);
        }
    }

    /// Refuse new inputs, stop what is in progress, and end the inputs of all clients.
    fn stop(&self, stop_waiting: &dyn Fn()) {
        let core = &self.core;
        core.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let waiting = core.admission_queue.close();
        // Before the stages are stopped: one that is drops its outputs, and the input must not end well without them.
        let clients = core.in_flight.take_all();
        core.stages.iter().flat_map(|stage| &stage.replicas).for_each(|replica| replica.stop.set());
        // After the others: a retry whose pause this ends must see that its stage was stopped.
        self.stop.set();
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
        core.stages.iter().for_each(Stage::discard_elsewhere);
        stop_waiting();
        clients.fail_all(|| RunError::Closed);
        for submission in waiting {
            submission.refuse(RunError::Closed);
        }
    }

    /// The calls that are in progress in a stage.
    fn stalls_of(&self, stage: usize) -> Vec<Stall> {
        let core = &self.core;
        let source = (stage == core.plan.stage_of(0)).then_some(&core.source);
        let places = core.stages[stage].replicas.iter().map(|replica| &*replica.progress).chain(source);
        let readings = places.filter_map(Progress::read);
        readings.map(|reading| watchdog::stall(&core.plan, stage, reading, Duration::ZERO)).collect()
    }

    /// A thread does not return in time.
    fn leave_behind(&self, thread: Busy, phase: Phase, end: &mut End<'_, P>) {
        for stall in self.stalls_of(thread.0) {
            // What it is at has not changed since it was abandoned.
            let is_known = |known: &Stall| Stall { phase: known.phase, ..stall.clone() } == *known;
            if !end.abandoned.iter().any(is_known) {
                end.abandoned.push(Stall { phase, ..stall });
            }
        }
        end.busy.push(thread);
        end.deadline.grant_grace();
    }

    /// Drop what the nodes are in the middle of.
    fn abandon_all(&self, end: &mut End<'_, P>) {
        for place in self.core.replicas() {
            let abandon = |core: &Core<P>, replica: &Replica<P>, machine: &mut Machine<P>| {
                core.abandon_paused(replica, machine);
                let failed = replica.abandon(machine).into_iter();
                failed.map(|(node, phase, fault)| machine.node_failure(node, None, phase, fault)).collect()
            };
            // What is not reached here is not reached below.
            let failures: Result<Option<Vec<_>>, _> = self.in_idle_nodes(place, end, abandon);
            end.cleanups.extend(failures.into_iter().flatten().flatten());
        }
    }

    fn clean_up(&self, end: &mut End<'_, P>) {
        let owed = std::mem::take(&mut *self.owed.lock());
        for (stage, replica, node) in owed.into_iter().rev() {
            let is_source = node == 0 && stage == self.core.plan.stage_of(0) && self.core.source_tasks.is_some();
            if is_source && end.busy.contains(&(stage, Role::Source)) {
                // Its generator is still at work.
                continue;
            }
            let clean_up = move |_: &Core<P>, replica: &Replica<P>, machine: &mut Machine<P>| {
                replica.note_thread(machine);
                machine.clean_up(node)
            };
            match self.in_idle_nodes((stage, replica), end, clean_up) {
                Ok(outcome) => end.cleanups.extend(outcome.and_then(Result::err)),
                Err(has_begun) => {
                    let phase = if has_begun { Phase::Cleanup } else { Phase::Process };
                    self.leave_behind((stage, Role::Replica(replica)), phase, end);
                    if is_source {
                        end.busy.push((stage, Role::Source));
                    }
                }
            }
        }
    }

    /// Do something with the nodes of a replica, if its thread comes to that in time; otherwise, whether it has begun. `None` after a panic,
    /// which is kept for the end.
    fn in_idle_nodes<R: Send + 'static>(
        &self,
        (stage, replica): (usize, usize),
        end: &mut End<'_, P>,
        work: impl FnOnce(&Core<P>, &Replica<P>, &mut Machine<P>) -> R + Send + 'static,
    ) -> Result<Option<R>, bool> {
        if self.core.stages[stage].replicas[replica].worker.is_none()
            && end.busy.contains(&(stage, Role::Replica(replica)))
        {
            return Err(false);
        }
        let mut goes_on = || !end.deadline.is_over();
        let polling = PollWhile { interval: POLL_INTERVAL, goes_on: &mut goes_on };
        match self.core.in_nodes((stage, replica), polling, work) {
            Outcome::Done(Ok(result)) => Ok(Some(result)),
            Outcome::Done(Err(panic)) => {
                end.panic.get_or_insert(panic);
                Ok(None)
            }
            Outcome::Unfinished => Err(true),
            Outcome::NotBegun => Err(false),
        }
    }
}

/// What comes of a close.
struct End<'a, P: Payload> {
    deadline: Deadline<'a, P>,
    /// The threads that have not returned.
    busy: Vec<Busy>,
    abandoned: Vec<Stall>,
    cleanups: Vec<NodeFailure<P::Fault>>,
    panic: Option<Panic>,
}

/// A thread of a stage, by the number of the stage.
type Busy = (usize, Role);
