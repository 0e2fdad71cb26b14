//! How envelopes come out of the queues of stages, and into those of the next.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::payload::Payload;
use crate::session::queues::inbox::{Dropped, Envelope, Popped};
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{Replica, Stage};

impl<P: Payload> Core<P> {
    /// Put an envelope into a stage. Returns what was dropped for it.
    pub(crate) fn receive(&self, stage: &Stage<P>, mut envelope: Envelope<P>) -> Option<Dropped<P>> {
        if self.with_metrics {
            envelope.since = Some(Instant::now());
        }
        let Some(joiner) = &stage.joiner else { return stage.push(envelope) };
        // Pushed under the lock: what was whole first goes first. The queue behind a joiner never blocks.
        let mut joiner = joiner.lock();
        if !self.in_flight.is_open(envelope.input) {
            // It was interrupted, and its other parts are forgotten.
            return None;
        }
        joiner.add(envelope).and_then(|whole| stage.push(whole))
    }

    /// The next envelope, for the thread of a replica, which does meanwhile what others ask of it.
    pub(crate) fn pop(&self, stage: &Stage<P>, replica: &Replica<P>) -> Popped<P> {
        loop {
            replica.run_tasks();
            match stage.inbox.pop_unless(|| replica.has_tasks()) {
                Popped::Nothing => {}
                popped => return self.note_popped(stage, popped),
            }
        }
    }

    /// The next envelope, if there is one.
    pub(crate) fn pop_at_once(&self, stage: &Stage<P>) -> Popped<P> {
        self.note_popped(stage, stage.inbox.pop_at_once())
    }

    /// The next envelope, if it comes before the deadline and before a wake.
    pub(crate) fn pop_until(&self, stage: &Stage<P>, deadline: Option<Instant>, wakes: u64) -> Popped<P> {
        self.note_popped(stage, stage.inbox.pop_until(deadline, wakes))
    }

    fn note_popped(&self, stage: &Stage<P>, popped: Popped<P>) -> Popped<P> {
        if let Popped::Envelope(_, envelope) = &popped {
            self.admit_waiting();
            if let Some(since) = envelope.since {
                let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                stage.waited_us.fetch_add(waited, Ordering::Relaxed);
            }
        }
        popped
    }
}
