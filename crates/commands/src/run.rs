//! `run`: items in, outputs out.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Metrics, Value};

use crate::cli::{AudioOptions, MetricsForm, RunOptions};
use crate::failure::Failure;
use crate::input::{self, InputFeed, InputFormat, Layout, Place, Source};
use crate::loader::{ItemFeed, LoadedPipeline, Loader, RunResult, RunSettings};
use crate::output::{self, FileId, Output, OutputFormat, Stuck, write_all};
use crate::progress::Progress;
use crate::sample_format::SampleFormat;
use crate::{descriptor, failed_items, metrics_table, terminal};

const DEFAULT_CHUNK_MS: u32 = 20;

/// Run the target once.
pub(crate) fn run(options: &RunOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let output_place = Place::of(&options.output);
    let output_format = output::format_of(&output_place, options.output_format)?;
    output::refuse_overwriting_target(&output_place, &options.target)?;
    let sources = sources(options, &output_place)?;
    refuse_idle_options(&options.audio, &sources, output_format)?;

    let mut pipeline = loader.load(&options.target)?;
    let sample_format = options.audio.sample_format.unwrap_or(SampleFormat::F32le);
    let output = Arc::new(Mutex::new(Output::open(&output_place, output_format, sample_format, loader)?));
    let total_bytes = sources.iter().map(Source::known_bytes).sum();
    let given = Given::of(&sources, options);
    let is_typed = sources.iter().any(|source| source.place == Place::Stdin) && io::stdin().is_terminal();
    if is_typed {
        terminal::note("reading items from the terminal; Ctrl-D ends the input");
    }
    let mut feed = start_feed(sources, &output)?;
    // Its line would run over what is being typed.
    let progress = if is_typed {
        Progress::hidden()
    } else {
        Progress::start(feed.as_ref().map(InputFeed::progress), total_bytes)
    };

    let is_on_terminal = output.lock().destination.is_terminal;
    let mut take_output = |value: Value| {
        output.lock().add(&value)?;
        progress.count_output();
        if is_on_terminal {
            return progress.aside(|| write_all(loader, || output.lock().destination.write_due()));
        }
        write_all(loader, || output.lock().destination.write_due())
    };
    let settings = RunSettings { with_metrics: options.metrics.is_some(), max_errors: options.max_errors };
    let items = feed.as_mut().map(|feed| feed as &mut dyn ItemFeed);
    let RunResult { outcome: ran, failed_items } = pipeline.run(items, &mut take_output, settings);
    if let Some(feed) = feed.as_mut().filter(|_| ran.is_ok()) {
        feed.note_done(u64::MAX);
    }
    progress.finish(ran.is_ok());
    if let Some(text) = failed_items::summary(&failed_items) {
        terminal::note(&text);
    }
    let ran = ran.map_err(|failure| hint_at_items(failure, &given));
    let ran = ran.map_err(|failure| failed_items::explain_limit(failure, &failed_items, options.max_errors));
    let (metrics, note) =
        complete(ran, &output, loader).map_err(|failure| match output.lock().destination.partial() {
            Some(text) => failure.and(&text),
            None => failure,
        })?;
    if let Some(text) = note {
        terminal::note(&text);
    }
    show(options.metrics, metrics.as_ref(), &*pipeline)?;
    Ok(0)
}

fn sources(options: &RunOptions, output: &Place) -> Result<Vec<Source>, Failure> {
    if options.input.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::usage("stdin (--input -) can be read only once"));
    }
    let sources: Vec<Source> = options.input.iter().map(|path| source(path, options)).collect::<Result<_, _>>()?;
    let output = FileId::at(output, descriptor::stdout);
    for source in &sources {
        source.check()?;
        if output.is_some() && FileId::at(&source.place, descriptor::stdin) == output {
            return Err(Failure::usage(format!(
                "'{}' is both input and output; write to another file, and rename it after the run",
                source.place.name()
            )));
        }
    }
    Ok(sources)
}

fn source(path: &Path, options: &RunOptions) -> Result<Source, Failure> {
    let place = Place::of(path);
    let format = input::format_of(&place, options.format)?;
    let audio = &options.audio;
    if format == InputFormat::Raw && audio.rate.is_none() {
        return Err(Failure::usage(format!(
            "raw audio does not contain its sample rate; add --rate, such as --rate 16000, for {}",
            place.name()
        )));
    }
    let layout = Layout {
        rate: audio.rate.unwrap_or(1),
        channels: audio.channels.unwrap_or(1),
        sample_format: audio.sample_format.unwrap_or(SampleFormat::S16le),
    };
    Ok(Source { place, format, layout, chunk_ms: audio.chunk_ms.unwrap_or(DEFAULT_CHUNK_MS) })
}

/// An option that changes nothing was meant to change something.
fn refuse_idle_options(audio: &AudioOptions, sources: &[Source], output: OutputFormat) -> Result<(), Failure> {
    let has_raw_input = sources.iter().any(|source| source.format == InputFormat::Raw);
    let has_audio_input = has_raw_input || sources.iter().any(|source| source.format == InputFormat::Wav);
    let has_audio_output = matches!(output, OutputFormat::Wav | OutputFormat::Raw);
    let idle = if audio.rate.is_some() && !has_raw_input {
        Some("--rate applies only to raw input; add --format raw if the input is raw")
    } else if audio.channels.is_some() && !has_raw_input {
        Some("--channels applies only to raw input; add --format raw if the input is raw")
    } else if audio.chunk_ms.is_some() && !has_audio_input {
        Some("--chunk-ms applies only to audio input; add --format wav or raw if the input is audio")
    } else if audio.sample_format.is_some() && !has_raw_input && !has_audio_output {
        Some("--sample-format applies only to raw input and audio output")
    } else {
        None
    };
    idle.map_or(Ok(()), |text| Err(Failure::usage(text)))
}

fn start_feed(sources: Vec<Source>, output: &Arc<Mutex<Output>>) -> Result<Option<InputFeed>, Failure> {
    if sources.is_empty() {
        return Ok(None);
    }
    let output = Arc::clone(output);
    // What a file still lacks is written while there is nothing else to do, so that it can be watched.
    let on_idle = Box::new(move || match output.lock().destination.write_out() {
        Ok(()) | Err(Stuck::Signal) => Ok(()),
        Err(Stuck::Failed(failure)) => Err(failure),
    });
    InputFeed::start(sources, on_idle).map(Some)
}

/// Write the rest of a run that has ended, and let the file appear if all went well; returns what the user should know about it.
fn complete<T>(
    ran: Result<T, Failure>,
    output: &Mutex<Output>,
    loader: &dyn Loader,
) -> Result<(T, Option<String>), Failure> {
    let finished = match &ran {
        // The reader of a pipe may be what the run waited for when it was asked to stop; a file takes all at once.
        Err(failure) if failure.is_order_to_stop() && !output.lock().destination.is_regular() => Ok(None),
        _ => write_all(loader, || output.lock().destination.write_out()).and_then(|()| output.lock().finish()),
    };
    match (ran, finished) {
        // The user's code has ended the run, and says that all is well.
        (Err(failure), Ok(_)) if failure.kind.exit_code() == 0 => output.lock().destination.commit().and(Err(failure)),
        // Why the run failed says more than what became of its output.
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
        (Ok(ran), Ok(note)) => output.lock().destination.commit().map(|()| (ran, note)),
    }
}

/// What the nodes received, if the user has not chosen it.
enum Given {
    Nothing,
    TextLines,
    AsChosen,
}

impl Given {
    fn of(sources: &[Source], options: &RunOptions) -> Self {
        if sources.is_empty() {
            Self::Nothing
        } else if options.format.is_none() && sources.iter().any(|source| source.format == InputFormat::Text) {
            Self::TextLines
        } else {
            Self::AsChosen
        }
    }
}

/// A node that complains about the type of its item may have been meant to get another one.
fn hint_at_items(failure: Failure, given: &Given) -> Failure {
    let (types, hint): (&[&str], _) = match given {
        Given::Nothing => (
            &["NoneType", "None", "str", "string"],
            "Without --input, the pipeline received one empty item; use --input FILE to read items",
        ),
        Given::TextLines => {
            (&["str", "string"], "The items were lines of text; use --format jsonl to read each line as a JSON value")
        }
        Given::AsChosen => return failure,
    };
    let is_about_types = ["TypeError: ", "AttributeError: "].iter().any(|kind| failure.message.contains(kind));
    let is_word_character = |character: char| character.is_alphanumeric() || character == '_';
    let mut words = failure.message.split(|character| !is_word_character(character));
    if is_about_types && words.any(|word| types.contains(&word)) {
        return failure.and(hint);
    }
    failure
}

fn show(form: Option<MetricsForm>, metrics: Option<&Metrics>, pipeline: &dyn LoadedPipeline) -> Result<(), Failure> {
    if let (Some(form), Some(metrics)) = (form, metrics) {
        let advice = pipeline.advice(&metrics_table::json(metrics))?;
        terminal::note(metrics_table::shown(metrics, &advice, form).trim_end());
    }
    Ok(())
}
