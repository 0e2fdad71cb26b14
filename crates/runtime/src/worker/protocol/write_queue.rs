//! Frames that wait to be written to a socket, in order, with the files that go along.

use std::collections::VecDeque;

use crate::worker::protocol::frame;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::parts::{LONGEST, prefix};
use crate::worker::protocol::segment::PassedFile;

/// Frames are put together up to this size, to be written in one go.
const TOGETHER: usize = 64 * 1024;

/// Bytes that are written in one go, as far as the socket takes them.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// They go with the first byte.
    files: Vec<PassedFile>,
}

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Outgoing {
    blocks: VecDeque<Block>,
    /// How many bytes of the first block are written.
    written: usize,
    /// Room for a block, from one that is written.
    spare: Vec<u8>,
    /// The frame at the end, if it takes more parts.
    open_frame: Option<OpenFrame>,
}

/// A frame at the end that takes more parts, as long as nothing else is added.
struct OpenFrame {
    kind: Kind,
    /// Where it begins in the last block, and where it ends.
    start: usize,
    end: usize,
    /// The number of blocks, of which it is in the last one.
    blocks: usize,
    /// The number of the next item.
    next: u64,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Where small frames are added.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.blocks.back().is_none_or(|last| last.bytes.len() >= TOGETHER) {
            let bytes = std::mem::take(&mut self.spare);
            self.blocks.push_back(Block { bytes, files: Vec::new() });
        }
        &mut self.blocks.back_mut().expect("one was added").bytes
    }

    /// The same, after which nothing else is added before these files go.
    pub(crate) fn end_with(&mut self, files: Vec<PassedFile>) -> &mut Vec<u8> {
        self.blocks.push_back(Block { bytes: Vec::new(), files });
        self.end()
    }

    /// Add the rest of a frame. A large one is not copied.
    pub(crate) fn add(&mut self, bytes: Vec<u8>) {
        if bytes.len() < TOGETHER {
            self.end().extend_from_slice(&bytes);
        } else {
            self.blocks.push_back(Block { bytes, files: Vec::new() });
        }
    }

    /// Add a small message about an item, or that there is none, to the frame of this kind with those of the items before it.
    pub(crate) fn add_part(&mut self, kind: Kind, number: u64, part: Option<&[u8]>) {
        let blocks = self.blocks.len();
        let last_len = self.blocks.back().map_or(0, |last| last.bytes.len());
        let is_continued = |open: &OpenFrame| {
            let is_at_end = (open.blocks, open.end) == (blocks, last_len) && last_len < TOGETHER;
            is_at_end && (open.kind, open.next) == (kind, number) && last_len - open.start < LONGEST
        };
        let continued = self.open_frame.take().filter(is_continued);
        let bytes = self.end();
        let start = continued.map_or(bytes.len(), |open| open.start);
        if start == bytes.len() {
            Head::new(kind, number).write(&[], bytes);
        }
        bytes.extend_from_slice(&prefix(part.map(<[u8]>::len)));
        bytes.extend_from_slice(part.unwrap_or_default());
        frame::note_part(&mut bytes[start..]);
        let end = bytes.len();
        self.open_frame = Some(OpenFrame { kind, start, end, blocks: self.blocks.len(), next: number + 1 });
    }

    /// What is to be written next.
    pub(crate) fn next(&self) -> Option<(&[u8], &[PassedFile])> {
        let first = self.blocks.front()?;
        let files = if self.written == 0 { first.files.as_slice() } else { &[] };
        Some((&first.bytes[self.written..], files))
    }

    /// So much of it is written.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.blocks.front().is_none_or(|first| first.bytes.len() > self.written) {
            return;
        }
        self.written = 0;
        self.open_frame = None;
        if let Some(mut first) = self.blocks.pop_front()
            && first.bytes.capacity() <= 2 * TOGETHER
        {
            first.bytes.clear();
            self.spare = first.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::worker::protocol::frame::Read;
    use crate::worker::protocol::parts::Parts;
    use crate::worker::protocol::view::View;
    use crate::worker::protocol::write_queue::*;

    /// The frames that wait: the kind of each, its first number and its parts.
    fn written(outgoing: &mut Outgoing) -> Vec<(Kind, u64, Vec<Option<usize>>)> {
        let mut bytes = Vec::new();
        while let Some((some, _)) = outgoing.next() {
            let some = some.to_vec();
            outgoing.note_written(some.len());
            bytes.extend(some);
        }
        let mut frames = Vec::new();
        let mut rest = &bytes[..];
        while let Read::Frame(read) = frame::read(rest) {
            let parts: Vec<_> = Parts::of(View::from(read.body)).map(|part| part.map(|part| part.len())).collect();
            assert!(read.head.kind != Kind::Outputs || read.head.extra == parts.len() as u64);
            frames.push((read.head.kind, read.head.number, parts));
            rest = &rest[read.len..];
        }
        assert!(rest.is_empty());
        frames
    }

    #[test]
    fn messages_about_consecutive_items_share_a_frame() {
        let mut outgoing = Outgoing::default();

        outgoing.add_part(Kind::Outputs, 7, Some(b"one"));
        outgoing.add_part(Kind::Outputs, 8, None);
        outgoing.add_part(Kind::Outputs, 10, Some(b""));
        outgoing.add_part(Kind::Pack, 11, Some(b"x"));

        let outputs = [(Kind::Outputs, 7, vec![Some(3), None]), (Kind::Outputs, 10, vec![Some(0)])];
        let frames = [&outputs[..], &[(Kind::Pack, 11, vec![Some(1)])]].concat();
        assert_eq!(written(&mut outgoing), frames);
    }

    #[test]
    fn nothing_is_added_to_a_frame_that_another_follows_or_that_is_written_or_long() {
        let mut outgoing = Outgoing::default();
        let long = vec![0; LONGEST];

        outgoing.add_part(Kind::Outputs, 1, Some(b"a"));
        Head::new(Kind::Done, 9).write(&[], outgoing.end());
        outgoing.add_part(Kind::Outputs, 2, Some(b"b"));
        let before = written(&mut outgoing);
        outgoing.add_part(Kind::Outputs, 3, Some(&long));
        outgoing.add_part(Kind::Outputs, 4, Some(&long));
        outgoing.add_part(Kind::Outputs, 5, Some(b"c"));

        let first = [(Kind::Outputs, 1, vec![Some(1)]), (Kind::Done, 9, vec![]), (Kind::Outputs, 2, vec![Some(1)])];
        assert_eq!(before, first);
        let parts: Vec<_> =
            written(&mut outgoing).into_iter().map(|(_, number, parts)| (number, parts.len())).collect();
        assert_eq!(parts, [(3, 1), (4, 1), (5, 1)]);
    }
}
