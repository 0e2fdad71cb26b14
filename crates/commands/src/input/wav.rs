//! WAV files and streams.
//!
//! Only the header is special: what follows are bare samples. It is read here rather than by a library because streams state no
//! true length (`ffmpeg -f wav -` writes 0xFFFFFFFF), long recordings have 64-bit ones (RF64), and both are common at our door.

use std::io::{self, Read, Take};

use super::pcm::{Chunks, Layout};
use crate::Failure;
use crate::pcm::SampleFormat;
use crate::terminal::reason;

const PCM: u16 = 0x0001;
const IEEE_FLOAT: u16 = 0x0003;
const EXTENSIBLE: u16 = 0xFFFE;
/// The end of the format identifiers that continue one of the numbers above.
const SUBFORMAT_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
/// No format description is longer; the rest of a longer one is skipped.
const MAX_FORMAT_BYTES: u64 = 64;

/// Read the header and answer the chunks of audio after it.
pub(crate) fn open<R: Read>(mut reader: R, name: &str, chunk_ms: u32) -> Result<Chunks<Take<R>>, Failure> {
    let (layout, data_bytes) = read_header(&mut reader).map_err(|problem| problem.about(name))?;
    Ok(Chunks::new(reader.take(data_bytes), name.to_owned(), layout, chunk_ms))
}

enum Problem {
    Unreadable(io::Error),
    Malformed(String),
}

impl Problem {
    fn about(self, name: &str) -> Failure {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::failed(format!("{name}: not a WAV file: it ends within its header"))
            }
            Self::Unreadable(error) => Failure::failed(format!("cannot read {name}: {}", reason(&error))),
            Self::Malformed(what) => Failure::failed(format!("{name}: {what}")),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Malformed(what.into()))
}

/// The layout of the samples and the number of their bytes; `u64::MAX` for a stream that ends when it ends.
fn read_header(reader: &mut impl Read) -> Result<(Layout, u64), Problem> {
    let [riff, file_size, wave] = read_words(reader)?;
    if ![*b"RIFF", *b"RF64", *b"BW64"].contains(&riff) || wave != *b"WAVE" {
        return malformed(
            "not a WAV file: it does not begin with RIFF … WAVE; name its --format, or convert it with ffmpeg",
        );
    }
    let mut layout = None;
    let mut long_data_bytes = None;
    loop {
        let [kind, size] = read_words(reader)?;
        let size = u32::from_le_bytes(size);
        match &kind {
            b"fmt " => layout = Some(read_format(&read_chunk(reader, size)?)?),
            b"ds64" => {
                let sizes = read_chunk(reader, size)?;
                long_data_bytes = sizes.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            }
            b"data" => {
                let Some(layout) = layout else {
                    return malformed("not a proper WAV file: its format (fmt) does not come before its data");
                };
                // Programs that write to a pipe don't know the length yet: they leave a number near the largest one, or 0.
                let is_stream =
                    size >= 0x7FFF_0000 || size == 0 && matches!(file_size, [0, 0, 0, 0] | [0xFF, 0xFF, 0xFF, 0xFF]);
                let stated = if is_stream { u64::MAX } else { u64::from(size) };
                return Ok((layout, long_data_bytes.filter(|_| size == u32::MAX).unwrap_or(stated)));
            }
            _ => skip(reader, padded(size))?,
        }
    }
}

fn read_format(format: &[u8]) -> Result<Layout, Problem> {
    let word = |at: usize| Some(u16::from_le_bytes([*format.get(at)?, *format.get(at + 1)?]));
    let (Some(mut tag), Some(channels), Some(block_bytes), Some(bits)) = (word(0), word(2), word(12), word(14)) else {
        return malformed("not a proper WAV file: its format (fmt) is too short");
    };
    let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
    let mut valid_bits = bits;
    if tag == EXTENSIBLE {
        let (Some(valid), Some(continued)) = (word(18), word(24)) else {
            return malformed("not a proper WAV file: its extensible format is too short");
        };
        if format.get(26..40) == Some(&SUBFORMAT_TAIL) {
            tag = continued;
        }
        if valid > 0 {
            valid_bits = valid;
        }
    }
    if channels == 0 || rate == 0 || block_bytes % channels != 0 {
        return malformed(format!(
            "not a proper WAV file: {channels} channels at {rate} Hz in frames of {block_bytes} bytes"
        ));
    }
    let sample_format = match (tag, block_bytes / channels, valid_bits) {
        (PCM, 1, _) => SampleFormat::U8,
        (PCM, 2, _) => SampleFormat::S16le,
        (PCM, 3, _) => SampleFormat::S24le,
        (PCM, 4, 24) => SampleFormat::S24In32le,
        (PCM, 4, _) => SampleFormat::S32le,
        (IEEE_FLOAT, 4, _) => SampleFormat::F32le,
        (IEEE_FLOAT, 8, _) => SampleFormat::F64le,
        _ => {
            return malformed(format!(
                "WAV with {} samples of {bits} bits is not supported; convert it to PCM with ffmpeg",
                encoding_name(tag)
            ));
        }
    };
    Ok(Layout { rate, channels, sample_format })
}

fn encoding_name(tag: u16) -> String {
    match tag {
        PCM => "PCM".to_owned(),
        0x0002 | 0x0011 => "ADPCM".to_owned(),
        IEEE_FLOAT => "floating-point".to_owned(),
        0x0006 => "A-law".to_owned(),
        0x0007 => "µ-law".to_owned(),
        0x0055 => "MP3".to_owned(),
        other => format!("encoded (0x{other:04x})"),
    }
}

fn read_words<const N: usize>(reader: &mut impl Read) -> io::Result<[[u8; 4]; N]> {
    let mut words = [[0; 4]; N];
    for word in &mut words {
        reader.read_exact(word)?;
    }
    Ok(words)
}

fn read_chunk(reader: &mut impl Read, size: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let wanted = u64::from(size).min(MAX_FORMAT_BYTES);
    reader.take(wanted).read_to_end(&mut bytes)?;
    skip(reader, padded(size) - wanted)?;
    Ok(bytes)
}

/// Chunks begin at even places.
fn padded(size: u32) -> u64 {
    u64::from(size) + u64::from(size % 2)
}

fn skip(reader: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
