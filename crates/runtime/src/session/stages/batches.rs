//! A stage whose node takes several items in one call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::execution::machine::Machine;
use crate::node::process_batch;
use crate::numbering;
use crate::options::Batch;
use crate::payload::Payload;
use crate::session::queues::inbox::{Envelope, Popped};
use crate::session::queues::reorder::{Begin, Completion};
use crate::session::stages::replicas::{complete_and_help, end_stream};
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{OutputChunk, Replica, Stage};
use crate::session::stages::work::inputs_of;

/// The life of the thread of one replica of such a stage.
pub(crate) fn run_batches<P: Payload>(core: &Arc<Core<P>>, stage: usize, replica: usize) {
    let stage = &core.stages[stage];
    let options = &core.plan.stages()[stage.index].options;
    let batch = options.batch.expect("a stage of batches has a size of them");
    while let Some(envelopes) = gather(core, stage, replica, batch) {
        work_on_batch(core, stage, replica, batch, envelopes);
    }
}

/// Parcels that wait for company.
struct PendingBatch<P> {
    /// Whether the node gets one item an input, made of those of several branches.
    is_join: bool,
    envelopes: Vec<(u64, Envelope<P>)>,
    items: usize,
    is_urgent: bool,
    /// When it has waited long enough, if that is limited.
    due: Option<Instant>,
}

impl<P> PendingBatch<P> {
    /// How many items the node will get of an envelope.
    fn inputs(&self, envelope: &Envelope<P>) -> usize {
        if self.is_join {
            usize::from(!envelope.items.is_empty() || !envelope.visits.is_empty())
        } else {
            envelope.items.len()
        }
    }

    fn is_full(&self, batch: Batch) -> bool {
        self.items >= batch.size || self.envelopes.last().is_some_and(|(_, envelope)| envelope.ends_stream())
    }

    fn add(&mut self, number: u64, envelope: Envelope<P>, batch: Batch) {
        self.items += self.inputs(&envelope);
        self.is_urgent |= envelope.is_urgent;
        self.due = self.due.or_else(|| batch.max_wait.map(|wait| Instant::now() + wait));
        self.envelopes.push((number, envelope));
    }
}

/// Wait for envelopes until they make a batch; `None` when nothing more comes.
fn gather<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    replica: usize,
    batch: Batch,
) -> Option<Vec<(u64, Envelope<P>)>> {
    let reorder = stage.reorder();
    let is_join = core.plan.nodes()[core.plan.stages()[stage.index].nodes[0]].join;
    let mut company = PendingBatch { is_join, envelopes: Vec::new(), items: 0, is_urgent: false, due: None };
    while !company.is_full(batch) {
        let wakes = stage.inbox.wakes();
        // Without a limit a batch waits to fill, unless a caller waits for its items.
        let is_pressed = core.is_draining()
            || stage.ending.load(Ordering::Acquire) > 0
            || stage.replicas[replica].stop.is_set()
            || (company.is_urgent && batch.max_wait.is_none());
        let deadline = if company.envelopes.is_empty() {
            None
        } else if is_pressed {
            Some(Instant::now())
        } else {
            company.due
        };
        match stage.begin(&stage.replicas[replica], company.envelopes.first().map(|(number, _)| *number)) {
            Begin::Begun => {}
            // No company comes before these are done.
            Begin::AllWait | Begin::IsCalled => break,
            Begin::Closed => return None,
        }
        match core.pop_until(stage, deadline, wakes) {
            Popped::Envelope(number, envelope) if company.inputs(&envelope) == 0 && !envelope.ends_stream() => {
                let completion = Completion { header: envelope, outputs: Vec::new(), visited_exits: Vec::new() };
                reorder.complete(number, completion);
            }
            Popped::Envelope(number, envelope) => company.add(number, envelope, batch),
            Popped::Nothing => {
                reorder.unbegin();
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    break;
                }
            }
            Popped::Closed => {
                reorder.unbegin();
                return None;
            }
        }
    }
    Some(company.envelopes)
}

/// An envelope whose items are in a batch, by its number, and what has become of it so far.
type Begun<P> = (u64, Completion<P, OutputChunk<P>>);

fn work_on_batch<P: Payload>(
    core: &Arc<Core<P>>,
    stage: &Stage<P>,
    replica_index: usize,
    batch: Batch,
    envelopes: Vec<(u64, Envelope<P>)>,
) {
    let begun = {
        let replica = &stage.replicas[replica_index];
        let mut machine = replica.machine.lock();
        let has_chunk = envelopes.iter().any(|(_, envelope)| envelope.positions.is_some());
        let work = || call_with_all(core, stage, (replica, &mut machine), batch, envelopes);
        if has_chunk { P::hold(work) } else { work() }
    };
    for (number, completion) in begun {
        if completion.header.ends_stream() {
            end_stream(core, stage, replica_index, (number, completion.header), completion.outputs);
        } else if completion.header.positions.is_some() {
            // Waking another thread for it would take longer.
            complete_and_help(core, stage, number, completion);
        } else {
            stage.reorder().complete(number, completion);
        }
    }
}

/// Call the node with the items of some envelopes, in batches of its size.
fn call_with_all<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    (replica, machine): (&Replica<P>, &mut Machine<P>),
    batch: Batch,
    envelopes: Vec<(u64, Envelope<P>)>,
) -> Vec<Begun<P>> {
    let mut begun = Vec::with_capacity(envelopes.len());
    let mut items = Vec::new();
    for (number, mut envelope) in envelopes {
        let header = envelope.header();
        let positions = envelope.positions.take();
        let inputs = inputs_of(core, stage, replica, machine, envelope);
        let visited_exits = if inputs.is_empty() { Vec::new() } else { stage.all_exits() };
        // The items of other inputs have the index of their input.
        let mut positions = positions.into_iter().flatten();
        let owner = begun.len();
        items.extend(inputs.into_iter().map(|item| (Owner { owner, position: positions.next().unwrap_or(0) }, item)));
        begun.push((number, Completion { header, outputs: Vec::new(), visited_exits }));
    }
    let mut items = items.into_iter().peekable();
    let mut has_failed = false;
    while items.peek().is_some() {
        let mut call: Vec<_> = items.by_ref().take(batch.size).collect();
        if has_failed {
            // What comes after a failure in a chunk is no longer wanted.
            call.retain(|(Owner { owner, .. }, _)| {
                let header = &begun[*owner].1.header;
                header.positions.is_none() || core.in_flight.failed_position(header.input).is_none()
            });
        }
        if !call.is_empty() {
            has_failed |= !call_node(core, stage, (replica, machine), &mut begun, call);
        }
    }
    begun
}

/// Where an item of a batch comes from.
#[derive(Clone, Copy)]
struct Owner {
    /// The place of its envelope.
    owner: usize,
    /// Its position, if that carries a chunk.
    position: u32,
}

/// One call of the node.
fn call_node<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    (replica, machine): (&Replica<P>, &mut Machine<P>),
    begun: &mut [Begun<P>],
    items: Vec<(Owner, P)>,
) -> bool {
    let (owners, items): (Vec<Owner>, Vec<P>) = items.into_iter().unzip();
    let count = items.len();
    let started = Instant::now();
    let number_of = |begun: &[Begun<P>], Owner { owner, position }: Owner| {
        let header = &begun[owner].1.header;
        let index = numbering::item_index(header.input);
        if header.positions.is_some() { numbering::of_item(index + u64::from(position)) } else { header.input }
    };
    let indices: Vec<u64> = owners.iter().map(|&owner| numbering::item_index(number_of(begun, owner))).collect();
    machine.announce(0, &indices);
    machine.input = number_of(begun, owners[0]);
    machine.progress.enter(0, machine.input);
    // Of each envelope, the first item stands for the others.
    let firsts: Vec<Owner> = owners.chunk_by(|one, next| one.owner == next.owner).map(|items| items[0]).collect();
    let inputs = firsts.iter().map(|&Owner { owner, .. }| begun[owner].1.header.input);
    let context = P::common_context(inputs.filter_map(|input| core.in_flight.context_of_wanted(input)).collect());
    let outputs =
        P::within(&context, || replica.try_enter(machine, |machine| process_batch(&mut *machine.nodes[0], items)));
    machine.progress.leave();
    let took = started.elapsed();
    machine.count_batch(0, count, took);
    stage.note_item_time(took, count);
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(hindrance) => {
            let inputs = firsts.iter().map(|&Owner { owner, .. }| begun[owner].1.header.input);
            inputs.for_each(|input| core.fail(input, hindrance.clone().into()));
            return false;
        }
    };
    match outputs {
        Ok(outputs) => {
            for (Owner { owner, position }, output) in owners.into_iter().zip(outputs) {
                let Some(output) = output else { continue };
                machine.count_output(0);
                let Completion { header, outputs, .. } = &mut begun[owner].1;
                if let Some(positions) = &mut header.positions {
                    // A chunk has one way to go.
                    positions.push(position);
                    outputs.push(OutputChunk::Output(0, output));
                } else {
                    let by_exits = stage.by_all_exits(output);
                    outputs.extend(by_exits.map(|(exit, output)| OutputChunk::Output(exit, output)));
                }
            }
            true
        }
        Err(fault) => {
            replica.count_failure(&fault, count);
            for owner in firsts {
                let error = core.blame_node(stage.index, number_of(begun, owner), P::duplicate_fault(&fault));
                core.fail(begun[owner.owner].1.header.input, error);
            }
            false
        }
    }
}
