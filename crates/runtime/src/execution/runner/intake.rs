//! How the items of a run come in and go through the nodes: from a source or a feed, one by one or in chunks.

use std::time::Instant;

use crate::execution::machine::{Machine, Stop};
use crate::execution::pace::Pace;
use crate::execution::runner::{Runner, enter};
use crate::failure::RunError;
use crate::node::Outputs;
use crate::node::bulk::BulkEnd;
use crate::node::endpoints::{Feed, Sink};
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;

impl<P: Payload> Runner<P> {
    pub(crate) fn run_source(&mut self, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let Self { machine, node_lock, .. } = self;
        let cancel = machine.is_cancelled.clone();
        let started = Instant::now();
        let outputs = enter(node_lock.as_deref(), &cancel, || machine.produce())?;
        let outputs = outputs.map_err(|fault| self.blame(0, Some(0), Phase::Process, fault))?;
        match outputs {
            Outputs::None | Outputs::NotReached => return Ok(()),
            Outputs::One(item) => {
                self.machine.note_step(0, Phase::Process, started.elapsed());
                return self.take_from_source(item, sink);
            }
            Outputs::Many(stream) => self.machine.source = Some(stream),
        }
        while let Some(item) = self.draw_from_source()? {
            self.take_from_source(item, sink)?;
        }
        Ok(())
    }

    /// Ask the generator of a source for one more item.
    fn draw_from_source(&mut self) -> Result<Option<P>, RunError<P::Fault>> {
        if self.machine.is_cancelled.is_set() {
            return Err(RunError::Cancelled);
        }
        let Some(stream) = &mut self.machine.source else { return Ok(None) };
        let started = Instant::now();
        let next = enter(self.node_lock.as_deref(), &self.machine.is_cancelled, || stream.next());
        let next = next?;
        if matches!(next, Ok(Some(_))) {
            self.machine.input = numbering::of_item(self.items_in);
            self.machine.note_step(0, Phase::Process, started.elapsed());
        } else {
            self.machine.source = None;
        }
        next.map_err(|fault| self.blame(0, Some(self.items_in), Phase::Process, fault))
    }

    fn take_from_source(&mut self, item: P, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        self.machine.record(0, |recorder| recorder.items_out += 1);
        self.take(item, sink, |machine, item, sink| machine.take_from_source(0, item, sink))
    }

    pub(crate) fn run_feed(
        &mut self,
        feed: &mut dyn Feed<P>,
        sink: &mut dyn Sink<P>,
    ) -> Result<(), RunError<P::Fault>> {
        let mut pace = Pace::new();
        loop {
            if self.machine.is_cancelled.is_set() {
                return Err(RunError::Cancelled);
            }
            if let Some(limit) = pace.chunk()
                && let Some(chunk) = feed.next_chunk(limit)
            {
                let taken = self.take_chunk(chunk.map_err(RunError::Feed)?, sink)?;
                // A chunk that a cancellation emptied is not the end of input.
                if taken == 0 && !self.machine.is_cancelled.is_set() {
                    return Ok(());
                }
                pace.passed(taken as u64);
                continue;
            }
            match feed.next().map_err(RunError::Feed)? {
                Some(item) => self.take(item, sink, Machine::take)?,
                None => return Ok(()),
            }
            pace.passed(1);
        }
    }

    /// Take a chunk through in the fastest way that there is, and say how many items it had.
    fn take_chunk(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        if !self.bulk_is_possible {
            let is_measured = self.machine.recorders.is_some();
            self.bulk_is_possible = self.bulk.as_mut().is_some_and(|bulk| bulk.is_possible(is_measured));
            if !self.bulk_is_possible {
                self.bulk = None;
            }
        }
        if self.bulk.is_some() {
            return self.take_in_bulk(chunk, sink);
        }
        self.take_singly(chunk, sink)
    }

    fn take_singly(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        let items = P::unpack(chunk).map_err(RunError::Feed)?;
        let count = items.len();
        self.take_all(items, sink)?;
        Ok(count)
    }

    /// Take items through one by one, with the lock taken once.
    fn take_all(&mut self, items: Vec<P>, sink: &mut dyn Sink<P>) -> Result<(), RunError<P::Fault>> {
        let first = self.items_in;
        let mut taken = 0;
        let outcome = self.in_turn(sink, |machine, sink| {
            for item in items {
                machine.input = numbering::of_item(first + taken);
                taken += 1;
                machine.take(item, sink)?;
            }
            Ok(())
        });
        self.items_in += taken;
        outcome
    }

    fn take(
        &mut self,
        item: P,
        sink: &mut dyn Sink<P>,
        way: impl FnOnce(&mut Machine<P>, P, &mut dyn Sink<P>) -> Result<(), Stop<P::Fault>>,
    ) -> Result<(), RunError<P::Fault>> {
        self.machine.input = numbering::of_item(self.items_in);
        self.items_in += 1;
        self.in_turn(sink, |machine, sink| way(machine, item, sink))
    }

    fn take_in_bulk(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> Result<usize, RunError<P::Fault>> {
        let bulk = self.bulk.as_mut().expect("chunks are asked for only with a way to take them");
        let mut counted = CountingSink { sink, count: &mut self.items_out };
        let work = || bulk.run(chunk, &mut counted);
        let outcome = enter(self.node_lock.as_deref(), &self.machine.is_cancelled, work)?;
        self.items_in += outcome.taken as u64;
        self.machine.input = numbering::of_item(self.items_in.saturating_sub(1));
        self.items_out += outcome.past_sink;
        for (node, calls) in outcome.calls.iter().enumerate() {
            self.machine.record(node, |recorder| recorder.called_in_bulk(calls));
        }
        let took = outcome.left.took;
        self.machine.take_over(outcome.left);
        match outcome.end {
            BulkEnd::Done => Ok(outcome.taken),
            BulkEnd::Fault(node, fault) => {
                Err(self.blame(node, Some(self.machine.item_index()), Phase::Process, fault))
            }
            BulkEnd::SinkFault(fault) => Err(RunError::Sink(fault)),
            BulkEnd::Stopped => Err(RunError::Cancelled),
            BulkEnd::Refused(chunk) => {
                self.bulk = None;
                self.take_singly(chunk, sink)
            }
            BulkEnd::Unfinished { node, output, rest } => {
                self.bulk = None;
                self.in_turn(sink, |machine, sink| machine.resume(node, output, took, sink))?;
                let taken = outcome.taken + rest.len();
                self.take_all(rest, sink)?;
                Ok(taken)
            }
        }
    }

    /// Run `work` on the machine when no other session is in its nodes.
    pub(crate) fn in_turn(
        &mut self,
        sink: &mut dyn Sink<P>,
        work: impl FnOnce(&mut Machine<P>, &mut dyn Sink<P>) -> Result<(), Stop<P::Fault>>,
    ) -> Result<(), RunError<P::Fault>> {
        let Self { machine, items_out, node_lock, .. } = self;
        let mut counted = CountingSink { sink, count: items_out };
        let cancel = machine.is_cancelled.clone();
        let outcome = enter(node_lock.as_deref(), &cancel, || work(machine, &mut counted))?;
        outcome.map_err(|stop| match stop {
            Stop::Node { node, phase, fault } => {
                let item_index = (phase == Phase::Process).then_some(self.machine.item_index());
                self.blame(node, item_index, phase, fault)
            }
            Stop::Sink(fault) => RunError::Sink(fault),
            Stop::Hindered(hindrance) => hindrance.into(),
            Stop::Cancelled | Stop::Paused => RunError::Cancelled,
        })
    }
}

struct CountingSink<'a, P: Payload> {
    sink: &'a mut dyn Sink<P>,
    count: &'a mut u64,
}

impl<P: Payload> Sink<P> for CountingSink<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        *self.count += 1;
        self.sink.accept(output)
    }
}
