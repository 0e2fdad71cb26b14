//! A run: an all-inline session that is opened, fed and closed, on the calling thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::{Closed, InlinePlan, Replicas, Session, SessionSettings};
use crate::execution::machine::{Machine, Stop};
use crate::execution::metrics::Metrics;
use crate::failure::{Failure, RunError};
use crate::limits::CLOSE_TIMEOUT;
use crate::node::bulk::Bulk;
use crate::node::endpoints::{Feed, Sink};
use crate::node::{Node, Outputs};
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::session::stages::stage::Replica;
use crate::session::stages::work::blame;

/// The most items of a run that go through the nodes at once: it makes what a chunk costs invisible beside its items.
const LARGEST_CHUNK: usize = 4096;

/// The longest that a chunk of a run should take: a cancellation waits for the end of it, and outputs wait in it.
const CHUNK_TIME: Duration = Duration::from_millis(1);

impl<P: Payload> Session<P> {
    /// Open an all-inline plan, run it and close it: its whole life in one call.
    ///
    /// # Errors
    /// What ended the run, and the cleanups that failed.
    ///
    /// # Panics
    /// As [`Session::open`] and [`Session::run`] do.
    pub fn execute(
        plan: Arc<Plan>,
        nodes: Vec<Box<dyn Node<P>>>,
        settings: SessionSettings<P>,
        feed: &mut dyn Feed<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<Option<Metrics>, Failure<P::Fault>> {
        let settings = SessionSettings { inline: InlinePlan::InRun, ..settings };
        let nodes = nodes.into_iter().map(|node| Replicas { nodes: vec![node] }).collect();
        let session = Self::open(plan, nodes, &settings, &|_, _| None)?;
        let outcome = session.run(feed, sink, None);
        session.close(CLOSE_TIMEOUT, &|| {}).after(outcome)
    }

    /// Take all items of `feed`, or of the plan's own source, through the nodes, then flush them. The plan is all-inline, and open
    /// [in a run](super::InlinePlan::InRun).
    ///
    /// `bulk` is a faster way through all nodes at once.
    ///
    /// # Errors
    /// What ended the run early. The nodes are abandoned and cleaned up when the session closes.
    ///
    /// # Panics
    /// If the plan has several stages.
    pub fn run(
        &self,
        feed: &mut dyn Feed<P>,
        sink: &mut dyn Sink<P>,
        bulk: Option<Box<dyn Bulk<P>>>,
    ) -> Result<(), RunError<P::Fault>> {
        assert!(self.is_direct(), "only an all-inline plan runs on the calling thread");
        let replica = self.replica();
        let mut machine = replica.machine.lock();
        machine.input = numbering::of_item(0);
        // Single items in a chunk are not observed.
        let bulk = bulk.filter(|_| machine.observer.is_none());
        let has_source = machine.nodes[0].as_source().is_some();
        let mut sink = CountingSink { sink, count: 0 };
        let mut run = Run { session: self, replica, machine: &mut machine, bulk, sink: &mut sink };
        let outcome = if has_source { run.run_source() } else { run.run_feed(feed) };
        let outcome = outcome.and_then(|()| run.in_turn(Machine::flush));
        self.count_direct_outputs(sink.count);
        outcome
    }
}

/// A run under way.
struct Run<'a, 'sink, P: Payload> {
    session: &'a Session<P>,
    replica: &'a Replica<P>,
    machine: &'a mut Machine<P>,
    /// Until it turns out that there is no such way.
    bulk: Option<Box<dyn Bulk<P>>>,
    sink: &'a mut CountingSink<'sink, P>,
}

impl<P: Payload> Run<'_, '_, P> {
    fn run_source(&mut self) -> Result<(), RunError<P::Fault>> {
        let started = Instant::now();
        let outputs = self.of_source(Machine::produce)?;
        match outputs {
            Outputs::None | Outputs::NotReached => return Ok(()),
            Outputs::One(item) => {
                self.machine.note_step(0, Phase::Process, started.elapsed());
                return self.take_from_source(item);
            }
            Outputs::Many(stream) => self.machine.source = Some(stream),
        }
        while let Some(item) = self.draw_from_source()? {
            self.take_from_source(item)?;
        }
        Ok(())
    }

    /// Ask the generator of a source for one more item.
    fn draw_from_source(&mut self) -> Result<Option<P>, RunError<P::Fault>> {
        if self.machine.is_cancelled.is_set() {
            return Err(RunError::Cancelled);
        }
        let started = Instant::now();
        self.machine.input = numbering::of_item(self.session.core.in_flight.items());
        let next = self.of_source(|machine| machine.source.as_mut().map_or(Ok(None), |stream| stream.next()));
        if matches!(next, Ok(Some(_))) {
            self.machine.note_step(0, Phase::Process, started.elapsed());
        } else {
            self.machine.source = None;
        }
        next
    }

    /// Call the source when no other session is in the nodes.
    fn of_source<R>(
        &mut self,
        call: impl FnOnce(&mut Machine<P>) -> Result<R, P::Fault>,
    ) -> Result<R, RunError<P::Fault>> {
        let returned = self.replica.enter_unless(&self.replica.stop, self.machine, call)?;
        returned.map_err(|fault| blame(self.machine, Stop::Node { node: 0, phase: Phase::Process, fault }))
    }

    fn take_from_source(&mut self, item: P) -> Result<(), RunError<P::Fault>> {
        self.machine.count_output(0);
        self.take(item, |machine, item, sink| machine.take_from_source(0, item, sink))
    }

    fn run_feed(&mut self, feed: &mut dyn Feed<P>) -> Result<(), RunError<P::Fault>> {
        let crosses = self.crosses()?;
        let new_pace = if crosses { Pace::growing } else { Pace::new };
        let mut pace = new_pace(LARGEST_CHUNK, CHUNK_TIME);
        loop {
            if self.machine.is_cancelled.is_set() {
                return Err(RunError::Cancelled);
            }
            if let Some(limit) = pace.chunk()
                && let Some(chunk) = if crosses { feed.next_ready(limit) } else { feed.next_chunk(limit) }
            {
                let taken = self.take_chunk(chunk.map_err(RunError::Feed)?)?;
                // A chunk that a cancellation emptied is not the end of input.
                if taken == 0 && !self.machine.is_cancelled.is_set() {
                    return Ok(());
                }
                pace.passed(taken as u64);
                continue;
            }
            match feed.next().map_err(RunError::Feed)? {
                Some(item) => self.take(item, Machine::take)?,
                None => return Ok(()),
            }
            pace.passed(1);
        }
    }

    /// Whether each chunk takes its time to get to the nodes.
    fn crosses(&mut self) -> Result<bool, RunError<P::Fault>> {
        match &mut self.bulk {
            Some(bulk) if self.machine.recorders.is_none() => bulk.crosses().map_err(RunError::Feed),
            _ => Ok(false),
        }
    }

    /// Take a chunk through in the fastest way that there is, and say how many items it had.
    fn take_chunk(&mut self, chunk: P) -> Result<usize, RunError<P::Fault>> {
        let mut taken = 0;
        let mut rest = Some(chunk);
        while let Some(chunk) = rest {
            if taken > 0 && self.machine.is_cancelled.is_set() {
                return Err(RunError::Cancelled);
            }
            let (session, mut bulk) = (self.session, self.bulk.take());
            let outcome = self.in_turn(|machine, sink| session.take_chunk(machine, &mut bulk, chunk, sink))?;
            self.bulk = bulk;
            taken += outcome.0;
            rest = outcome.1;
        }
        Ok(taken)
    }

    fn take(
        &mut self,
        item: P,
        way: impl FnOnce(&mut Machine<P>, P, &mut dyn Sink<P>) -> Result<(), Stop<P::Fault>>,
    ) -> Result<(), RunError<P::Fault>> {
        self.machine.input = numbering::of_item(self.session.number_items(1));
        self.in_turn(|machine, sink| way(machine, item, sink))
    }

    /// Run `work` on the machine when no other session is in its nodes.
    fn in_turn<R>(
        &mut self,
        work: impl FnOnce(&mut Machine<P>, &mut dyn Sink<P>) -> Result<R, Stop<P::Fault>>,
    ) -> Result<R, RunError<P::Fault>> {
        let Self { replica, machine, sink, .. } = self;
        let outcome = replica.enter_unless(&replica.stop, machine, |machine| work(machine, &mut **sink))?;
        outcome.map_err(|stop| blame(machine, stop))
    }
}

struct CountingSink<'a, P: Payload> {
    sink: &'a mut dyn Sink<P>,
    count: u64,
}

impl<P: Payload> Sink<P> for CountingSink<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.count += 1;
        self.sink.accept(output)
    }
}

impl<F> Closed<F> {
    /// The result of a run that ended like this before its session closed.
    pub fn after(self, outcome: Result<(), RunError<F>>) -> Result<Option<Metrics>, Failure<F>> {
        match outcome {
            Ok(()) if self.cleanups.is_empty() => Ok(self.metrics),
            outcome => Err(Failure { first: outcome.err(), cleanups: self.cleanups }),
        }
    }
}
