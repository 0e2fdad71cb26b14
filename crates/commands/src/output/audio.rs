//! Audio as WAV or bare samples.

use remotemedia_runtime::{AudioChunk, Value};

use crate::sample_format::SampleFormat;
use crate::wav_tags::{EXTENSIBLE, IEEE_FLOAT, PCM, SUBFORMAT_TAIL};

/// What a stream states as its length, which is not known yet.
const UNKNOWN_LENGTH: u32 = u32::MAX;

/// The field for it has 16 bits.
const MOST_FRAME_BYTES: usize = u16::MAX as usize;

/// Turns chunks of audio into the bytes of one recording.
pub(crate) struct AudioEncoder {
    sample_format: SampleFormat,
    has_header: bool,
    /// Rate and channels, from the first chunk.
    layout: Option<(u32, u16)>,
    header_bytes: u64,
    data_bytes: u64,
    clipped: u64,
}

impl AudioEncoder {
    /// A WAV file. Its lengths are filled in at the end, by [`AudioEncoder::corrections`].
    pub(crate) fn wav(sample_format: SampleFormat) -> Self {
        Self { sample_format, has_header: true, layout: None, header_bytes: 0, data_bytes: 0, clipped: 0 }
    }

    /// Samples alone, and bytes as they are.
    pub(crate) fn raw(sample_format: SampleFormat) -> Self {
        Self { has_header: false, ..Self::wav(sample_format) }
    }

    /// Append `value`; the error continues the sentence "output 3 …".
    pub(crate) fn write(&mut self, value: &Value, buffer: &mut Vec<u8>) -> Result<(), String> {
        match value {
            Value::Audio(chunk) => self.write_chunk(chunk, buffer),
            Value::Bytes(bytes) if !self.has_header => {
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            other => {
                let (output, items) =
                    if self.has_header { ("a WAV file", "audio") } else { ("raw output", "audio and bytes") };
                Err(format!(
                    "is {}, but {output} can contain only {items}; use --output FILE.jsonl, or --output-format jsonl",
                    other.kind()
                ))
            }
        }
    }

    /// Places in the recording, and the bytes that belong there now that its length is known.
    pub(crate) fn corrections(&self) -> Vec<(u64, Vec<u8>)> {
        if self.header_bytes == 0 {
            return Vec::new();
        }
        let end = self.header_bytes + self.data_bytes;
        // Chunks of a WAV file end at even places.
        let padding = self.data_bytes % 2;
        let (Ok(file_size), Ok(data_size)) = (u32::try_from(end + padding), u32::try_from(self.data_bytes)) else {
            // Longer than WAV can say: it stays a stream of unknown length, which readers take to its end.
            return Vec::new();
        };
        let mut corrections = vec![
            (4, (file_size - 8).to_le_bytes().to_vec()),
            (self.header_bytes - 4, data_size.to_le_bytes().to_vec()),
        ];
        if padding > 0 {
            corrections.push((end, vec![0]));
        }
        corrections
    }

    /// What its user should know about the finished recording.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        if self.has_header && self.layout.is_none() {
            return Some(format!("the pipeline returned no audio; {name} is empty"));
        }
        let clipped = self.clipped;
        (clipped > 0).then(|| {
            format!("{clipped} samples in {name} exceeded full scale and were clipped; use --sample-format f32le to keep them")
        })
    }

    fn write_chunk(&mut self, chunk: &AudioChunk, buffer: &mut Vec<u8>) -> Result<(), String> {
        let layout = (chunk.sample_rate, chunk.channels);
        match self.layout {
            None => {
                let frame_bytes = usize::from(chunk.channels) * self.sample_format.width();
                if frame_bytes == 0 || chunk.sample_rate == 0 {
                    return Err(format!("is audio of {}, which cannot be written", described(layout)));
                }
                if self.has_header && frame_bytes > MOST_FRAME_BYTES {
                    return Err(format!(
                        "is audio of {}, which is more than a WAV file can contain; use --output-format raw",
                        described(layout)
                    ));
                }
                self.layout = Some(layout);
                if self.has_header {
                    let start = buffer.len();
                    self.write_header(layout, buffer);
                    self.header_bytes = (buffer.len() - start) as u64;
                }
            }
            Some(first) if first != layout => {
                return Err(format!(
                    "is audio of {}, but the recording started with {}; resample it in a node",
                    described(layout),
                    described(first)
                ));
            }
            Some(_) => {}
        }
        let start = buffer.len();
        self.clipped += self.sample_format.encode(&chunk.samples, buffer);
        self.data_bytes += (buffer.len() - start) as u64;
        Ok(())
    }

    fn write_header(&self, (rate, channels): (u32, u16), buffer: &mut Vec<u8>) {
        let tag = if self.sample_format.is_float() { IEEE_FLOAT } else { PCM };
        #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
        let width = self.sample_format.width() as u16;
        let block_bytes = u32::from(width) * u32::from(channels);
        // The short form knows no more than this; programs that know only the short form can read it.
        let is_short = width <= 2 && channels <= 2;
        let word = |value: u16| value.to_le_bytes();
        let long = |value: u32| value.to_le_bytes();

        buffer.extend(b"RIFF");
        buffer.extend(long(UNKNOWN_LENGTH));
        buffer.extend(b"WAVEfmt ");
        buffer.extend(long(if is_short { 16 } else { 40 }));
        buffer.extend(word(if is_short { tag } else { EXTENSIBLE }));
        buffer.extend(word(channels));
        buffer.extend(long(rate));
        buffer.extend(long(rate.saturating_mul(block_bytes)));
        #[allow(clippy::cast_possible_truncation, reason = "no more than `MOST_FRAME_BYTES`")]
        buffer.extend(word(block_bytes as u16));
        buffer.extend(word(width * 8));
        if !is_short {
            buffer.extend(word(22));
            buffer.extend(word(width * 8));
            // No speaker positions are claimed.
            buffer.extend(long(0));
            buffer.extend(word(tag));
            buffer.extend(SUBFORMAT_TAIL);
        }
        buffer.extend(b"data");
        buffer.extend(long(UNKNOWN_LENGTH));
    }
}

fn described((rate, channels): (u32, u16)) -> String {
    format!("{rate} Hz and {channels} channel{}", if channels == 1 { "" } else { "s" })
}
