//! The outputs of a run, as lines or audio, to a file or a pipe.

mod audio;
mod destination;
mod file_id;
pub(crate) mod json;
mod replacement;

use clap::ValueEnum;
use remotemedia_runtime::Value;

use crate::descriptor;
use crate::failure::Failure;
use crate::input::{Place, is_other_media};
use crate::loader::Loader;
use crate::sample_format::SampleFormat;

use audio::AudioEncoder;
use destination::Destination;
pub(crate) use destination::Stuck;
pub(crate) use file_id::FileId;

/// What outputs are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// JSON lines; one value per line
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
    /// Text as it is, and other values as JSON; one per line
    #[value(alias = "txt", alias = "lines")]
    Text,
    /// A WAV file
    Wav,
    /// Raw audio samples, and bytes as they are
    #[value(alias = "pcm")]
    Raw,
}

/// Takes the outputs of a run, one by one.
pub(crate) struct Output {
    encoder: Encoder,
    pub(crate) destination: Destination,
    count: u64,
}

enum Encoder {
    Jsonl,
    Text,
    Audio(AudioEncoder),
}

impl Output {
    /// Open `place` for writing. A file keeps what it holds until [`Destination::commit`].
    pub(crate) fn open(
        place: &Place,
        format: OutputFormat,
        sample_format: SampleFormat,
        loader: &dyn Loader,
    ) -> Result<Self, Failure> {
        let encoder = match format {
            OutputFormat::Jsonl => Encoder::Jsonl,
            OutputFormat::Text => Encoder::Text,
            OutputFormat::Wav => Encoder::Audio(AudioEncoder::wav(sample_format)),
            OutputFormat::Raw => Encoder::Audio(AudioEncoder::raw(sample_format)),
        };
        Ok(Self { encoder, destination: Destination::open(place, loader)?, count: 0 })
    }

    /// Add one output to what is to be written. Nothing is written yet: see [`Destination::write_due`].
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

    /// Complete the output, after everything was drained; returns a note for the user, if there is one.
    pub(crate) fn finish(&mut self) -> Result<Option<String>, Failure> {
        let Encoder::Audio(encoder) = &self.encoder else { return Ok(None) };
        for (at, bytes) in encoder.corrections() {
            self.destination.overwrite(at, &bytes)?;
        }
        Ok(encoder.note(&self.destination.name))
    }
}

/// Write `content` to `place`, whole or not at all.
pub(crate) fn write_whole(place: &Place, content: &str, loader: &dyn Loader) -> Result<(), Failure> {
    let mut destination = Destination::open(place, loader)?;
    destination.buffer.extend_from_slice(content.as_bytes());
    write_all(loader, || destination.write_out())?;
    destination.commit()
}

/// Call `write` until it has written all, and look at signals in between.
pub(crate) fn write_all(loader: &dyn Loader, mut write: impl FnMut() -> Result<(), Stuck>) -> Result<(), Failure> {
    loop {
        match write() {
            Ok(()) => return Ok(()),
            Err(Stuck::Signal) => loader.check_signals()?,
            Err(Stuck::Failed(failure)) => return Err(failure),
        }
    }
}

/// Refuse to write over what is about to be loaded.
pub(crate) fn refuse_overwriting_target(place: &Place, target: &str) -> Result<(), Failure> {
    let Some(output) = FileId::at(place, descriptor::stdout) else { return Ok(()) };
    let path = target.rsplit_once(':').map_or(target, |(path, _)| path);
    let is_target = |path: &str| FileId::at(&Place::File(path.into()), descriptor::stdin) == Some(output);
    if is_target(target) || is_target(path) {
        return Err(Failure::usage(format!("'{path}' is both TARGET and output; name another output")));
    }
    Ok(())
}

/// The format of the output, from `--output-format` or from the name of the file: JSON lines where the name does not say.
pub(crate) fn format_of(place: &Place, chosen: Option<OutputFormat>) -> Result<OutputFormat, Failure> {
    if let Some(format) = chosen {
        return Ok(format);
    }
    let Place::File(path) = place else { return Ok(OutputFormat::Jsonl) };
    match place.extension().as_deref() {
        Some("wav" | "wave") => Ok(OutputFormat::Wav),
        Some("raw" | "pcm") => Ok(OutputFormat::Raw),
        Some("txt" | "text") => Ok(OutputFormat::Text),
        Some(extension) if is_other_media(extension) => {
            let name = path.display();
            Err(Failure::usage(format!(
                "output '{name}' is compressed or in another media format; encode it after it is written:\n  \
                 … --output-format wav | ffmpeg -i - '{name}'"
            )))
        }
        _ => Ok(OutputFormat::Jsonl),
    }
}
