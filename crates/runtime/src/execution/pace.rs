//! How many items go through the engine at once, from how fast they go.

use std::time::{Duration, Instant};

/// The longest that a chunk should take: a cancellation waits for the end of it, and outputs wait in it.
const CHUNK_TIME: Duration = Duration::from_millis(1);

/// A chunk of 4,096 makes what a chunk costs invisible beside its items.
const LARGEST_CHUNK: usize = 4096;

/// Below this a chunk is not worth its setting up, and items go one by one.
const SMALLEST_CHUNK: usize = 16;

/// Items that go one by one before the pace is known.
const PACE_WINDOW: u64 = 64;

/// How fast items go, and so how many make a chunk of [`CHUNK_TIME`].
pub(crate) struct Pace {
    since: Instant,
    items: u64,
    chunk: Option<usize>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), items: 0, chunk: None }
    }

    /// The size of the next chunk, if items are fast enough to go in chunks.
    pub(crate) fn chunk(&self) -> Option<usize> {
        self.chunk
    }

    /// Items went through. The clock is read once a window or chunk, not once an item.
    pub(crate) fn passed(&mut self, items: u64) {
        self.items += items;
        if self.items < PACE_WINDOW && self.chunk.is_none() {
            return;
        }
        let elapsed = self.since.elapsed().max(Duration::from_nanos(1));
        let fitting = u128::from(self.items) * CHUNK_TIME.as_nanos() / elapsed.as_nanos();
        let fitting = usize::try_from(fitting).unwrap_or(LARGEST_CHUNK).min(LARGEST_CHUNK);
        self.chunk = (fitting >= SMALLEST_CHUNK).then_some(fitting);
        self.items = 0;
        self.since = Instant::now();
    }
}
