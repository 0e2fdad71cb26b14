//! One item on its way to the other process, in the writing.

use crate::worker::protocol::frame::Head;
use crate::worker::protocol::parts::LONGEST_PART;
use crate::worker::protocol::shared_memory::{Memory, Place};
use crate::worker::protocol::view::{Lease, View};
use crate::worker::protocol::write_queue::Outgoing;

/// A body longer than this goes by shared memory: it would not fit the socket beside others.
const LONGEST_BODY: usize = 32 * 1024;

/// Stands for the body of the frame itself, where shared memory can't be had.
pub(crate) const INLINE: u32 = u32::MAX >> 1;

/// An item in the writing.
pub struct Message<'a> {
    memory: &'a Memory,
    body: Vec<u8>,
    /// Where the buffers are, and the body if it `is_body_shared`.
    pub(crate) places: Vec<Place>,
    is_body_shared: bool,
    /// The uses that the other side will take over.
    leases: Vec<Lease>,
    /// Buffers that go after the body.
    tail: Vec<u8>,
    missing: Option<usize>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        let (body, places, leases, tail) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { memory, body, places, is_body_shared: false, leases, tail, missing: None }
    }

    /// Add to the body.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.body.try_reserve(bytes.len()).is_ok() {
            self.body.extend_from_slice(bytes);
        } else {
            self.missing = Some(bytes.len());
        }
    }

    /// The number of bytes in the body.
    #[allow(clippy::len_without_is_empty, reason = "it is asked for to go back there")]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Take back what was added to the body since it had so many bytes.
    pub fn truncate(&mut self, len: usize) {
        self.body.truncate(len);
    }

    /// Add a large buffer, which the other side can read in place. It is copied now, unless it lies in shared memory already.
    pub fn add_buffer(&mut self, bytes: &[u8]) {
        let lent = if bytes.is_empty() { None } else { self.memory.lend(bytes) };
        if self.add_place(lent) {
            // It is there.
        } else if self.tail.try_reserve(bytes.len()).is_ok() {
            let start = self.tail.len() as u64;
            self.places.push(Place { is_readers: false, segment: INLINE, start, len: bytes.len() as u64 });
            self.tail.extend_from_slice(bytes);
        } else {
            self.missing = Some(bytes.len());
        }
    }

    /// Make it the same message as one from another process. What lies in shared memory stays there.
    pub fn pass_on(&mut self, body: &View, buffers: &[View]) {
        for buffer in buffers {
            if !self.add_place(self.memory.pass_on(buffer)) {
                self.add_buffer(buffer);
            }
        }
        // It is the last place.
        self.is_body_shared = self.tail.is_empty() && self.add_place(self.memory.pass_on(body));
        if !self.is_body_shared {
            self.write(body);
        }
    }

    /// Add what the other side reads in place; `false` if there is nothing.
    fn add_place(&mut self, lent: Option<(Place, Lease)>) -> bool {
        let Some((place, lease)) = lent else { return false };
        self.places.push(place);
        self.leases.push(lease);
        true
    }

    /// The number of bytes for which there was no memory. Without them the message is worthless.
    pub(crate) fn missing(&self) -> Option<usize> {
        self.missing
    }

    /// Its body, if it is small and has nothing else.
    pub(crate) fn small_body(&self) -> Option<&[u8]> {
        (self.places.is_empty() && self.body.len() <= LONGEST_PART).then_some(&*self.body)
    }

    /// Move a large body to shared memory.
    pub(crate) fn share_body(&mut self) {
        if self.body.len() > LONGEST_BODY && self.tail.is_empty() && self.add_place(self.memory.lend(&self.body)) {
            self.body.clear();
            self.is_body_shared = true;
        }
    }

    /// Queue the frame of the message for writing. The other side releases its buffers from now on.
    pub(crate) fn hand_over(self, head: Head, outgoing: &mut Outgoing) {
        let len = self.body.len() + self.tail.len();
        head.write_front(&self.places, len, self.is_body_shared, outgoing.end());
        outgoing.add(self.body);
        outgoing.add(self.tail);
        self.leases.into_iter().for_each(Lease::hand_over);
    }
}
