//! The input of a run: files and pipes of several formats, read one after the other, an item at a time.

mod feed;
pub(crate) mod json;
mod lines;
pub(crate) mod pcm;
mod reader;
pub(crate) mod wav;

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::ValueEnum;
use remotemedia_runtime::Value;

use crate::descriptor;
use crate::failure::Failure;
use crate::terminal::{read_failure, reason};

pub(crate) use feed::{FeedProgress, InputFeed};
pub(crate) use pcm::Layout;
use reader::Reader;

/// What the bytes of an input mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// A WAV file; each item is a chunk of audio
    Wav,
    /// Raw audio samples (requires --rate); each item is a chunk of audio
    #[value(alias = "pcm")]
    Raw,
    /// JSON lines; each item is the value of one line
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
    /// Text; each item is one line
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
    /// What is not written in raw audio itself.
    pub(crate) layout: Layout,
    /// How long the items are into which audio is cut.
    pub(crate) chunk_ms: u32,
}

/// Items in the order of the input, until the end or the first failure, after which none is requested.
pub(crate) type Items = Box<dyn Iterator<Item = Result<Value, Failure>> + Send>;

impl Place {
    pub(crate) fn of(argument: &Path) -> Self {
        if argument.as_os_str() == "-" { Self::Stdin } else { Self::File(argument.to_owned()) }
    }

    /// The end of its name that names its content, in lower case.
    pub(crate) fn extension(&self) -> Option<String> {
        let Self::File(path) = self else { return None };
        path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
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
                Err(Failure::usage(format!("input '{name}' is a directory; pass each of its files with --input")))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Open the input; the bytes of each item that was taken are added to `bytes_taken`.
    pub(crate) fn open(&self, bytes_taken: &Arc<AtomicU64>) -> Result<Items, Failure> {
        let name = self.place.name();
        let file = match &self.place {
            Place::Stdin => descriptor::stdin(),
            Place::File(path) => File::open(path),
        };
        let file = file.map_err(|error| read_failure(&name, &error))?;
        let bytes_ahead = bytes_ahead(&file);
        let reader = Reader::new(file, Arc::clone(bytes_taken));
        Ok(match self.format {
            InputFormat::Text => Box::new(lines::Lines::new(reader, name).map(|line| line.map(Value::Text))),
            InputFormat::Jsonl => Box::new(json::items(reader, name)),
            InputFormat::Wav => Box::new(wav::open(reader, &name, self.chunk_ms, bytes_ahead)?),
            InputFormat::Raw => Box::new(pcm::Chunks::new(reader, name, self.layout, self.chunk_ms)),
        })
    }
}

/// Whether files with this extension hold audio or video that is not read or written here.
pub(crate) fn is_other_media(extension: &str) -> bool {
    let extensions = ["mp3", "flac", "ogg", "opus", "m4a", "aac", "mp4", "mkv", "webm", "aif", "aiff", "wma"];
    extensions.contains(&extension)
}

/// How many bytes there are to read, of a file that is not a pipe.
fn bytes_ahead(mut file: &File) -> Option<u64> {
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(found.len().saturating_sub(file.stream_position().ok()?))
}

/// The format of an input, from `--format` or from the name of the file.
pub(crate) fn format_of(place: &Place, chosen: Option<InputFormat>) -> Result<InputFormat, Failure> {
    if let Some(format) = chosen {
        return Ok(format);
    }
    let Place::File(path) = place else { return Ok(InputFormat::Text) };
    match place.extension().as_deref() {
        None | Some("txt" | "text") => Ok(InputFormat::Text),
        Some("wav" | "wave") => Ok(InputFormat::Wav),
        Some("raw" | "pcm") => Ok(InputFormat::Raw),
        Some("jsonl" | "ndjson" | "json") => Ok(InputFormat::Jsonl),
        Some(extension) if is_other_media(extension) => {
            let name = path.display();
            Err(Failure::usage(format!(
                "input '{name}' is compressed or in another media format; decode it before it is read:\n  \
                 ffmpeg -i '{name}' -f wav - | … --input - --format wav"
            )))
        }
        _ => Err(Failure::usage(format!(
            "the name of input '{}' has no known extension; add --format wav, raw, jsonl or text",
            path.display()
        ))),
    }
}
