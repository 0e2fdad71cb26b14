//! What all threads of a session share: the stages, the inputs in flight, and the admission queue by which inputs come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::locks::Mutex;

use crate::execution::progress::Progress;
use crate::failure::RunError;
use crate::node::Observer;
use crate::numbering;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::{ChunkSizes, Plan};
use crate::session::Reporter;
use crate::session::queues::admission::{AdmissionQueue, Entered};
use crate::session::queues::clients::Client;
use crate::session::queues::in_flight::{InFlight, InputKind};
use crate::session::queues::inbox::{Dropped, Envelope};
use crate::session::queues::joiner::Joiner;
use crate::session::stages::paused::Paused;
use crate::session::stages::stage::{Link, Stage};
use crate::session::stages::tasks::Tasks;

/// The shared part of a session.
pub(crate) struct Core<P: Payload> {
    pub(crate) plan: Arc<Plan>,
    pub(crate) stages: Vec<Stage<P>>,
    pub(crate) in_flight: InFlight<P>,
    /// Where the outputs of several last stages are put together.
    pub(crate) outputs: Option<Mutex<Joiner<P>>>,
    /// Where inputs wait while a queue is full.
    pub(crate) admission_queue: AdmissionQueue<Submission<P>>,
    /// The most inputs that may be in flight.
    pub(crate) window: usize,
    /// How many items of a stream pass through the stages together, if they do.
    pub(crate) chunks: Option<ChunkSizes>,
    pub(crate) draining: AtomicUsize,
    pub(crate) with_metrics: bool,
    pub(crate) is_closed: AtomicBool,
    pub(crate) reporter: Option<Arc<dyn Reporter<P>>>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Where the thread of the source is.
    pub(crate) source: Progress,
    /// Set while the nodes run on the threads that call, and the session has none.
    pub(crate) on_callers: Arc<AtomicBool>,
    /// How many threads take inputs through the nodes that they put in.
    pub(crate) bringing: AtomicUsize,
    /// An input was put in that the thread inside the nodes is to work on.
    pub(crate) has_left_work: AtomicBool,
    /// An input that waits for room, in a session whose nodes run on the threads that call.
    pub(crate) paused: Mutex<Option<Paused<P>>>,
    /// What others ask of it, if the plan has a source.
    pub(crate) source_tasks: Option<Arc<Tasks>>,
}

/// What is put into a session.
pub(crate) enum Input<P> {
    /// An item, once for each stage that begins with it.
    Item(Vec<P>),
    /// Several items of one stream, for a pipeline with one stage that begins with them.
    Chunk(Vec<P>),
    /// The end of input, which flushes the nodes.
    End,
}

/// An input on its way into a session.
pub(crate) struct Submission<P: Payload> {
    pub(crate) input: Input<P>,
    pub(crate) client: Arc<dyn Client<P>>,
    /// The context of the caller that puts it in.
    pub(crate) context: P::Context,
    pub(crate) is_urgent: bool,
    /// See [`Caller::own_index`](crate::session::Caller::own_index).
    pub(crate) own_index: Option<u64>,
    /// Called when it is in (`true`), or never will be, unless that is known at once. Never waits.
    pub(crate) admitted: Option<Box<dyn FnOnce(bool) + Send>>,
}

impl<P: Payload> Submission<P> {
    /// It will never be in.
    pub(crate) fn refuse(mut self, error: RunError<P::Fault>) {
        let admitted = self.admitted.take();
        self.end(error);
        if let Some(admitted) = admitted {
            admitted(false);
        }
    }

    /// Its inputs ended with this error.
    fn end(self, error: RunError<P::Fault>) {
        match self.input {
            Input::Chunk(items) => self.client.chunk_done(items.len() as u64, Err(error)),
            Input::Item(_) | Input::End => self.client.done(Err(error)),
        }
    }

    /// How many inputs of its client it is.
    pub(crate) fn size(&self) -> usize {
        if let Input::Chunk(items) = &self.input { items.len() } else { 1 }
    }
}

/// Inputs whose end is waited for: those in flight, and those that waited for room when it began.
#[derive(Debug)]
pub struct Drain {
    waiting_before: u64,
    /// A number above those of all of them, when they are in.
    end: Option<u64>,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in.
    Now,
    /// It waits for room; `admitted` is called then.
    Later,
    /// The session takes no more; the client has been notified.
    Never,
}

impl<P: Payload> Core<P> {
    /// An item, once for each stage that begins with it. Made before the admission queue is locked: it may have to wait for the interpreter of a
    /// language, whose holder may wait for the admission queue.
    pub(crate) fn for_entries(&self, item: P) -> Vec<P> {
        let entries = self.stages.iter().filter(|stage| stage.entry.is_some()).count();
        let mut items: Vec<P> = (1..entries).map(|_| item.duplicate()).collect();
        items.push(item);
        items
    }

    /// Let a chunk in if there is room for all of it; returns it otherwise. Nothing waits.
    pub(crate) fn submit_chunk(&self, submission: Submission<P>) -> Result<u64, Submission<P>> {
        let items = submission.size();
        let mut input = 0;
        let has_room = || self.room() >= items;
        self.admission_queue.enter_at_once(submission, has_room, |submission| {
            let dropped = self.admit(submission);
            input = self.in_flight.last_input();
            dropped
        })?;
        Ok(input)
    }

    /// Let an input in, now or as soon as there is room.
    pub(crate) fn submit(&self, submission: Submission<P>) -> Admission {
        let size = submission.size();
        match self.admission_queue.enter(
            submission,
            || self.has_room_for_input(size),
            |submission| self.admit(submission),
        ) {
            Entered::Now(dropped) => {
                self.end_dropped(dropped);
                Admission::Now
            }
            Entered::Later => {
                self.admit_waiting();
                Admission::Later
            }
            Entered::Never(submission) => {
                submission.end(RunError::Closed);
                Admission::Never
            }
        }
    }

    /// Let in who waits, as far as there is room. Called whenever some has come.
    pub(crate) fn admit_waiting(&self) {
        let admit = |mut submission: Submission<P>| {
            let admitted = submission.admitted.take();
            (self.admit(submission), admitted)
        };
        self.admission_queue.let_in(
            Submission::size,
            |size| self.has_room_for_input(size),
            admit,
            |(dropped, admitted)| {
                self.complete_dropped(dropped);
                if let Some(admitted) = admitted {
                    admitted(true);
                }
            },
        );
    }

    /// Stop waiting for admission on behalf of this client.
    pub(crate) fn forget_waiting(&self, client: &Arc<dyn Client<P>>) {
        let is_its =
            |submission: &Submission<P>| std::ptr::addr_eq(Arc::as_ptr(&submission.client), Arc::as_ptr(client));
        for submission in self.admission_queue.forget(is_its) {
            submission.refuse(RunError::Cancelled);
        }
        self.admit_waiting();
    }

    /// Send an envelope the way of a link.
    pub(crate) fn send(&self, link: &Link, envelope: Envelope<P>) {
        match link.to {
            Some(stage) => self.end_dropped(self.receive(&self.stages[stage], envelope)),
            None => self.emit(envelope),
        }
    }

    /// Whether this many outputs of an input can go the way of a link without waiting, in one envelope. Only the thread that sends them may
    /// rely on it.
    pub(crate) fn has_room_for<T>(&self, link: &Link, header: &Envelope<T>, outputs: usize) -> bool {
        match link.to {
            Some(stage) => {
                let load = if header.positions.is_some() { outputs } else { 1 };
                self.stages[stage].inbox.drops() || self.stages[stage].inbox.has_room_for(load)
            }
            // Where outputs of several stages are put together, others may come along.
            None => self.outputs.is_none() && self.in_flight.room(header.input) >= outputs,
        }
    }

    /// The input failed. Its client receives the error when all stages are done with it.
    pub(crate) fn fail(&self, input: u64, error: RunError<P::Fault>) {
        self.in_flight.fail(input, error);
    }

    /// A call cannot be stopped: all inputs fail now, and nothing more goes in.
    pub(crate) fn abort(&self, error: impl Fn() -> RunError<P::Fault>) {
        let waiting = self.admission_queue.close();
        self.in_flight.take_all().fail_all(&error);
        for submission in waiting {
            submission.refuse(error());
        }
    }

    /// The error for a fault of the only node of a stage.
    pub(crate) fn blame_node(&self, stage: usize, input: u64, fault: P::Fault) -> RunError<P::Fault> {
        let node = self.plan.stages()[stage].nodes[0];
        RunError::of_node::<P>(&self.plan.nodes()[node].id, Some(numbering::item_index(input)), Phase::Process, fault)
    }

    /// Errors that end nothing, such as of a generator that is closed because its input failed.
    pub(crate) fn note_failures(&self, faults: impl Iterator<Item = P::Fault>) {
        for fault in faults {
            if let Some(reporter) = &self.reporter {
                reporter.log_ignored(fault);
            }
        }
    }

    /// A call that was begun by `Node::start` has ended.
    pub(crate) fn count_call(&self, stage: &Stage<P>, input: u64, took: Duration, outputs: usize) {
        stage.replicas[0].count_call(took, outputs);
        if let Some(observer) = &self.observer {
            let node = self.plan.stages()[stage.index].nodes[0];
            observer.stepped(&self.plan.nodes()[node].id, Phase::Process, Some(numbering::item_index(input)), took);
        }
    }

    /// The source has made one more item.
    pub(crate) fn count_source_output(&self) {
        if self.with_metrics {
            self.stages[self.plan.stage_of(0)].replicas[0].count_output();
        }
    }

    /// Each replica of each stage, by the numbers of both.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = (usize, usize)> + use<P> {
        let counts: Vec<usize> = self.stages.iter().map(|stage| stage.replicas.len()).collect();
        counts.into_iter().enumerate().flat_map(|(stage, count)| (0..count).map(move |replica| (stage, replica)))
    }

    /// The threads of nodes end when they have nothing to do: no more tasks are sent to them.
    pub(crate) fn close_tasks(&self) {
        let replicas = self.stages.iter().flat_map(|stage| &stage.replicas);
        replicas.filter_map(|replica| replica.tasks.as_ref()).for_each(Tasks::close);
        if let Some(tasks) = &self.source_tasks {
            tasks.close();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Batches no longer wait for company. Returns what is waited for: the inputs so far.
    pub(crate) fn begin_drain(&self) -> Drain {
        self.draining.fetch_add(1, Ordering::AcqRel);
        self.stages.iter().for_each(|stage| stage.inbox.wake());
        Drain { waiting_before: self.admission_queue.end(), end: None }
    }

    /// Whether the inputs before a drain are done, or become so within `timeout`.
    pub(crate) fn is_drained(&self, drain: &mut Drain, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        if drain.end.is_none() && !self.admission_queue.wait_until_past(drain.waiting_before, deadline) {
            return self.is_closed();
        }
        let end = *drain.end.get_or_insert_with(|| self.in_flight.end());
        self.in_flight.wait_until_done(end, deadline.saturating_duration_since(Instant::now()))
    }

    /// The end of [`Core::begin_drain`].
    pub(crate) fn end_drain(&self) {
        self.draining.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) > 0
    }

    pub(crate) fn has_room(&self) -> bool {
        let has_room = |stage: &Stage<P>| stage.entry.is_none() || stage.inbox.drops() || stage.inbox.has_room();
        self.in_flight.len() < self.window && self.stages.iter().all(has_room)
    }

    fn has_room_for_input(&self, size: usize) -> bool {
        if size == 1 { self.has_room() } else { self.room() >= size }
    }

    /// How many items need not wait at this moment, for a pipeline with one stage that begins with them.
    pub(crate) fn room(&self) -> usize {
        let entry = self.stages.iter().find(|stage| stage.entry.is_some());
        let in_queue = entry.map_or(0, |stage| stage.inbox.room());
        in_queue.min(self.window.saturating_sub(self.in_flight.len()))
    }

    /// Open an input and hand it to the stages that begin with it. Returns what was dropped for it.
    ///
    /// The admission queue is locked, so nothing here waits or calls a client.
    fn admit(&self, submission: Submission<P>) -> Vec<Dropped<P>> {
        let Submission { input, client, context, is_urgent, own_index, .. } = submission;
        let open = |kind| self.in_flight.open(client, context, own_index, kind);
        let mut entries = self.stages.iter().filter_map(|stage| Some((stage, stage.entry?)));
        let (input, items, is_flush) = match input {
            Input::Item(items) => (open(InputKind::Item), items, false),
            Input::End => (open(InputKind::End), Vec::new(), true),
            Input::Chunk(items) => {
                let count = u32::try_from(items.len()).expect("a queue is not that long");
                let input = open(InputKind::Chunk(count));
                let Some((stage, place)) = entries.next() else { return Vec::new() };
                let items = items.into_iter().map(|item| (place, item)).collect();
                let positions = Some((0..count).collect());
                return Vec::from_iter(self.receive(stage, Envelope { positions, ..Envelope::whole(input, items) }));
            }
        };
        let mut items = items.into_iter();
        let mut dropped = Vec::new();
        for (stage, place) in entries {
            let items = items.next().map(|item| (place, item)).into_iter().collect();
            let envelope = Envelope { is_flush, is_urgent, ..Envelope::whole(input, items) };
            dropped.extend(self.receive(stage, envelope));
        }
        dropped
    }

    /// Items were dropped; inputs of which nothing is left have ended, which makes room.
    fn end_dropped(&self, dropped: impl IntoIterator<Item = Dropped<P>>) {
        if self.complete_dropped(dropped) {
            self.admit_waiting();
        }
    }

    fn complete_dropped(&self, dropped: impl IntoIterator<Item = Dropped<P>>) -> bool {
        let ended = dropped.into_iter().filter(|dropped| dropped.ends_input);
        ended.map(|dropped| self.in_flight.complete(dropped.envelope.input)).count() > 0
    }

    /// Outputs of the pipeline.
    fn emit(&self, envelope: Envelope<P>) {
        let deliver = |envelope: Envelope<P>| {
            if let Some(positions) = &envelope.positions {
                let outputs = envelope.items.into_iter().map(|(_, output)| output).collect();
                let done = positions.last().map_or(0, |&last| last + u32::from(envelope.ends_item));
                self.in_flight.outputs(envelope.input, outputs, done, envelope.is_last);
            } else {
                for (_, output) in envelope.items {
                    self.in_flight.output(envelope.input, output);
                }
            }
            if envelope.is_last {
                self.in_flight.complete(envelope.input);
                self.admit_waiting();
            }
        };
        let Some(outputs) = &self.outputs else {
            deliver(envelope);
            return;
        };
        // Delivered under the lock: what was whole first goes first.
        let mut outputs = outputs.lock();
        if !self.in_flight.is_open(envelope.input) {
            return;
        }
        if let Some(whole) = outputs.add(envelope) {
            deliver(whole);
        }
    }
}
