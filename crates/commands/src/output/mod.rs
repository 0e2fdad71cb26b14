//! The outputs of a run, as lines or audio, to a file or a pipe.

mod audio;
mod destination;
mod json;

use std::path::Path;

use clap::ValueEnum;
use remotemedia_runtime::Value;

use crate::Failure;
use crate::input::Place;
use crate::pcm::SampleFormat;

use audio::AudioEncoder;
use destination::Destination;
pub(crate) use destination::Stuck;

/// What outputs are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// One JSON value a line
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
    /// Text as it is, other values as JSON, one a line
    #[value(alias = "txt", alias = "lines")]
    Text,
    /// Audio as one WAV file
    Wav,
    /// Audio as bare samples, bytes as they are
    #[value(alias = "pcm")]
    Raw,
}

/// Takes the outputs of a run, one by one.
pub(crate) struct Output {
    encoder: Encoder,
    destination: Destination,
    count: u64,
}

enum Encoder {
    Jsonl,
    Text,
    Audio(AudioEncoder),
}

impl Output {
    /// Open `place` for writing; what a file held before is gone.
    pub(crate) fn open(place: &Place, format: OutputFormat, sample_format: SampleFormat) -> Result<Self, Failure> {
        let encoder = match format {
            OutputFormat::Jsonl => Encoder::Jsonl,
            OutputFormat::Text => Encoder::Text,
            OutputFormat::Wav => Encoder::Audio(AudioEncoder::wav(sample_format)),
            OutputFormat::Raw => Encoder::Audio(AudioEncoder::raw(sample_format)),
        };
        Ok(Self { encoder, destination: Destination::open(place)?, count: 0 })
    }

    /// Add one output to what is to be written. Nothing is written yet: see [`Output::drain`].
    pub(crate) fn add(&mut self, value: &Value) -> Result<(), Failure> {
        self.count += 1;
        let buffer = &mut self.destination.buffer;
        let start = buffer.len();
        let added = match &mut self.encoder {
            Encoder::Jsonl => json::write(value, buffer),
            Encoder::Text => match value {
                Value::Text(text) => {
                    buffer.extend_from_slice(text.as_bytes());
                    Ok(())
                }
                other => json::write(other, buffer),
            },
            Encoder::Audio(encoder) => encoder.write(value, buffer),
        };
        if let Err(what) = added {
            buffer.truncate(start);
            return Err(Failure::failed(format!("output {} {what}", self.count)));
        }
        if !matches!(self.encoder, Encoder::Audio(_)) {
            self.destination.buffer.push(b'\n');
        }
        Ok(())
    }

    /// Write what waits: all of it to a pipe or a terminal, where somebody may be waiting for it; to a file when it is much.
    pub(crate) fn drain(&mut self) -> Result<(), Stuck> {
        if self.destination.is_due() { self.destination.write_out() } else { Ok(()) }
    }

    /// Write all that waits.
    pub(crate) fn drain_all(&mut self) -> Result<(), Stuck> {
        self.destination.write_out()
    }

    /// Make the output complete, after everything was drained; answers what its user should know about it.
    pub(crate) fn finish(&mut self) -> Result<Option<String>, Failure> {
        let Encoder::Audio(encoder) = &self.encoder else { return Ok(None) };
        for (at, bytes) in encoder.corrections() {
            self.destination.overwrite(at, &bytes)?;
        }
        Ok(encoder.note(&self.destination.name))
    }

    /// Whether the outputs go to a file, which never makes its writer wait.
    pub(crate) fn is_regular(&self) -> bool {
        self.destination.is_regular
    }

    /// Whether the outputs appear on the same screen as the progress.
    pub(crate) fn is_on_terminal(&self) -> bool {
        self.destination.is_terminal
    }
}

/// The format of the output, from `--output-format` or from the name of the file.
pub(crate) fn format_of(place: &Place, chosen: Option<OutputFormat>) -> Result<OutputFormat, Failure> {
    if let Some(format) = chosen {
        return Ok(format);
    }
    let Place::File(path) = place else { return Ok(OutputFormat::Jsonl) };
    let Some(extension) = path.extension() else { return Ok(OutputFormat::Jsonl) };
    match extension.to_string_lossy().to_lowercase().as_str() {
        "wav" | "wave" => Ok(OutputFormat::Wav),
        "raw" | "pcm" => Ok(OutputFormat::Raw),
        "jsonl" | "ndjson" | "json" => Ok(OutputFormat::Jsonl),
        "txt" | "text" => Ok(OutputFormat::Text),
        _ => Err(Failure::usage(format!(
            "the name of output '{}' does not tell its format; add --output-format jsonl, text, wav or raw",
            path.display()
        ))),
    }
}

/// Whether two names lead to the same file, which reading and writing at once would destroy.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other && one.is_file(),
        _ => false,
    }
}
