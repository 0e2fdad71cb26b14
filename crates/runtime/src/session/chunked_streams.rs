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
use crate::session::queues::clients::Client;

/// A chunk should take no longer in a stage: its first output waits for its last.
const CHUNK_TIME: Duration = Duration::from_micros(200);

/// A stream that puts chunks in.
#[derive(Debug)]
pub struct ChunkedStream {
    /// The size of the next chunk.
    size: usize,
    /// The number of the chunk put in last.
    last: Option<u64>,
}

impl ChunkedStream {
    /// A stream, if the nodes of a session take chunks.
    pub fn new<P: Payload>(session: &Session<P>) -> Option<Self> {
        let takes_chunks = session.core.largest_chunk > 1 && !session.is_on_callers();
        takes_chunks.then_some(Self { size: 1, last: None })
    }

    /// How many items make the next chunk.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many items can be put in now; 0 if they have to wait.
    pub fn room<P: Payload>(&self, session: &Session<P>) -> usize {
        self.size.min(session.core.room())
    }

    /// Add an item to the chunk put in last, if that still waits for the first stage. Otherwise the item comes back.
    pub fn extend<P: Payload>(&self, session: &Session<P>, item: P) -> Result<(), P> {
        let core = &session.core;
        let Some(last) = self.last.filter(|_| core.admission_queue.is_empty() && core.in_flight.len() < core.window)
        else {
            return Err(item);
        };
        let entry = core.stages.iter().find_map(|stage| Some((stage, stage.entry?)));
        let Some((stage, place)) = entry else { return Err(item) };
        stage.inbox.extend(last, place, item, self.size, || core.in_flight.extend(last))
    }

    /// Put items in, unless there is no room for them: then they come back.
    pub fn put<P: Payload>(
        &mut self,
        session: &Session<P>,
        items: Vec<P>,
        client: Arc<dyn Client<P>>,
        context: P::Context,
        own_index: Option<u64>,
    ) -> Result<(), Vec<P>> {
        let input = Input::Chunk(items);
        let submission = Submission { input, client, context, is_urgent: false, own_index, admitted: None };
        match session.core.submit_chunk(submission) {
            Ok(input) => {
                self.last = Some(input);
                self.size = self.next_size(session);
                Ok(())
            }
            Err(Submission { input: Input::Chunk(items), .. }) => Err(items),
            Err(_) => Err(Vec::new()),
        }
    }

    /// As many as all stages take in the time for a chunk, but at most twice as many as the last time.
    fn next_size<P: Payload>(&self, session: &Session<P>) -> usize {
        let nanos = |stage: &super::stages::stage::Stage<P>| stage.item_nanos.load(Ordering::Relaxed);
        if session.core.stages.iter().any(|stage| nanos(stage) == 0) {
            return 1;
        }
        let slowest = session.core.stages.iter().map(nanos).max().unwrap_or(1).max(1);
        let fitting = CHUNK_TIME.as_nanos() / u128::from(slowest);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        fitting.min(2 * self.size).clamp(1, session.core.largest_chunk)
    }
}
