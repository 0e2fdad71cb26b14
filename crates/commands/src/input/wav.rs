//! WAV files and streams.
//!
//! Only the header is special: what follows are bare samples. It is read here rather than by a library because streams state no
//! true length (`ffmpeg -f wav -` writes 0xFFFFFFFF, speech servers write 0), long recordings have 64-bit ones (RF64), and both
//! are common.

use std::io::{self, Chain, Cursor, ErrorKind, Read, Take};

use super::pcm::{Chunks, Layout};
use crate::failure::Failure;
use crate::sample_format::SampleFormat;
use crate::terminal::read_failure;
use crate::wav_tags::{EXTENSIBLE, IEEE_FLOAT, PCM, SUBFORMAT_TAIL};

/// No format description is longer; the rest of a longer one is skipped.
const MAX_FORMAT_BYTES: u64 = 64;
/// From here on a 32-bit length is one that was never filled in.
const UNKNOWN_LENGTHS: u32 = 0x7FFF_0000;

/// Samples after the header, and what had to be read of them to know that they are samples.
pub(crate) type Samples<R> = Chain<Cursor<Vec<u8>>, Take<R>>;

/// Read the header and return the chunks of audio after it. `total_bytes` is the length of the file, where it is known.
pub(crate) fn open<R: Read>(
    mut reader: R,
    name: &str,
    chunk_ms: u32,
    total_bytes: Option<u64>,
) -> Result<Chunks<Samples<R>>, Failure> {
    let Header { layout, data_bytes, begun } =
        read_header(&mut reader, total_bytes).map_err(|error| unreadable(&error, name))?;
    let samples = Cursor::new(begun).chain(reader.take(data_bytes));
    Ok(Chunks::new(samples, name.to_owned(), layout, chunk_ms))
}

/// What comes before the samples.
struct Header {
    layout: Layout,
    /// How many bytes of samples are still to be read; `u64::MAX` for a stream that ends when it ends.
    data_bytes: u64,
    /// The samples that were read already.
    begun: Vec<u8>,
}

/// The failure for what is wrong with a header.
fn unreadable(error: &io::Error, name: &str) -> Failure {
    match error.kind() {
        ErrorKind::UnexpectedEof => Failure::failed(format!("{name}: not a WAV file: it ends within its header")),
        ErrorKind::InvalidData => Failure::failed(format!("{name}: {error}")),
        _ => read_failure(name, error),
    }
}

fn malformed<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(ErrorKind::InvalidData, what.into()))
}

fn read_header(reader: &mut impl Read, total_bytes: Option<u64>) -> io::Result<Header> {
    let reader = &mut Positioned { inner: reader, position: 0 };
    let [riff, riff_size, wave] = read_words(reader)?;
    if ![*b"RIFF", *b"RF64", *b"BW64"].contains(&riff) || wave != *b"WAVE" {
        return malformed(
            "not a WAV file: it does not start with RIFF … WAVE; set --format, or convert it with ffmpeg",
        );
    }
    let mut long_lengths = None;
    let mut layout = None;
    loop {
        let [kind, size] = read_words(reader)?;
        let size = u32::from_le_bytes(size);
        match &kind {
            b"fmt " => layout = Some(read_format(&read_chunk(reader, size)?)?),
            b"ds64" => long_lengths = Lengths::of_long(&read_chunk(reader, size)?),
            b"data" => {
                let Some(layout) = layout else {
                    return malformed("not a valid WAV file: its format chunk (fmt) does not come before its data");
                };
                let lengths = match long_lengths {
                    Some(lengths) if size == u32::MAX || size == 0 => lengths,
                    _ => Lengths::of(riff_size, size, reader.position, total_bytes),
                };
                let (data_bytes, begun) = lengths.find_samples(reader)?;
                return Ok(Header { layout, data_bytes, begun });
            }
            _ => skip(reader, padded(size))?,
        }
    }
}

/// What a header states, which is true only where its writer could go back and fill it in.
///
/// Programs that write to a pipe don't know the length yet: they leave 0 or a number near the largest one.
#[derive(Clone, Copy)]
struct Lengths {
    /// Of all that follows the first 8 bytes.
    riff: u64,
    /// Of the samples; `u64::MAX` if it was never filled in.
    data: u64,
}

impl Lengths {
    /// The lengths in a `ds64` chunk.
    fn of_long(sizes: &[u8]) -> Option<Self> {
        let long = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        Some(Self { riff: long(sizes.get(..8)?)?, data: long(sizes.get(8..16)?)? })
    }

    /// The lengths in the header of a file of `total_bytes`, if that is known, whose samples begin `here`.
    fn of(riff_size: [u8; 4], data_size: u32, here: u64, total_bytes: Option<u64>) -> Self {
        let data = u64::from(data_size);
        // A file of more than 2 GiB may state such a number and mean it, and have a title after its samples.
        let is_true = total_bytes.is_some_and(|total| here + data <= total);
        let data = if data_size >= UNKNOWN_LENGTHS && !is_true { u64::MAX } else { data };
        Self { riff: u32::from_le_bytes(riff_size).into(), data }
    }

    /// How many bytes of samples follow, and those of them that had to be read to find out.
    fn find_samples<R: Read>(self, reader: &mut Positioned<R>) -> io::Result<(u64, Vec<u8>)> {
        if self.data > 0 {
            return Ok((self.data, Vec::new()));
        }
        let stated_end = self.riff.saturating_add(8);
        let here = reader.position;
        if stated_end <= here || self.riff >= UNKNOWN_LENGTHS.into() {
            return Ok((u64::MAX, Vec::new()));
        }
        // A recording without samples may be followed by its title.
        let mut next = Vec::new();
        reader.take(8).read_to_end(&mut next)?;
        Ok(if is_chunk(&next, stated_end - here) { (0, Vec::new()) } else { (u64::MAX, next) })
    }
}

/// Whether `start` begins a chunk that is no longer than `room`.
fn is_chunk(start: &[u8], room: u64) -> bool {
    let Some((kind, size)) = start.split_first_chunk::<4>() else { return false };
    let Ok(size) = size.try_into().map(u32::from_le_bytes) else {
        return false;
    };
    kind.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') && u64::from(size).saturating_add(8) <= room
}

fn read_format(format: &[u8]) -> io::Result<Layout> {
    let word = |at: usize| Some(u16::from_le_bytes([*format.get(at)?, *format.get(at + 1)?]));
    let (Some(mut tag), Some(channels), Some(block_bytes), Some(bits)) = (word(0), word(2), word(12), word(14)) else {
        return malformed("not a valid WAV file: its format chunk (fmt) is too short");
    };
    let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
    // Samples of fewer bits than their bytes hold lie at the high end, so that the bytes alone determine how to read them.
    let mut lies_at_low_end = false;
    if tag == EXTENSIBLE {
        let Some(continued) = word(24) else {
            return malformed("not a valid WAV file: its extensible format chunk is too short");
        };
        if format.get(26..40) == Some(&SUBFORMAT_TAIL) {
            tag = continued;
        }
    } else {
        // But for this one, as `arecord -f S24_LE` writes it.
        lies_at_low_end = bits == 24;
    }
    if channels == 0 || rate == 0 || block_bytes % channels != 0 {
        return malformed(format!(
            "not a valid WAV file: {channels} channels at {rate} Hz in frames of {block_bytes} bytes"
        ));
    }
    let sample_format = match (tag, block_bytes / channels, lies_at_low_end) {
        (PCM, 1, _) => SampleFormat::U8,
        (PCM, 2, _) => SampleFormat::S16le,
        (PCM, 3, _) => SampleFormat::S24le,
        (PCM, 4, true) => SampleFormat::S24In32le,
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

/// A reader that knows how far it has come.
struct Positioned<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Read for Positioned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
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
    if skipped < count { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(riff_size: u32, data_size: u32) -> Vec<u8> {
        let mut header = b"RIFF".to_vec();
        header.extend(riff_size.to_le_bytes());
        header.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
        header.extend(data_size.to_le_bytes());
        header
    }

    fn data_bytes(riff_size: u32, data_size: u32, total_bytes: Option<u64>) -> u64 {
        let Ok(header) = read_header(&mut header(riff_size, data_size).as_slice(), total_bytes) else { panic!() };
        header.data_bytes
    }

    #[test]
    fn a_length_beyond_2_gib_is_believed_where_the_file_has_it() {
        let size = 0xC000_0000;

        assert_eq!(data_bytes(size + 36, size, Some(0xC000_0000 + 1000)), u64::from(size));
        assert_eq!(data_bytes(size + 36, size, Some(1000)), u64::MAX);
        assert_eq!(data_bytes(size + 36, size, None), u64::MAX);
        assert_eq!(data_bytes(0x7FFF_F024, 0x7FFF_F000, None), u64::MAX);
    }
}
