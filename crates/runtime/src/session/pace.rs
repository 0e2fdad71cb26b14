//! How many items go through the nodes at once, from how fast they go.

use std::time::{Duration, Instant};

/// Below this a chunk is not worth its setting up, and items go one by one.
const SMALLEST_CHUNK: usize = 16;

/// Items that go one by one before the pace is known.
const PACE_WINDOW: u64 = 64;

/// How fast items go, and so how many make a chunk.
pub struct Pace {
    largest_chunk: usize,
    chunk_time: Duration,
    since: Instant,
    items: u64,
    chunk: Option<usize>,
    /// Whether each chunk is compared with the one before it.
    grows: bool,
}

impl Pace {
    /// Chunks of so many items at the most, which take about this time.
    pub fn new(largest_chunk: usize, chunk_time: Duration) -> Self {
        Self { largest_chunk, chunk_time, since: Instant::now(), items: 0, chunk: None, grows: false }
    }

    /// For chunks that pay with two items already: each is larger than the one before it, as long as they are fast.
    pub fn growing(largest_chunk: usize, chunk_time: Duration) -> Self {
        Self { chunk: Some(1), grows: true, ..Self::new(largest_chunk, chunk_time) }
    }

    /// The size of the next chunk, if items are fast enough to go in chunks.
    pub fn chunk(&self) -> Option<usize> {
        self.chunk
    }

    /// Items went through. The clock is read once a window or chunk, not once an item.
    pub fn passed(&mut self, items: u64) {
        if self.grows {
            let is_slow = self.since.elapsed() > self.chunk_time;
            let next = |size: usize| if is_slow { size / 4 } else { size * 2 }.clamp(1, self.largest_chunk);
            self.chunk = self.chunk.map(next);
            self.since = Instant::now();
            return;
        }
        self.items += items;
        if self.items < PACE_WINDOW && self.chunk.is_none() {
            return;
        }
        let elapsed = self.since.elapsed().max(Duration::from_nanos(1));
        let fitting = u128::from(self.items) * self.chunk_time.as_nanos() / elapsed.as_nanos();
        let fitting = usize::try_from(fitting).map_or(self.largest_chunk, |fitting| fitting.min(self.largest_chunk));
        self.chunk = (fitting >= SMALLEST_CHUNK).then_some(fitting);
        self.items = 0;
        self.since = Instant::now();
    }
}
