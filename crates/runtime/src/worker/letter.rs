//! One item on its way to the other process, in the writing.

use super::memory::{Hold, Memory, Place};
use super::wire::{self, Head};

/// A body longer than this goes by shared memory: it would not fit the socket beside others.
const LONGEST_BODY: usize = 32 * 1024;

/// Stands for the body of the frame itself, where shared memory can't be had.
pub(super) const INLINE: u32 = u32::MAX >> 1;

/// An item in the writing.
pub struct Letter<'a> {
    memory: &'a Memory,
    pub(super) body: Vec<u8>,
    places: Vec<Place>,
    /// The uses that the other side will take over.
    holds: Vec<Hold>,
    /// Buffers that go after the body.
    tail: Vec<u8>,
}

impl<'a> Letter<'a> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        Self { memory, body: Vec::new(), places: Vec::new(), holds: Vec::new(), tail: Vec::new() }
    }

    /// Add to the body.
    pub fn write(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// Add a large buffer, which the other side can read in place. It is copied now, unless it lies in shared memory already.
    pub fn add_buffer(&mut self, bytes: &[u8]) {
        let lent = if bytes.is_empty() { None } else { self.memory.lend(bytes) };
        if let Some((place, hold)) = lent {
            self.places.push(place);
            self.holds.push(hold);
        } else {
            let start = self.tail.len() as u64;
            self.places.push(Place { is_readers: false, segment: INLINE, start, len: bytes.len() as u64 });
            self.tail.extend_from_slice(bytes);
        }
    }

    /// Whether it is a body alone, which travels as it is.
    pub(super) fn is_small(&self) -> bool {
        self.places.is_empty() && self.body.len() <= LONGEST_BODY
    }

    /// The frame of the letter. The other side answers for its buffers from now on.
    pub(super) fn close(mut self, head: Head) -> Vec<u8> {
        let mut is_body_shared = false;
        if self.body.len() > LONGEST_BODY
            && self.tail.is_empty()
            && let Some((place, hold)) = self.memory.lend(&self.body)
        {
            self.places.push(place);
            self.holds.push(hold);
            self.body.clear();
            is_body_shared = true;
        }
        self.body.append(&mut self.tail);
        let mut frame = Vec::with_capacity(self.body.len() + wire::HEAD_LEN + self.places.len() * wire::PLACE_LEN);
        head.write(&self.places, &self.body, is_body_shared, &mut frame);
        self.holds.into_iter().for_each(Hold::hand_over);
        frame
    }
}
