//! The input of a run: files and pipes of several formats, read one after the other, an item at a time.

mod feed;
mod json;
mod lines;
mod pcm;
mod wav;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use remotemedia_runtime::Value;

use crate::Failure;
use crate::pcm::SampleFormat;
use crate::terminal::reason;

pub(crate) use feed::{FeedProgress, InputFeed};

/// Large enough that a system call per buffer is cheap, small enough that a slow pipe is not waited for.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What the bytes of an input mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Audio in a WAV file: each item is a chunk of it
    Wav,
    /// Audio as bare samples (needs --rate): each item is a chunk of it
    #[value(alias = "pcm")]
    Raw,
    /// One JSON value a line: each item is one
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
    /// Lines of text: each item is one
    #[value(alias = "txt", alias = "lines")]
    Text,
}

/// Where items are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard input.
    Stdin,
    /// A file, which may be a pipe.
    File(PathBuf),
}

/// One input and how to read it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) format: InputFormat,
    pub(crate) audio: AudioSettings,
}

/// How audio is cut into items, and what is not written in raw audio itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AudioSettings {
    pub(crate) chunk_ms: u32,
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) sample_format: SampleFormat,
}

/// Items in the order of the input, until the end or the first failure.
pub(crate) type Items = Box<dyn Iterator<Item = Result<Value, Failure>> + Send>;

impl Place {
    pub(crate) fn of(argument: &Path) -> Self {
        if argument.as_os_str() == "-" { Self::Stdin } else { Self::File(argument.to_owned()) }
    }

    /// The name of the place in error texts.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl Source {
    /// How many bytes there are to read, where that is known.
    pub(crate) fn known_bytes(&self) -> Option<u64> {
        match &self.place {
            Place::Stdin => None,
            Place::File(path) => path.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len()),
        }
    }

    /// Refuse what cannot be read before any node is made ready for it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Place::File(path) = &self.place else { return Ok(()) };
        let name = path.display();
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::usage(format!("input '{name}' does not exist")))
            }
            Err(error) => Err(Failure::usage(format!("cannot read input '{name}': {}", reason(&error)))),
            Ok(found) if found.is_dir() => {
                Err(Failure::usage(format!("input '{name}' is a directory; name the files in it, each with --input")))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Open the input; every byte that is read is added to `bytes_read`.
    pub(crate) fn open(&self, bytes_read: &Arc<AtomicU64>) -> Result<Items, Failure> {
        let name = self.place.name();
        let file = match &self.place {
            Place::Stdin => stdin_file(),
            Place::File(path) => File::open(path),
        };
        let file = file.map_err(|error| Failure::failed(format!("cannot read {name}: {}", reason(&error))))?;
        let counted = Counted { inner: file, bytes_read: Arc::clone(bytes_read) };
        let reader = BufReader::with_capacity(READ_BUFFER_BYTES, counted);
        Ok(match self.format {
            InputFormat::Text => Box::new(lines::Lines::new(reader, name).map(|line| line.map(Value::Text))),
            InputFormat::Jsonl => Box::new(json::JsonItems::new(reader, name)),
            InputFormat::Wav => Box::new(wav::open(reader, &name, self.audio.chunk_ms)?),
            InputFormat::Raw => {
                let layout = pcm::Layout {
                    rate: self.audio.rate,
                    channels: self.audio.channels,
                    sample_format: self.audio.sample_format,
                };
                Box::new(pcm::Chunks::new(reader, name, layout, self.audio.chunk_ms))
            }
        })
    }
}

/// The format of an input, from `--format` or from the name of the file.
pub(crate) fn format_of(place: &Place, chosen: Option<InputFormat>) -> Result<InputFormat, Failure> {
    if let Some(format) = chosen {
        return Ok(format);
    }
    let Place::File(path) = place else { return Ok(InputFormat::Text) };
    let Some(extension) = path.extension() else { return Ok(InputFormat::Text) };
    match extension.to_string_lossy().to_lowercase().as_str() {
        "wav" | "wave" => Ok(InputFormat::Wav),
        "raw" | "pcm" => Ok(InputFormat::Raw),
        "jsonl" | "ndjson" | "json" => Ok(InputFormat::Jsonl),
        "txt" | "text" => Ok(InputFormat::Text),
        "mp3" | "flac" | "ogg" | "opus" | "m4a" | "aac" | "mp4" | "mkv" | "webm" | "aif" | "aiff" | "wma" => {
            let name = path.display();
            Err(Failure::usage(format!(
                "input '{name}' is in a compressed or other media format; decode it on the way in:\n  \
                 ffmpeg -i '{name}' -f wav - | … --input - --format wav"
            )))
        }
        _ => Err(Failure::usage(format!(
            "the name of input '{}' does not tell its format; add --format wav, raw, jsonl or text",
            path.display()
        ))),
    }
}

/// Stdin without the lock and the buffer of the standard library, so that a thread left waiting in it holds nothing.
#[cfg(unix)]
fn stdin_file() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn stdin_file() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    io::stdin().as_handle().try_clone_to_owned().map(File::from)
}

struct Counted {
    inner: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
