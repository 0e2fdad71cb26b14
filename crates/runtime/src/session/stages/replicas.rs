//! Stages that work on several envelopes at once: replicas here, concurrent items and batches beside it.
//!
//! The threads that work put what they have done into a [`Reorder`](crate::session::queues::reorder::Reorder), and one thread hands it on from there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::node::Stream;
use crate::node::endpoints::Sink;
use crate::numbering;
use crate::payload::Payload;
use crate::session::queues::inbox::{Envelope, Popped};
use crate::session::queues::reorder::{Begin, Completion};
use crate::session::stages::router::Router;
use crate::session::stages::shared::Core;
use crate::session::stages::stage::{OutputChunk, Stage};
use crate::session::stages::tasks::PollWhile;
use crate::session::stages::work::work_on;

/// How often the end of input checks whether the session has closed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Collects the outputs of a machine until the envelope is done.
pub(crate) struct Collect<'a, P: Payload> {
    core: &'a Core<P>,
    input: u64,
    outputs: Vec<OutputChunk<P>>,
}

impl<'a, P: Payload> Collect<'a, P> {
    fn new(core: &'a Core<P>, input: u64) -> Self {
        Self { core, input, outputs: Vec::new() }
    }
}

impl<P: Payload> Sink<P> for Collect<'_, P> {
    fn accept(&mut self, output: P) -> Result<(), P::Fault> {
        self.accept_at(0, output)
    }

    fn accept_at(&mut self, exit: usize, output: P) -> Result<(), P::Fault> {
        self.outputs.push(OutputChunk::Output(exit, output));
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        self.core.in_flight.is_wanted(self.input)
    }
}

/// The life of the thread of one replica.
pub(crate) fn run_replica<P: Payload>(core: &Arc<Core<P>>, stage: usize, replica: usize) {
    let stage = &core.stages[stage];
    let reorder = stage.reorder();
    while stage.begin(&stage.replicas[replica], None) == Begin::Begun {
        let Popped::Envelope(number, envelope) = core.pop(stage, &stage.replicas[replica]) else {
            reorder.unbegin();
            break;
        };
        if envelope.ends_stream() {
            end_stream(core, stage, replica, (number, envelope), Vec::new());
            continue;
        }
        let header = envelope.header();
        let mut sink = Collect::new(core, envelope.input);
        let visited_exits = {
            let replica = &stage.replicas[replica];
            let mut machine = replica.machine.lock();
            work_on(core, replica, &mut machine, envelope, &mut sink);
            machine.visited_exits()
        };
        reorder.complete(number, Completion { header, outputs: sink.outputs, visited_exits });
    }
}

/// The end of input: when all that was begun before it is done, the nodes of all replicas are flushed.
///
/// What the envelope still holds goes into the replica of this number; `outputs` are those of what it held.
pub(crate) fn end_stream<P: Payload>(
    core: &Arc<Core<P>>,
    stage: &Stage<P>,
    replica: usize,
    (number, envelope): (u64, Envelope<P>),
    outputs: Vec<OutputChunk<P>>,
) {
    let header = envelope.header();
    let mut sink = Collect { core, input: envelope.input, outputs };
    let reorder = stage.reorder();
    stage.ending.fetch_add(1, Ordering::AcqRel);
    // Batches that wait for company get none any more.
    stage.inbox.wake();
    while !reorder.is_done_before(number, POLL_INTERVAL) {
        stage.replicas[replica].run_tasks();
    }
    stage.ending.fetch_sub(1, Ordering::AcqRel);
    let of_replica = &stage.replicas[replica];
    work_on(core, of_replica, &mut of_replica.machine.lock(), envelope, &mut sink);
    for other in (0..stage.replicas.len()).filter(|&other| other != replica) {
        sink.outputs.extend(flush(core, (stage.index, other), header.header()));
    }
    reorder.complete(number, Completion { header, outputs: sink.outputs, visited_exits: Vec::new() });
}

/// Flush the nodes of another replica, on their own thread.
fn flush<P: Payload>(core: &Arc<Core<P>>, place: (usize, usize), envelope: Envelope<P>) -> Vec<OutputChunk<P>> {
    let mut goes_on = || !core.is_closed();
    let polling = PollWhile { interval: POLL_INTERVAL, goes_on: &mut goes_on };
    let flushed = core.in_nodes(place, polling, move |core, replica, machine| {
        let mut sink = Collect::new(core, envelope.input);
        work_on(core, replica, machine, envelope, &mut sink);
        sink.outputs
    });
    flushed.result().unwrap_or_default()
}

/// The life of the thread that hands on what was done in parallel.
pub(crate) fn run_forwarder<P: Payload>(core: &Arc<Core<P>>, stage: usize) {
    let stage = &core.stages[stage];
    while let Some(completion) = stage.reorder().next() {
        hand_on(core, stage, completion);
    }
}

/// A envelope is done on a thread that has other things to do than to wait: it hands on what can go at once.
pub(crate) fn complete_and_help<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    number: u64,
    completion: Completion<P, OutputChunk<P>>,
) {
    let may_go = |completion: &Completion<P, OutputChunk<P>>| {
        let are_there = completion.outputs.iter().all(|piece| matches!(piece, OutputChunk::Output(..)));
        let (header, count) = (&completion.header, completion.outputs.len());
        are_there && stage.links.iter().all(|link| core.has_room_for(link, header, count))
    };
    let reorder = stage.reorder();
    let mut next = reorder.complete_and_help(number, completion, may_go);
    while let Some(completion) = next {
        hand_on(core, stage, completion);
        next = reorder.next_to_help(may_go);
    }
}

/// Send the outputs of an envelope to the stages after this one.
fn hand_on<P: Payload>(core: &Core<P>, stage: &Stage<P>, completion: Completion<P, OutputChunk<P>>) {
    let Completion { mut header, outputs, visited_exits } = completion;
    let input = header.input;
    let positions = header.positions.as_mut().map(std::mem::take);
    let mut router = Router::new(core, stage, header);
    router.expect(outputs.len());
    let Some(positions) = positions else {
        for chunk in outputs {
            add(core, stage, (input, None), &mut router, chunk);
        }
        return router.finish(&visited_exits);
    };
    let mut positions = positions.into_iter();
    let failed_position = || core.in_flight.failed_position(input).unwrap_or(u32::MAX);
    let mut failed = failed_position();
    for chunk in outputs {
        let OutputChunk::Late(mut late) = chunk else {
            let position = positions.next();
            if position.is_none_or(|position| position < failed) {
                add(core, stage, (input, position), &mut router, chunk);
            }
            continue;
        };
        loop {
            if !late.is_there() {
                // What is done does not wait for the others.
                router.send_whole_items();
            }
            let Some((position, chunks)) = late.next() else { break };
            failed = failed_position();
            for chunk in chunks.into_iter().filter(|_| position < failed) {
                add(core, stage, (input, Some(position)), &mut router, chunk);
            }
        }
    }
    router.finish(&visited_exits);
}

/// Add outputs of an input, or of the item at a position of a chunk.
fn add<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    item: (u64, Option<u32>),
    router: &mut Router<'_, P>,
    chunk: OutputChunk<P>,
) {
    match chunk {
        OutputChunk::Output(exit, output) => {
            if let (_, Some(position)) = item {
                router.note_position(position);
            }
            router.add(exit, output);
        }
        OutputChunk::Stream(stream) => draw(core, stage, item, router, stream),
        OutputChunk::Late(_) => unreachable!("a chunk has no chunks in it"),
    }
}

/// Whether what becomes of an item of a chunk is wanted, as far as the others are concerned.
fn is_needed<P: Payload>(core: &Core<P>, input: u64, position: u32) -> bool {
    core.in_flight.failed_position(input).is_none_or(|failed| position < failed)
}

/// Send outputs on as they come.
fn draw<P: Payload>(
    core: &Core<P>,
    stage: &Stage<P>,
    (input, position): (u64, Option<u32>),
    router: &mut Router<'_, P>,
    mut stream: Box<dyn Stream<P>>,
) {
    let context = core.in_flight.context_of_wanted(input).map(|context| P::copy_context(&context)).unwrap_or_default();
    loop {
        router.send_pending();
        if !router.is_wanted() || position.is_some_and(|position| !is_needed(core, input, position)) {
            return core.note_failures(P::within(&context, || stream.close()).err().into_iter());
        }
        match P::within(&context, || stream.next()) {
            Ok(Some(output)) => {
                stage.replicas[0].count_outputs(1);
                if let Some(position) = position {
                    router.note_position(position);
                }
                stage.by_all_exits(output).for_each(|(exit, output)| router.add(exit, output));
            }
            Ok(None) => return,
            Err(fault) => {
                stage.replicas[0].count_failure(&fault, 1);
                return core.fail(input, core.blame_node(stage.index, numbering::of_position(input, position), fault));
            }
        }
    }
}
