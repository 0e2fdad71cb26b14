//! What the end of a worker means for what it was at.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::execution::progress::Reading;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::parent::client::Remote;
use crate::worker::parent::connection::{Connection, Job};
use crate::worker::parent::monitor::End;
use crate::worker::{ExitCause, WorkerExit};

/// An item that was in work when as many workers died is the cause.
const MAX_DEATHS: usize = 2;

impl<P: Payload> Remote<P> {
    /// Whether no other worker should be started: the session closes, or should have ended by now.
    pub(crate) fn is_ending(&self) -> bool {
        let state = self.lock();
        state.is_closing || state.end_by.is_some_and(|end_by| Instant::now() >= end_by)
    }

    /// The exit of a worker that is gone.
    pub(crate) fn worker_exit(&self, end: &End, restarts: usize, is_final: bool) -> WorkerExit {
        let node = end.reading.map_or(0, |reading| reading.node).min(self.spec.node_ids.len() - 1);
        WorkerExit {
            node_id: self.spec.node_ids[node].clone(),
            phase: self.phase_of(end),
            cause: end.cause.clone(),
            process: end.process,
            item_index: self.item_in_work(end),
            stderr: end.stderr.clone(),
            restarts,
            is_final,
        }
    }

    /// Whether an item was sent to the worker and its result has not arrived.
    pub(crate) fn is_unfinished(&self, reading: Reading) -> bool {
        let state = self.lock();
        reading.input.and_then(|number| state.pending.get(number)).is_some_and(|pending| pending.is_sent)
    }

    /// The item that was in work, by its index among those of the pipeline.
    fn item_in_work(&self, end: &End) -> Option<u64> {
        self.lock().pending.item_index(end.reading?.input?)
    }

    /// The exit that is reported when not the worker ended, but its supervisor.
    pub(crate) fn first_node_exit(&self, cause: ExitCause) -> WorkerExit {
        let node_id = self.spec.node_ids[0].clone();
        WorkerExit {
            node_id,
            phase: Phase::Process,
            cause,
            process: None,
            item_index: None,
            stderr: String::new(),
            restarts: 0,
            is_final: true,
        }
    }

    /// Why nothing can be begun any more where no worker was lost.
    pub(crate) fn has_closed(&self) -> WorkerExit {
        self.first_node_exit(ExitCause::NotStarted("its session closed".to_owned()))
    }

    fn phase_of(&self, end: &End) -> Phase {
        let state = self.lock();
        match end.reading {
            _ if !end.was_ready => Phase::Initialize,
            Some(Reading { input: None, .. }) if state.is_closing => Phase::Cleanup,
            Some(Reading { input: Some(number), .. }) => match state.pending.get(number).map(|pending| &*pending.job) {
                Some(Job::Flush) => Phase::Flush,
                _ => Phase::Process,
            },
            _ => Phase::Process,
        }
    }

    /// The items that were in work have one more death on them; one that has too many ends with the exit as its fault, as does one that
    /// took too long. Returns whether there is such a one.
    pub(crate) fn fail_poison_items(&self, exit: &WorkerExit, end: &End) -> bool {
        let in_work = end.reading.and_then(|reading| reading.input);
        let is_timeout = matches!(exit.cause, ExitCause::TimedOut(_));
        let mut poison_items = Vec::new();
        {
            let mut state = self.lock();
            let is_concurrent = self.spec.is_concurrent();
            let suspects = if is_concurrent {
                state.pending.sent().filter(|&number| number <= end.begun || in_work == Some(number)).collect()
            } else {
                Vec::from_iter(in_work)
            };
            let is_sure = !is_concurrent || state.pending.sent().nth(1).is_none();
            for number in suspects {
                let Some(pending) = state.pending.get_single(number) else { continue };
                pending.deaths += 1;
                if is_timeout || (is_sure && pending.deaths >= MAX_DEATHS) {
                    poison_items.push(number);
                }
            }
        }
        for &number in &poison_items {
            self.fail_lost(number, self.codec.lost(exit));
        }
        !poison_items.is_empty()
    }

    /// Fail the oldest job with the reason why the nodes could not be restored, which says more than that their worker has ended.
    pub(crate) fn fail_oldest_job(&self) {
        let (pending, fault) = {
            let mut state = self.lock();
            (state.pending.pop_first(), state.faults.iter_mut().find_map(Option::take))
        };
        if let (Some(pending), Some(fault)) = (pending, fault) {
            pending.fail(self, fault);
        }
    }

    /// A node failed in `initialize` or `cleanup`, or cannot be written down.
    pub(crate) fn note_fault(&self, node: usize, fault: P::Fault) {
        // An earlier one is not dropped under the lock.
        let _earlier = self.lock().faults.get_mut(node).and_then(|place| place.replace(fault));
    }

    /// Add the traffic of a closed connection to the metrics.
    pub(crate) fn note_traffic(&self, connection: Option<&Connection>) {
        let Some(connection) = connection else { return };
        let (sent, received) = connection.link.traffic();
        self.counters.sent_bytes.fetch_add(sent, Ordering::Relaxed);
        self.counters.received_bytes.fetch_add(received, Ordering::Relaxed);
    }
}
