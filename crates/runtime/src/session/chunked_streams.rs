//! Streams of which several items go through the stages together.
//!
//! What costs as much for many items as for one (a lock, a message, a wake-up, the way into the interpreter of a language) is then paid
//! once for all of them. The items of a chunk end together: the first that fails ends the chunk, and those behind it are dropped. That is
//! right for a stream that ends with its first failure, and for no other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Session;
use super::stages::shared::{Input, Submission};
use crate::payload::Payload;
use crate::plan::ChunkSizes;
use crate::session::queues::clients::Client;
use crate::session::queues::outbox::Outbox;

/// A chunk should take no longer in a stage: its first output waits for its last.
const CHUNK_TIME: Duration = Duration::from_micros(200);

/// The most items in a chunk while it is not known how long they take in each stage.
const LARGEST_BEFORE_KNOWN: usize = 8;

/// A stream that puts chunks in.
#[derive(Debug)]
pub struct ChunkedStream {
    sizes: ChunkSizes,
    /// The size of the next chunk.
    size: usize,
    /// The number of the chunk put in last.
    last: Option<u64>,
    are_there: bool,
}

impl ChunkedStream {
    /// A stream, if the nodes of a session take chunks of such a stream. `are_there` says whether its items are there already, so that
    /// reading them takes no time.
    pub fn new<P: Payload>(session: &Session<P>, are_there: bool) -> Option<Self> {
        let sizes = session.core.chunks.filter(|sizes| are_there || sizes.step == 1)?;
        (!session.is_on_callers()).then_some(Self { sizes, size: sizes.step, last: None, are_there })
    }

    /// How many items may be read now, if the stream has this `load` of at most `limit` (see [`Outbox::load`]); 0 if it is to wait for its
    /// outputs. `has_begun` says whether some were read since the last output.
    pub fn room<P: Payload>(&self, session: &Session<P>, load: usize, limit: usize, has_begun: bool) -> usize {
        let free = limit.saturating_sub(load);
        let core = &session.core;
        // One more chunk waits for room: then the first stage does not have to wait until this thread puts it in.
        let in_queue = if self.are_there && core.admission_queue.is_empty() { self.size } else { core.room() };
        let room = self.size.min(in_queue).min(free);
        // Small chunks would come back as small ones, and never grow.
        let must_wait = if self.are_there { room < self.size } else { self.size > 1 && !has_begun && load > limit / 2 };
        match (load, must_wait) {
            (0, _) => room.max(1),
            (_, true) => 0,
            (_, false) if self.are_there => room,
            (_, false) => free.min(1),
        }
    }

    /// Put items in. If they are there already, they wait for room, once there is none. Others come back then; a single one joins the chunk
    /// put in last, if that still waits for the first stage.
    pub fn put<P: Payload>(
        &mut self,
        session: &Session<P>,
        items: Vec<P>,
        outbox: &Arc<Outbox<P>>,
        context: P::Context,
        own_index: Option<u64>,
    ) -> Result<(), Vec<P>> {
        let count = items.len();
        // Before they are in: they may be done at once.
        outbox.expect_inputs(count);
        let Err(items) = self.extend(session, items) else { return Ok(()) };
        let (input, client) = (Input::Chunk(items), Arc::clone(outbox) as Arc<dyn Client<P>>);
        let submission = Submission { input, client, context, is_urgent: false, own_index, admitted: None };
        if self.are_there {
            // If the session has closed, the client knows.
            session.core.submit(submission);
        } else {
            match session.core.submit_chunk(submission) {
                Ok(input) => self.last = Some(input),
                Err(refused) => {
                    outbox.interrupted(count as u64);
                    return if let Input::Chunk(items) = refused.input { Err(items) } else { Ok(()) };
                }
            }
        }
        self.size = self.next_size(session);
        Ok(())
    }

    /// Add a single item to the chunk put in last, if that still waits for the first stage. Otherwise it comes back.
    fn extend<P: Payload>(&self, session: &Session<P>, mut items: Vec<P>) -> Result<(), Vec<P>> {
        let core = &session.core;
        let may_join = items.len() == 1
            && self.sizes.step == 1
            && core.admission_queue.is_empty()
            && core.in_flight.len() < core.window;
        let entry = core.stages.iter().find_map(|stage| Some((stage, stage.entry?)));
        let (Some(last), Some((stage, place))) = (self.last.filter(|_| may_join), entry) else { return Err(items) };
        let Some(item) = items.pop() else { return Ok(()) };
        stage.inbox.extend(last, place, item, self.size, || core.in_flight.extend(last)).map_err(|item| vec![item])
    }

    /// As many as all stages take in the time for a chunk, but at most twice as many as the last time.
    fn next_size<P: Payload>(&self, session: &Session<P>) -> usize {
        let nanos = |stage: &super::stages::stage::Stage<P>| stage.item_nanos.load(Ordering::Relaxed);
        let ChunkSizes { step, largest } = self.sizes;
        let largest = match session.core.stages.iter().position(|stage| nanos(stage) == 0) {
            None => largest,
            Some(0) => step,
            // No item has come as far.
            Some(_) => largest.min(LARGEST_BEFORE_KNOWN.max(step)),
        };
        let slowest = session.core.stages.iter().map(nanos).max().unwrap_or(1).max(1);
        let fitting = CHUNK_TIME.as_nanos() / u128::from(slowest);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        (fitting.min(2 * self.size) / step * step).clamp(step, largest)
    }
}
