//! Items of one envelope that are in progress at the same time, and what becomes of each.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::locks::{Condvar, Mutex};
use crate::node::Outputs;
use crate::payload::Payload;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{InProgress, LateOutputs, OutputChunk, OutputsOf, Replica, Stage};

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
    outputs: Vec<Option<OutputsOf<P>>>,
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

    /// The item in this place is done, and those behind it for which there are results, too.
    pub(crate) fn finish(
        self: &Arc<Self>,
        first: usize,
        (started, replica): (Instant, usize),
        results: Vec<Result<Outputs<P>, P::Fault>>,
    ) {
        let stage = &self.core.stages[self.stage];
        let took = started.elapsed();
        let mut is_reached = false;
        let mut outputs = Vec::with_capacity(results.len());
        for (slot, result) in (first..).zip(results) {
            is_reached |= !matches!(result, Ok(Outputs::NotReached));
            let became = self.became(slot, result);
            let is_one = became.iter().any(|piece| matches!(piece, OutputChunk::Output(..)));
            self.core.count_call(stage, self.in_progress.number_of(slot), took, usize::from(is_one));
            outputs.push(became);
        }
        self.fill(first, outputs, is_reached, &stage.replicas[replica]);
    }

    /// What an item becomes.
    fn became(&self, slot: usize, result: Result<Outputs<P>, P::Fault>) -> OutputsOf<P> {
        let stage = &self.core.stages[self.stage];
        match result {
            Ok(Outputs::None | Outputs::NotReached) => OutputsOf::new(),
            Ok(Outputs::One(output)) => {
                stage.by_all_exits(output).map(|(exit, output)| OutputChunk::Output(exit, output)).collect()
            }
            Ok(Outputs::Many(stream)) => [OutputChunk::Stream(stream)].into_iter().collect(),
            Err(fault) => {
                stage.replicas[0].count_failure(&fault, 1);
                let number = self.in_progress.number_of(slot);
                self.core.fail(self.in_progress.input, self.core.blame_node(self.stage, number, fault));
                OutputsOf::new()
            }
        }
    }

    /// These items become nothing.
    pub(crate) fn leave_out(self: &Arc<Self>, slots: Range<usize>) {
        let replica = &self.core.stages[self.stage].replicas[0];
        self.fill(slots.start, slots.map(|_| OutputsOf::new()).collect(), true, replica);
    }

    fn fill(self: &Arc<Self>, first: usize, outputs: Vec<OutputsOf<P>>, is_reached: bool, replica: &Replica<P>) {
        let stage = &self.core.stages[self.stage];
        let count = outputs.len();
        let mut results = self.results.lock();
        for (place, outputs) in results.outputs[first..].iter_mut().zip(outputs) {
            *place = Some(outputs);
        }
        results.missing -= count;
        results.is_reached |= is_reached;
        self.in_progress.done.fetch_add(count, Ordering::Relaxed);
        let is_over = results.missing == 0;
        let is_late = self.in_progress.positions.is_some() && self.is_late(replica, &mut results, is_over);
        let whole = if is_over || is_late { results.whole.take() } else { None };
        let Some(whole) = whole else {
            let counted = usize::from(std::mem::take(&mut results.is_ahead));
            drop(results);
            self.has_changed.notify_all();
            stage.reorder().end_items(count - counted);
            return self.leave(is_over);
        };
        let all = is_over.then(|| (std::mem::take(&mut results.outputs), results.is_reached));
        drop(results);
        // What takes them counts one of the items.
        stage.reorder().end_items(count - 1);
        let Some((outputs, is_reached)) = all else { return whole(self.rest(), Vec::new(), true) };
        self.leave(true);
        let mut positions = Vec::with_capacity(outputs.len());
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
    fn is_late(&self, replica: &Replica<P>, results: &mut GroupResults<P>, is_over: bool) -> bool {
        let stage = &self.core.stages[self.stage];
        let took = match replica.worker.as_ref().and_then(|worker| worker.busy()) {
            // A worker that does one item after the other sends a part only then.
            Some(_) if !is_over => return true,
            // Not the time here: while the machine is busy, a process also waits for a core.
            Some(busy) => {
                let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
                let before = replica.busy_before.swap(busy, Ordering::Relaxed);
                Duration::from_nanos(busy.saturating_sub(before))
            }
            None => self.wall_time(stage, results, is_over),
        };
        if is_over {
            stage.note_item_time(took, results.outputs.len());
        }
        took > LONG_TIME
    }

    /// How long the items have been in progress.
    fn wall_time(&self, stage: &Stage<P>, results: &mut GroupResults<P>, is_over: bool) -> Duration {
        let now = Instant::now();
        let since = *results.since.get_or_insert_with(|| {
            // The worker was at another chunk before.
            stage.chunk_done_at.lock().map_or(self.began, |before| before.max(self.began))
        });
        if is_over {
            *stage.chunk_done_at.lock() = Some(now);
        }
        now - since
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

    fn next(&mut self) -> Option<(u32, OutputsOf<P>)> {
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
