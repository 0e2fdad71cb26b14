//! A stage whose node works on several items at once without threads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use crate::node::concurrent::{PackDone, Start, start_all, start_pack};
use crate::node::{Node, Outputs};
use crate::numbering;
use crate::payload::Payload;
use crate::session::queues::inbox::{Envelope, Popped};
use crate::session::queues::reorder::{Begin, Completion};
use crate::session::stages::group::{Group, Whole};
use crate::session::stages::replicas::{complete_and_help, end_stream};
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{InProgress, Replica, Stage};
use crate::session::stages::work::inputs_of;

/// The life of the thread of such a stage.
pub(crate) fn run_concurrent<P: Payload>(core: &Arc<Core<P>>, stage_index: usize) {
    let stage = &core.stages[stage_index];
    let reorder = stage.reorder();
    loop {
        if stage.inbox.is_empty() || !reorder.has_room() {
            hand_over(stage);
        }
        if stage.begin(&stage.replicas[0], None) != Begin::Begun {
            break;
        }
        let Popped::Envelope(number, envelope) = core.pop(stage, &stage.replicas[0]) else {
            reorder.unbegin();
            break;
        };
        let (envelopes, end) = with_those_behind(core, stage, (number, envelope));
        begin_envelopes(core, stage, envelopes);
        if let Some((number, envelope)) = end {
            end_concurrent(core, stage, number, envelope);
        }
    }
}

type Numbered<P> = (u64, Envelope<P>);

/// This envelope and those that wait behind it, as far as they may be begun, up to the end of input, or to one with several items: those
/// behind it would take the room that its items need.
fn with_those_behind<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    first: Numbered<P>,
) -> (Vec<Numbered<P>>, Option<Numbered<P>>) {
    let mut envelopes = Vec::new();
    let mut next = Some(first);
    while let Some((number, envelope)) = next {
        if envelope.ends_stream() {
            return (envelopes, Some((number, envelope)));
        }
        let has_several = envelope.items.len() > 1;
        envelopes.push((number, envelope));
        next = if has_several { None } else { begin_next(core, stage) };
    }
    (envelopes, None)
}

fn begin_next<P: Payload>(core: &Core<P>, stage: &Stage<P>) -> Option<Numbered<P>> {
    let reorder = stage.reorder();
    if !reorder.begin_at_once() {
        return None;
    }
    match core.pop_at_once(stage) {
        Popped::Envelope(number, envelope) => Some((number, envelope)),
        Popped::Nothing | Popped::Closed => {
            reorder.unbegin();
            None
        }
    }
}

fn begin_envelopes<P: Payload>(core: &Arc<Core<P>>, stage: &Stage<P>, envelopes: Vec<Numbered<P>>) {
    let mut starter = Starter::new(core, stage);
    if starter.is_in_worker {
        for (number, envelope) in envelopes {
            begin_envelope(&mut starter, number, envelope);
        }
        return starter.start();
    }
    // Begun in one go, and not in turn with what those before them do.
    P::hold(|| envelopes.into_iter().for_each(|(number, envelope)| begin_envelope(&mut starter, number, envelope)));
}

fn begin_envelope<P: Payload>(starter: &mut Starter<'_, P>, number: u64, envelope: Envelope<P>) {
    let (core, stage) = (starter.core, starter.stage);
    let mut header = envelope.header();
    let (items, positions) = items_of(core, stage, envelope);
    if items.is_empty() {
        stage.reorder().complete(number, Completion { header, outputs: Vec::new(), visited_exits: Vec::new() });
        return;
    }
    let input = header.input;
    let (core_of_end, index) = (Arc::clone(core), stage.index);
    let is_in_worker = starter.is_in_worker;
    let is_chunk = positions.is_some();
    let whole = move |outputs, positions, is_reached| {
        let stage = &core_of_end.stages[index];
        let visited_exits = if is_reached { stage.all_exits() } else { Vec::new() };
        header.positions = is_chunk.then_some(positions);
        let completion = Completion { header, outputs, visited_exits };
        if is_in_worker {
            complete_and_help(&core_of_end, stage, number, completion);
        } else {
            stage.reorder().complete(number, completion);
        }
    };
    starter.add((number, input), items, positions, Box::new(whole));
}

/// What the node is given of an envelope, with the positions of the items if that carries a chunk.
fn items_of<P: Payload>(core: &Core<P>, stage: &Stage<P>, mut envelope: Envelope<P>) -> (Vec<P>, Option<Vec<u32>>) {
    let mut positions = envelope.positions.take();
    if let Some(positions) = &mut positions
        && let Some(failed) = core.in_flight.failed_position(envelope.input)
    {
        // The outputs of a failed item, and of those after it, are dropped.
        let wanted = positions.partition_point(|&position| position < failed);
        positions.truncate(wanted);
        envelope.items.truncate(wanted);
    }
    let replica = &stage.replicas[0];
    (inputs_of(core, stage, replica, &mut replica.lock_inside_hold(), envelope), positions)
}

/// The end of input: its last items are let in with those before them, and when all are done the node is flushed.
fn end_concurrent<P: Payload>(core: &Arc<Core<P>>, stage: &Stage<P>, number: u64, envelope: Envelope<P>) {
    let header = envelope.header();
    let (items, _) = items_of(core, stage, envelope);
    let mut outputs = Vec::new();
    if !items.is_empty() {
        let (sender, whole) = sync_channel(1);
        // Only this thread waits, and for nothing else.
        let send = Box::new(move |outputs, _, _| drop(sender.try_send(outputs)));
        let mut starter = Starter::new(core, stage);
        starter.add((number, header.input), items, None, send);
        starter.start();
        hand_over(stage);
        outputs = whole.recv().unwrap_or_default();
    }
    end_stream(core, stage, 0, (number, header), outputs);
}

/// Begins with items in order, in the replica that has the least to do: there are several where each has a process of its own.
struct Starter<'a, P: Payload> {
    core: &'a Arc<Core<P>>,
    stage: &'a Stage<P>,
    /// Several items go to another process together; here each one runs the node, and the next waits its turn.
    is_in_worker: bool,
    /// The items of a chunk go to a worker together.
    goes_together: bool,
    /// What is to be begun together, for each replica.
    ready: Vec<Vec<Ready<P>>>,
}

/// Items that are about to be begun: one, or several that go together.
struct Ready<P: Payload> {
    group: Arc<Group<P>>,
    /// The place of the first one.
    first: usize,
    items: Vec<P>,
}

impl<P: Payload> Ready<P> {
    fn slots(&self) -> Range<usize> {
        self.first..self.first + self.items.len()
    }
}

impl<'a, P: Payload> Starter<'a, P> {
    fn new(core: &'a Arc<Core<P>>, stage: &'a Stage<P>) -> Self {
        let is_in_worker = stage.replicas.iter().any(|replica| replica.worker.is_some());
        let goes_together = core.plan.stages()[stage.index].sends_ahead();
        Self { core, stage, is_in_worker, goes_together, ready: stage.replicas.iter().map(|_| Vec::new()).collect() }
    }

    /// The items of an envelope. The first one has its place in the reorder already.
    fn add(&mut self, (number, input): (u64, u64), items: Vec<P>, positions: Option<Vec<u32>>, whole: Whole<P>) {
        let (core, stage) = (self.core, self.stage);
        let group = Group::new(core, stage.index, number, InProgress::new(input, positions), (items.len(), whole));
        stage.started.lock().insert(number, Arc::clone(&group.in_progress));
        let at_once =
            if group.in_progress.positions.is_some() && self.goes_together { stage.reorder().step() } else { 1 };
        let mut items = items.into_iter();
        let mut slot = 0;
        while items.len() > 0 {
            let count = at_once.min(items.len());
            // There is room for the first one.
            let more = if slot == 0 { count - 1 } else { count };
            if !stage.reorder().begin_items_at_once(more) {
                // They must be started, because only when some of them end there is room again.
                self.start();
                hand_over(stage);
                if !P::wait(|| stage.reorder().begin_items(more)) {
                    items.by_ref().take(count).for_each(drop);
                    group.leave_out(slot..slot + count);
                    slot += count;
                    continue;
                }
            }
            let (replica_index, replica) = least_busy(stage);
            replica.under_way.fetch_add(count, Ordering::Relaxed);
            let items = items.by_ref().take(count).collect();
            self.ready[replica_index].push(Ready { group: Arc::clone(&group), first: slot, items });
            slot += count;
            if !self.is_in_worker {
                self.start();
            }
        }
    }

    /// Begin with what is ready.
    fn start(&mut self) {
        for (replica_index, ready) in self.ready.iter_mut().enumerate() {
            if !ready.is_empty() {
                start_in(self.core, self.stage, replica_index, std::mem::take(ready));
            }
        }
    }
}

fn start_in<P: Payload>(core: &Arc<Core<P>>, stage: &Stage<P>, replica_index: usize, ready: Vec<Ready<P>>) {
    let replica = &stage.replicas[replica_index];
    let mut machine = replica.lock_inside_hold();
    for Ready { group, .. } in &ready {
        replica.note_given(group.in_progress.input);
    }
    // Asked inside, so that nothing old enters a node that has been notified of an interrupt.
    let started = Instant::now();
    let contexts = core.in_flight.contexts_of_wanted(ready.iter().map(|ready| ready.group.in_progress.input));
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        ready.into_iter().zip(contexts).partition(|(_, context)| context.is_some());
    let begun: Vec<_> = wanted.iter().map(|(ready, _)| (Arc::clone(&ready.group), ready.slots())).collect();
    if let Some((first, _)) = begun.first() {
        let items = begun.iter().map(|(_, slots)| slots.len()).sum();
        machine.count_inputs(0, items);
        machine.progress.enter(0, first.in_progress.input);
        let starts = Starts { started, replica_index, wanted };
        let is_begun = replica.try_enter(&mut machine, |machine| starts.enter(&mut *machine.nodes[0]));
        machine.progress.leave();
        drop(machine);
        if let Err(hindrance) = is_begun {
            for (group, slots) in &begun {
                core.fail(group.in_progress.input, hindrance.clone().into());
                replica.under_way.fetch_sub(slots.len(), Ordering::Relaxed);
                group.leave_out(slots.clone());
            }
        }
        // Some may have stopped to be wanted just before there was a way to end them.
        let are_wanted = core.in_flight.are_wanted(begun.iter().map(|(group, _)| group.in_progress.input));
        let unwanted = begun.iter().zip(are_wanted).filter(|(_, is_wanted)| !is_wanted);
        unwanted.for_each(|((group, _), _)| group.in_progress.end_early());
    } else {
        drop(machine);
    }
    for (ready, _) in unwanted {
        replica.under_way.fetch_sub(ready.items.len(), Ordering::Relaxed);
        ready.group.leave_out(ready.slots());
    }
}

/// Items that are about to enter a node, with their contexts.
struct Starts<P: Payload> {
    started: Instant,
    replica_index: usize,
    wanted: Vec<(Ready<P>, Option<P::Context>)>,
}

impl<P: Payload> Starts<P> {
    /// Begin with them in order; single ones that follow each other are begun together.
    fn enter(self, node: &mut dyn Node<P>) {
        let (started, replica_index) = (self.started, self.replica_index);
        let mut singles = Vec::new();
        let mut groups = Vec::new();
        for (Ready { group, first, mut items }, context) in self.wanted {
            let context = context.unwrap_or_default();
            let done = PackOf { group: Arc::clone(&group), first, started, replica_index };
            let index = |slot| numbering::item_index(group.in_progress.number_of(slot));
            if items.len() > 1 {
                start_singles(node, &mut singles, &mut groups);
                let places = 0..items.len();
                let items = (first..).map(index).zip(items).collect();
                let done: Arc<dyn PackDone<P>> = Arc::new(done);
                let end_pack = start_pack(node, &context, items, &done);
                group.in_progress.end_early.lock().push(Box::new(move || end_pack(places)));
            } else if let Some(item) = items.pop() {
                let done = Box::new(move |result| done.done(0, vec![result]));
                singles.push(Start { item_index: index(first), context, item, done });
                groups.push(group);
            }
        }
        start_singles(node, &mut singles, &mut groups);
    }
}

fn start_singles<P: Payload>(node: &mut dyn Node<P>, starts: &mut Vec<Start<P>>, groups: &mut Vec<Arc<Group<P>>>) {
    if starts.is_empty() {
        return;
    }
    let end_early = start_all(node, std::mem::take(starts));
    for (group, end_early) in groups.drain(..).zip(end_early) {
        group.in_progress.end_early.lock().extend(end_early);
    }
}

/// Items of a group that were begun in one replica.
struct PackOf<P: Payload> {
    group: Arc<Group<P>>,
    /// The place of the first one in the group.
    first: usize,
    started: Instant,
    replica_index: usize,
}

impl<P: Payload> PackDone<P> for PackOf<P> {
    fn done(&self, first: usize, results: Vec<Result<Outputs<P>, P::Fault>>) {
        let stage = &self.group.core.stages[self.group.stage];
        stage.replicas[self.replica_index].under_way.fetch_sub(results.len(), Ordering::Relaxed);
        self.group.finish(self.first + first, (self.started, self.replica_index), results);
    }
}

fn least_busy<P: Payload>(stage: &Stage<P>) -> (usize, &Replica<P>) {
    let replicas = stage.replicas.iter().enumerate();
    let least = replicas.min_by_key(|(_, replica)| replica.under_way.load(Ordering::Relaxed));
    least.expect("a stage has a replica")
}

/// What was begun should be on its way before this thread waits for more.
fn hand_over<P: Payload>(stage: &Stage<P>) {
    stage.replicas.iter().filter_map(|replica| replica.worker.as_ref()).for_each(|worker| worker.hand_over());
}
