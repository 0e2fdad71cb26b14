//! Bare samples, cut into chunks of equal length.

use std::io::Read;

use remotemedia_runtime::{AudioChunk, Value};

use crate::failure::Failure;
use crate::sample_format::SampleFormat;
use crate::terminal::read_failure;

/// How samples follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) sample_format: SampleFormat,
}

/// Audio as chunks. Only the last one may be shorter.
pub(crate) struct Chunks<R> {
    reader: R,
    name: String,
    layout: Layout,
    frames_per_chunk: u64,
    frames_done: u64,
    is_over: bool,
}

impl Layout {
    fn frame_bytes(self) -> usize {
        self.sample_format.width() * usize::from(self.channels)
    }
}

impl<R: Read> Chunks<R> {
    pub(crate) fn new(reader: R, name: String, layout: Layout, chunk_ms: u32) -> Self {
        // Rounded once, so that all chunks are equally long: models expect that.
        let frames_per_chunk = ((u64::from(layout.rate) * u64::from(chunk_ms) + 500) / 1000).max(1);
        Self { reader, name, layout, frames_per_chunk, frames_done: 0, is_over: false }
    }

    fn read_chunk(&mut self) -> Result<Option<AudioChunk>, Failure> {
        let wanted = self.frames_per_chunk * self.layout.frame_bytes() as u64;
        // `take` grows with what is really there: a header that lies about its rate allocates nothing.
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(wanted).read_to_end(&mut bytes);
        read.map_err(|error| read_failure(&self.name, &error))?;
        self.is_over = (bytes.len() as u64) < wanted;
        // A recording that was cut off in the middle of a frame ends before it.
        let whole = bytes.len() - bytes.len() % self.layout.frame_bytes();
        if whole == 0 {
            return Ok(None);
        }
        #[allow(clippy::cast_precision_loss, reason = "frame counts stay far below 2^52")]
        let start_secs = self.frames_done as f64 / f64::from(self.layout.rate);
        let chunk = AudioChunk {
            samples: self.layout.sample_format.decode(&bytes[..whole]),
            channels: self.layout.channels,
            sample_rate: self.layout.rate,
            start_secs,
        };
        self.frames_done += chunk.frames() as u64;
        Ok(Some(chunk))
    }
}

impl<R: Read> Iterator for Chunks<R> {
    type Item = Result<Value, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.read_chunk().map(|found| found.map(Value::Audio)).transpose()
    }
}
