//! Bytes that have arrived from a socket, up to whole frames.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::worker::protocol::frame;
use crate::worker::protocol::frame::{Head, Read};
use crate::worker::protocol::shared_memory::Place;

/// How many bytes are read from the socket at once.
const CHUNK: usize = 64 * 1024;

/// Bytes that have arrived, and the files that came with them.
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    pub(crate) files: VecDeque<OwnedFd>,
    /// Nothing more comes.
    pub(crate) has_ended: bool,
    skipped: Option<Skipped>,
}

/// A frame for which there is no memory.
struct Skipped {
    head: Head,
    len: usize,
    /// How many of its bytes are still to come.
    missing: usize,
}

/// What is next.
pub(crate) enum Come {
    /// A frame, at [`Incoming::front`]; to be [passed](Incoming::pass).
    Frame,
    /// A large one, which is here from this place on, and passed.
    Large(Arc<Vec<u8>>, usize),
    /// No frame that is whole.
    Part,
    /// A frame begins for which there is no memory, with these places.
    TooLarge(Vec<Place>),
    /// The frame has ended and was removed. Its number of bytes.
    Gone(Head, usize),
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; CHUNK], start: 0, end: 0, files: VecDeque::new(), has_ended: false, skipped: None }
    }

    /// Whether a whole frame is here.
    pub(crate) fn has_frame(&self) -> bool {
        // What is skipped may look like one.
        self.skipped.is_none() && matches!(frame::read(self.front()), Read::Frame(_))
    }

    /// What was read and not yet handled.
    pub(crate) fn front(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The frame was handled.
    pub(crate) fn pass(&mut self, len: usize) {
        self.start += len;
    }

    /// Where the socket may write.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// It has written so much.
    pub(crate) fn note_come(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// What is next, with room for the rest of it.
    pub(crate) fn look(&mut self) -> io::Result<Come> {
        if self.skipped.is_some() {
            return Ok(self.skip());
        }
        let len = match frame::read(self.front()) {
            Read::Frame(frame) if frame.len <= CHUNK => return Ok(Come::Frame),
            Read::Frame(frame) => {
                let len = frame.len;
                return Ok(self.take_out(len));
            }
            Read::Garbage => return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame")),
            Read::Part(len) => len,
        };
        if self.make_room(len) {
            return Ok(Come::Part);
        }
        match frame::read_front(self.front()) {
            Some((head, places)) => {
                self.skipped = Some(Skipped { head, len, missing: len });
                Ok(Come::TooLarge(places))
            }
            None if self.make_room(frame::front_len(self.front())) => Ok(Come::Part),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// Drop what was read of the frame for which there is no memory.
    fn skip(&mut self) -> Come {
        let here = self.end - self.start;
        let Some(skipped) = &mut self.skipped else { return Come::Part };
        let some = here.min(skipped.missing);
        skipped.missing -= some;
        let is_gone = skipped.missing == 0;
        self.start += some;
        self.make_room(0);
        match self.skipped.take_if(|_| is_gone) {
            Some(skipped) => Come::Gone(skipped.head, skipped.len),
            None => Come::Part,
        }
    }

    /// The frame at the beginning, without a copy of it.
    fn take_out(&mut self, len: usize) -> Come {
        let rest = &self.bytes[self.start + len..self.end];
        let mut fresh = vec![0; CHUNK.max(rest.len())];
        fresh[..rest.len()].copy_from_slice(rest);
        let (start, rest_len) = (self.start, rest.len());
        let whole = std::mem::replace(&mut self.bytes, fresh);
        (self.start, self.end) = (0, rest_len);
        Come::Large(Arc::new(whole), start)
    }

    /// Make room for the rest of a frame of this length in all; `false` if there is no memory for it.
    fn make_room(&mut self, len: usize) -> bool {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // A large frame has a buffer of its own.
        let needed = if len > CHUNK { len } else { len.max(self.end + CHUNK / 2) };
        if self.bytes.len() < needed {
            if self.bytes.try_reserve_exact(needed - self.bytes.len()).is_err() {
                return false;
            }
            self.bytes.resize(needed, 0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::worker::protocol::frame::Kind;
    use crate::worker::protocol::read_buffer::*;

    fn fill(incoming: &mut Incoming, mut bytes: &[u8]) -> usize {
        let count = io::Read::read(&mut bytes, incoming.room()).expect("memory can be read");
        incoming.note_come(count);
        count
    }

    #[test]
    fn a_frame_without_memory_for_it_is_skipped_and_the_next_one_comes() {
        let mut frames = Vec::new();
        Head::new(Kind::Item, 7).write_front(&[], 1 << 60, false, &mut frames);
        let mut incoming = Incoming::new();
        fill(&mut incoming, &frames);

        assert!(matches!(incoming.look(), Ok(Come::TooLarge(places)) if places.is_empty()));
        assert!(matches!(incoming.look(), Ok(Come::Part)));
        let mut inside = Vec::new();
        Head::new(Kind::Done, 9).write(&[], &mut inside);
        fill(&mut incoming, &inside);
        assert!(!incoming.has_frame(), "what is skipped may look like a frame");
        assert!(matches!(incoming.look(), Ok(Come::Part)));
        // It is too much to wait for.
        incoming.skipped.as_mut().expect("it is skipped").missing = 3;
        let mut rest = b"end".to_vec();
        Head::new(Kind::Done, 8).write(&[], &mut rest);
        fill(&mut incoming, &rest);

        assert!(matches!(incoming.look(), Ok(Come::Gone(head, _)) if head.number == 7));
        assert!(matches!(incoming.look(), Ok(Come::Frame)));
        assert!(matches!(frame::read(incoming.front()), Read::Frame(frame) if frame.head.number == 8));
    }

    #[test]
    fn a_large_frame_is_taken_out_and_what_came_behind_it_stays() {
        let mut frames = Vec::new();
        Head::new(Kind::Item, 7).write(&vec![1; 3 * CHUNK], &mut frames);
        Head::new(Kind::Done, 8).write(&[], &mut frames);
        let mut incoming = Incoming::new();
        let mut come = 0;

        let large = loop {
            match incoming.look().expect("these are frames") {
                Come::Part => come += fill(&mut incoming, &frames[come..]),
                large => break large,
            }
        };
        let Come::Large(whole, start) = large else { panic!("it is large") };
        assert!(matches!(frame::read(&whole[start..]), Read::Frame(frame) if frame.body == vec![1; 3 * CHUNK]));
        while !incoming.has_frame() {
            incoming.look().expect("these are frames");
            come += fill(&mut incoming, &frames[come..]);
        }
        assert!(matches!(frame::read(incoming.front()), Read::Frame(frame) if frame.head.number == 8));
    }
}
