//! What was begun in a worker and is not done.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::concurrent::{Done, PackDone};
use crate::payload::Payload;
use crate::worker::parent::connection::Job;
use crate::worker::parent::output_channel::Channel;

/// Receives the results of a batch.
pub(crate) type BatchDone<P> = Box<dyn FnOnce(Result<Vec<Option<P>>, <P as Payload>::Fault>) + Send>;

/// What receives the result of a job.
pub(crate) enum Reply<P: Payload> {
    /// The first output, or the end, has not come.
    Whole(Done<P>),
    /// One output was not the last.
    Stream(Arc<Channel<P>>),
    /// The results of a batch so far.
    Batch(Vec<Option<P>>, BatchDone<P>),
    /// The thread that reads the results itself.
    Direct,
    /// Items that are done one after the other.
    Pack(Arc<dyn PackDone<P>>),
}

/// A job of one number, or items of consecutive numbers that were begun together and are in the same state.
pub(crate) struct Pending<P: Payload> {
    pub(crate) job: Arc<Job<P>>,
    /// Which of its items these are.
    pub(crate) slots: Range<usize>,
    /// The index of its item among those of the pipeline, as far as is known, unless the job knows it.
    item_index: Option<u64>,
    pub(crate) reply: Reply<P>,
    /// Outputs that have gone out.
    pub(crate) emitted: usize,
    /// Outputs that arrive a second time, and are discarded.
    pub(crate) repeated: usize,
    /// Workers that died while they worked on it.
    pub(crate) deaths: usize,
    pub(crate) is_sent: bool,
    /// When it was sent last, if metrics are collected.
    since: Option<Instant>,
    /// How long nodes have worked on it since then.
    pub(crate) inside: Duration,
}

impl<P: Payload> Pending<P> {
    pub(crate) fn new(job: Arc<Job<P>>, item_index: Option<u64>, reply: Reply<P>, since: Option<Instant>) -> Self {
        let (slots, inside) = (0..job.count(), Duration::ZERO);
        Self { job, slots, item_index, reply, emitted: 0, repeated: 0, deaths: 0, is_sent: false, since, inside }
    }

    /// It is sent to another worker.
    pub(crate) fn note_sent(&mut self, since: Option<Instant>) {
        self.is_sent = true;
        self.since = since;
        self.inside = Duration::ZERO;
    }

    /// How long it was neither here nor in a node.
    pub(crate) fn transport(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed().saturating_sub(self.inside))
    }

    /// These of its items, in the same state.
    fn part(&self, slots: Range<usize>) -> Option<Self> {
        let Reply::Pack(done) = &self.reply else { return None };
        let (job, reply) = (Arc::clone(&self.job), Reply::Pack(Arc::clone(done)));
        Some(Self { job, slots, reply, emitted: 0, repeated: 0, ..*self })
    }
}

/// Jobs by their numbers.
pub(crate) struct Jobs<P: Payload> {
    /// By the number of the last item: those before it are done first.
    by_last: BTreeMap<u64, Pending<P>>,
}

impl<P: Payload> Jobs<P> {
    pub(crate) fn new() -> Self {
        Self { by_last: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_last.is_empty()
    }

    /// Add items, of which the first has this number.
    pub(crate) fn insert(&mut self, number: u64, pending: Pending<P>) {
        self.by_last.insert(number + pending.slots.len() as u64 - 1, pending);
    }

    /// What the item of this number is in.
    pub(crate) fn get(&self, number: u64) -> Option<&Pending<P>> {
        let (&last, pending) = self.by_last.range(number..).next()?;
        (first_of(last, pending) <= number).then_some(pending)
    }

    /// The index of the item of this number among those of the pipeline, as far as is known.
    pub(crate) fn item_index(&self, number: u64) -> Option<u64> {
        let (&last, pending) = self.by_last.range(number..).next()?;
        let place = usize::try_from(number.checked_sub(first_of(last, pending))?).ok()?;
        match &*pending.job {
            Job::Pack(items) => items.get(pending.slots.start + place).map(|(index, _)| *index),
            _ => pending.item_index,
        }
    }

    /// The item of this number, by itself.
    pub(crate) fn get_single(&mut self, number: u64) -> Option<&mut Pending<P>> {
        let pending = self.remove(number, 1)?;
        Some(self.by_last.entry(number).or_insert(pending))
    }

    /// Remove the item of this number and those behind it that are in the same state, but at most so many.
    pub(crate) fn remove(&mut self, number: u64, most: usize) -> Option<Pending<P>> {
        let (&last, pending) = self.by_last.range_mut(number..).next()?;
        let first = first_of(last, pending);
        let skipped = usize::try_from(number.checked_sub(first)?).ok()?;
        let Range { start, end } = pending.slots;
        let taken = start + skipped..end.min(start + skipped + most);
        if taken == (start..end) {
            return self.by_last.remove(&last);
        }
        let removed = pending.part(taken.clone())?;
        let before = pending.part(start..taken.start).filter(|_| skipped > 0);
        if taken.end == end {
            self.by_last.remove(&last);
        } else {
            pending.slots = taken.end..end;
        }
        if let Some(before) = before {
            self.by_last.insert(number - 1, before);
        }
        Some(removed)
    }

    pub(crate) fn pop_first(&mut self) -> Option<Pending<P>> {
        let (&last, pending) = self.by_last.first_key_value()?;
        let first = first_of(last, pending);
        self.remove(first, 1)
    }

    /// All that is sent and not done, and the number behind that.
    pub(crate) fn end_of_sent(&self) -> u64 {
        self.by_last.iter().rev().find(|(_, pending)| pending.is_sent).map_or(0, |(last, _)| last + 1)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Pending<P>> {
        self.by_last.values()
    }

    /// The numbers of the items that are sent and not done.
    pub(crate) fn sent(&self) -> impl Iterator<Item = u64> {
        let sent = self.by_last.iter().filter(|(_, pending)| pending.is_sent);
        sent.flat_map(|(&last, pending)| first_of(last, pending)..=last)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Pending<P>> {
        self.by_last.values_mut()
    }

    /// The first that was not sent, with the number of its first item.
    pub(crate) fn first_unsent(&mut self) -> Option<(u64, &mut Pending<P>)> {
        let unsent = self.by_last.iter_mut().find(|(_, pending)| !pending.is_sent);
        unsent.map(|(&last, pending)| (first_of(last, pending), pending))
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = Pending<P>> {
        self.by_last.into_values()
    }
}

fn first_of<P: Payload>(last: u64, pending: &Pending<P>) -> u64 {
    last + 1 - pending.slots.len() as u64
}
