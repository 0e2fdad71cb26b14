//! Items of one envelope that are in progress at the same time, and what becomes of each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::locks::{Condvar, Mutex};
use crate::node::Outputs;
use crate::payload::Payload;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{InProgress, LateOutputs, OutputChunk, Stage};

/// If the items of a chunk take longer, outputs of those that are done are handed on before.
const LONG_TIME: Duration = Duration::from_millis(1);

/// Takes the outputs of all items of an envelope, in order, the position of each in its chunk, and whether one of them reached the last
/// node.
pub(crate) type Whole<P> = Box<dyn FnOnce(Vec<OutputChunk<P>>, Vec<u32>, bool) + Send>;

/// The items of one envelope that are in progress at the same time.
pub(crate) struct Group<P: Payload> {
    pub(crate) core: Arc<Core<P>>,
    pub(crate) stage: usize,
    number: u64,
    began: Instant,
    pub(crate) in_progress: Arc<InProgress>,
    results: Mutex<GroupResults<P>>,
    /// One more item is done, and outputs are handed on before all are.
    has_changed: Condvar,
}

struct GroupResults<P: Payload> {
    missing: usize,
    /// What became of the items that are done, until it is handed on.
    outputs: Vec<Option<Vec<OutputChunk<P>>>>,
    is_reached: bool,
    /// Until outputs are handed on.
    whole: Option<Whole<P>>,
    /// The reorder counts one more item as done.
    is_ahead: bool,
    /// Since when the worker can have been at work on these items.
    since: Option<Instant>,
}

impl<P: Payload> Group<P> {
    /// So many items of the envelope of this number are about to be begun. `whole` takes what they become.
    pub(crate) fn new(
        core: &Arc<Core<P>>,
        stage: usize,
        number: u64,
        in_progress: InProgress,
        (count, whole): (usize, Whole<P>),
    ) -> Arc<Self> {
        let group = Arc::new(Self {
            core: Arc::clone(core),
            stage,
            number,
            began: Instant::now(),
            in_progress: Arc::new(in_progress),
            results: Mutex::new(GroupResults {
                missing: count,
                outputs: (0..count).map(|_| None).collect(),
                is_reached: false,
                whole: Some(whole),
                is_ahead: false,
                since: None,
            }),
            has_changed: Condvar::new(),
        });
        if group.in_progress.positions.is_some() {
            let of_group = Arc::downgrade(&group);
            let hand_on = move || of_group.upgrade().into_iter().for_each(|group| group.hand_on());
            group.in_progress.hand_on.set(Box::new(hand_on)).ok();
        }
        group
    }

    /// One of the items is done.
    pub(crate) fn finish(self: &Arc<Self>, slot: usize, started: Instant, result: Result<Outputs<P>, P::Fault>) {
        let stage = &self.core.stages[self.stage];
        let is_reached = !matches!(result, Ok(Outputs::NotReached));
        let outputs = match result {
            Ok(Outputs::None | Outputs::NotReached) => Vec::new(),
            Ok(Outputs::One(output)) => {
                let outputs = stage.by_all_exits(output).into_iter();
                outputs.map(|(exit, output)| OutputChunk::Output(exit, output)).collect()
            }
            Ok(Outputs::Many(stream)) => vec![OutputChunk::Stream(stream)],
            Err(fault) => {
                stage.replicas[0].count_failure(&fault, 1);
                self.core.fail(
                    self.in_progress.input,
                    self.core.blame_node(self.stage, self.in_progress.number_of(slot), fault),
                );
                Vec::new()
            }
        };
        let count = outputs.iter().any(|piece| matches!(piece, OutputChunk::Output(..)));
        self.core.count_call(stage, self.in_progress.number_of(slot), started.elapsed(), usize::from(count));
        self.fill(slot, outputs, is_reached);
    }

    pub(crate) fn fill(self: &Arc<Self>, slot: usize, outputs: Vec<OutputChunk<P>>, is_reached: bool) {
        let stage = &self.core.stages[self.stage];
        let mut results = self.results.lock();
        results.outputs[slot] = Some(outputs);
        results.missing -= 1;
        results.is_reached |= is_reached;
        self.in_progress.done.fetch_add(1, Ordering::Relaxed);
        let is_over = results.missing == 0;
        let is_late = self.in_progress.positions.is_some() && self.is_late(stage, &mut results, is_over);
        let whole = if is_over || is_late { results.whole.take() } else { None };
        let Some(whole) = whole else {
            let is_counted = std::mem::take(&mut results.is_ahead);
            drop(results);
            self.has_changed.notify_all();
            if !is_counted {
                stage.reorder().end_item();
            }
            return self.leave(is_over);
        };
        if !is_over {
            drop(results);
            return whole(self.rest(), Vec::new(), true);
        }
        let (outputs, is_reached) = (std::mem::take(&mut results.outputs), results.is_reached);
        drop(results);
        self.leave(true);
        let mut positions = Vec::new();
        let mut chunks = Vec::with_capacity(outputs.len());
        for (slot, outputs) in outputs.into_iter().enumerate() {
            let outputs = outputs.unwrap_or_default();
            positions.extend(self.in_progress.position(slot).into_iter().cycle().take(outputs.len()));
            chunks.extend(outputs);
        }
        whole(chunks, positions, is_reached);
    }

    /// The outputs of the items that are done do not wait for the others any more.
    fn hand_on(self: &Arc<Self>) {
        let mut results = self.results.lock();
        if results.outputs.first().is_some_and(Option::is_some)
            && let Some(whole) = results.whole.take()
        {
            results.is_ahead = true;
            drop(results);
            whole(self.rest(), Vec::new(), true);
        }
    }

    fn rest(self: &Arc<Self>) -> Vec<OutputChunk<P>> {
        vec![OutputChunk::Late(Box::new(Rest { group: Arc::clone(self), slot: 0 }))]
    }

    /// Whether the items of a chunk take so long that the outputs of those that are done are not to wait for the others.
    fn is_late(&self, stage: &Stage<P>, results: &mut GroupResults<P>, is_over: bool) -> bool {
        let now = Instant::now();
        let since = *results.since.get_or_insert_with(|| {
            // The worker was at another chunk before.
            stage.chunk_done_at.lock().map_or(self.began, |before| before.max(self.began))
        });
        if is_over {
            *stage.chunk_done_at.lock() = Some(now);
            stage.note_item_time(now - since, results.outputs.len());
        }
        now - since > LONG_TIME
    }

    fn leave(&self, is_over: bool) {
        if is_over {
            let stage = &self.core.stages[self.stage];
            let finished = stage.started.lock().remove(&self.number);
            stage.has_finished.notify_all();
            drop(finished);
        }
    }
}

/// The items of a chunk, handed on one after the other as they are done.
struct Rest<P: Payload> {
    group: Arc<Group<P>>,
    /// The next one.
    slot: usize,
}

impl<P: Payload> LateOutputs<P> for Rest<P> {
    fn is_there(&self) -> bool {
        self.group.results.lock().outputs.get(self.slot).is_none_or(Option::is_some)
    }

    fn next(&mut self) -> Option<(u32, Vec<OutputChunk<P>>)> {
        let position = *self.group.in_progress.positions.as_ref()?.get(self.slot)?;
        let mut results = self.group.results.lock();
        loop {
            if let Some(outputs) = results.outputs[self.slot].take() {
                self.slot += 1;
                return Some((position, outputs));
            }
            self.group.has_changed.wait(&mut results);
        }
    }
}
