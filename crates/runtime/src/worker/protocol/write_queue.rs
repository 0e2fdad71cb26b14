//! Frames that wait to be written to a socket, in order, with the files that go along.

use std::collections::VecDeque;

use crate::worker::protocol::segment::PassedFile;

/// Frames are put together up to this size, to be written in one go.
const TOGETHER: usize = 64 * 1024;

/// Bytes that are written in one go, as far as the socket takes them.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    /// They go with the first byte.
    files: Vec<PassedFile>,
}

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Outgoing {
    parts: VecDeque<Part>,
    /// How many bytes of the first part are written.
    written: usize,
    /// Room for a part, from one that is written.
    spare: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Where small frames are added.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.parts.back().is_none_or(|last| last.bytes.len() >= TOGETHER) {
            let bytes = std::mem::take(&mut self.spare);
            self.parts.push_back(Part { bytes, files: Vec::new() });
        }
        &mut self.parts.back_mut().expect("one was added").bytes
    }

    /// The same, after which nothing else is added before these files go.
    pub(crate) fn end_with(&mut self, files: Vec<PassedFile>) -> &mut Vec<u8> {
        self.parts.push_back(Part { bytes: Vec::new(), files });
        self.end()
    }

    /// Add the rest of a frame. A large one is not copied.
    pub(crate) fn add(&mut self, bytes: Vec<u8>) {
        if bytes.len() < TOGETHER {
            self.end().extend_from_slice(&bytes);
        } else {
            self.parts.push_back(Part { bytes, files: Vec::new() });
        }
    }

    /// What is to be written next.
    pub(crate) fn next(&self) -> Option<(&[u8], &[PassedFile])> {
        let first = self.parts.front()?;
        let files = if self.written == 0 { first.files.as_slice() } else { &[] };
        Some((&first.bytes[self.written..], files))
    }

    /// So much of it is written.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.parts.front().is_none_or(|first| first.bytes.len() > self.written) {
            return;
        }
        self.written = 0;
        if let Some(mut first) = self.parts.pop_front()
            && first.bytes.capacity() <= 2 * TOGETHER
        {
            first.bytes.clear();
            self.spare = first.bytes;
        }
    }
}
