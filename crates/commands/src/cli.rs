//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint, value_parser,
};

use crate::draw::GraphFormat;
use crate::failure::Failure;
use crate::input::InputFormat;
use crate::output::OutputFormat;
use crate::sample_format::SampleFormat;
use crate::serve_options::ServeOptions;

/// The name of the standalone program, whose command line has `--python` besides all others.
pub const HOST_PROGRAM: &str = "remotemedia-host";

const PYTHON_OPTION: &str = "python";

/// Run pipelines of Python nodes on files, pipes and audio.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// Show full tracebacks, not only the frames of your own code
    #[arg(long, global = true, display_order = 900)]
    pub(crate) traceback: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pipeline: read items, write outputs
    Run(Box<RunOptions>),
    /// Serve a pipeline on HTTP and WebSocket, with a page to try it
    Serve(Box<ServeOptions>),
    /// Load and validate a pipeline, and show where each node would run
    Check(CheckOptions),
    /// Draw a pipeline
    Graph(GraphOptions),
    /// List the node types that manifests can use, or describe one
    Nodes(NodesOptions),
    /// Show which environment is in use, and any problems with it
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The pipeline: module:attr, path/file.py:attr, or a manifest file; the default attr is 'pipeline'
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    /// Read items from FILE, or from stdin if FILE is -; repeat the option to read several files in order.
    /// Without --input, a source node produces the items, or the pipeline receives one empty item
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) input: Vec<PathBuf>,

    /// Write outputs to FILE, or to stdout if FILE is -
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "-")]
    pub(crate) output: PathBuf,

    /// The format of the input [default: from the extension; text for stdin]
    #[arg(long, value_enum, value_name = "FORMAT", requires = "input")]
    pub(crate) format: Option<InputFormat>,

    /// The format of the output [default: from the extension; jsonl for stdout]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) output_format: Option<OutputFormat>,

    /// Fail if more than COUNT items are skipped or dead-lettered [default: no limit]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_errors: Option<u64>,

    /// Measure the run, and print its metrics to stderr at the end [default: table]
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "table")]
    pub(crate) metrics: Option<MetricsForm>,

    #[command(flatten)]
    pub(crate) audio: AudioOptions,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Audio")]
pub(crate) struct AudioOptions {
    /// The duration of each item of audio input, in milliseconds [default: 20]
    #[arg(long, value_name = "MS", requires = "input", value_parser = value_parser!(u32).range(1..=60_000))]
    pub(crate) chunk_ms: Option<u32>,

    /// The sample rate of raw input, in Hz
    #[arg(long, value_name = "HZ", requires = "input", value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,

    /// The number of channels of raw input [default: 1]
    #[arg(long, value_name = "COUNT", requires = "input", value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) channels: Option<u16>,

    /// The sample format of raw input [default: s16le], and of raw and WAV output [default: f32le]
    #[arg(long, value_enum, value_name = "SAMPLES")]
    pub(crate) sample_format: Option<SampleFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricsForm {
    /// A table
    Table,
    /// JSON on one line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The pipeline: module:attr, path/file.py:attr, or a manifest file; the default attr is 'pipeline'
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    /// Read the metrics of a run or session from FILE, as JSON, and say which placements they suggest in asyncio
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metrics: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GraphOptions {
    /// The pipeline: module:attr, path/file.py:attr, or a manifest file; the default attr is 'pipeline'
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    /// The format of the picture [default: from the extension; text for stdout]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<GraphFormat>,

    /// Write the picture to FILE, or to stdout if FILE is -
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "-")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NodesOptions {
    /// Describe only this node type
    pub(crate) name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a host has to know of its command line before it can start an interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// The Python executable or environment that `--python` names.
    pub python: Option<PathBuf>,
    /// The pipeline that the command is about, if it is about one.
    pub target: Option<String>,
}

impl HostOptions {
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = matches_of(HOST_PROGRAM, arguments)?;
        let python = matches.get_one::<PathBuf>(PYTHON_OPTION).cloned();
        let target = match CommandLine::from_arg_matches(&matches)?.verb {
            Verb::Run(options) => Some(options.target),
            Verb::Serve(options) => Some(options.target),
            Verb::Check(options) => Some(options.target),
            Verb::Graph(options) => Some(options.target),
            Verb::Nodes(_) | Verb::Doctor => None,
        };
        Ok(Self { python, target })
    }
}

impl CommandLine {
    pub(crate) fn read(program: &str, arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&matches_of(program, arguments)?)
    }
}

/// The options of `serve` from their words alone.
pub(crate) fn serve_options(words: Vec<OsString>, target: &str) -> Result<ServeOptions, Failure> {
    let mut arguments = vec![OsString::from("serve")];
    arguments.extend(words);
    arguments.extend(["--".into(), target.into()]);
    let line = CommandLine::read(HOST_PROGRAM, arguments).map_err(|error| {
        // After it, clap explains the command line, which there is none of.
        let text = error.to_string();
        Failure::usage(text.lines().next().unwrap_or_default().trim_start_matches("error: "))
    })?;
    match line.verb {
        Verb::Serve(options) => Ok(*options),
        _ => Err(Failure::usage("these are not options of serve")),
    }
}

fn matches_of(program: &str, arguments: Vec<OsString>) -> Result<clap::ArgMatches, clap::Error> {
    let is_run = arguments.iter().any(|argument| argument == "run");
    let matches = command(program).no_binary_name(true).try_get_matches_from(arguments);
    matches.map_err(|error| if is_run { with_tip_for_input(error) } else { error })
}

/// A file after the target is most likely meant to be read.
fn with_tip_for_input(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && error.kind() == ErrorKind::UnknownArgument
        && !word.starts_with('-')
    {
        let tip = format!("to read items from this file, use '--input {word}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The whole command line, as `program` has it.
fn command(program: &str) -> Command {
    let examples = |text: &str| text.replace("PROGRAM", program);
    let mut command = CommandLine::command()
        .name(program.to_owned())
        .bin_name(program.to_owned())
        .after_help(examples(EXAMPLES))
        .mut_subcommand("run", |run| run.after_help(examples(RUN_EXAMPLES)))
        .mut_subcommand("serve", |serve| serve.after_help(examples(SERVE_EXAMPLES)))
        .mut_subcommand("check", |check| check.after_help(examples(CHECK_EXAMPLES)))
        .mut_subcommand("graph", |graph| graph.after_help(examples(GRAPH_EXAMPLES)))
        .mut_subcommand("nodes", |nodes| nodes.after_help(examples(NODES_EXAMPLES)));
    if program == HOST_PROGRAM {
        command = command.arg(
            Arg::new(PYTHON_OPTION)
                .long(PYTHON_OPTION)
                .value_name("PATH")
                .help("Use this Python or virtual environment instead of the active one or the .venv near the target")
                .value_hint(ValueHint::AnyPath)
                .value_parser(value_parser!(PathBuf))
                .global(true)
                .display_order(899),
        );
    }
    command
}

const EXAMPLES: &str = "\
Examples:
  PROGRAM run voice.py:pipeline --input speech.wav
  tail -f app.log | PROGRAM run filters:errors --input -
  PROGRAM check pipeline.yaml
  PROGRAM graph voice.py:pipeline --format svg --output voice.svg

Exit codes: 0 success, 1 the pipeline failed, 2 invalid usage, 130 interrupted, 143 terminated.";

const SERVE_EXAMPLES: &str = "\
Examples:
  Serve a pipeline for programs of this machine, and send it an item:
    PROGRAM serve voice.py:pipeline
    curl http://127.0.0.1:8000/call --header 'Content-Type: audio/wav' --data-binary @speech.wav

  Let other machines use it, with a token:
    openssl rand -hex 32 > token
    PROGRAM serve voice.py:pipeline --host 0.0.0.0 --token-file token

Paths: / (a page), POST /call, POST /stream, GET /session (WebSocket), /status, /metrics, /openapi.json, /healthz, /readyz.";

const RUN_EXAMPLES: &str = "\
Examples:
  Read a recording, and write JSON lines:
    PROGRAM run voice.py:pipeline --input speech.wav

  Read lines from a pipe that never ends:
    tail -f app.log | PROGRAM run filters:errors --input - --output-format text

  Write JSON lines to a file, and print the time of each node:
    PROGRAM run scores.py:pipeline --input items.jsonl --output scored.jsonl --metrics

  Decode any media file, and write audio:
    ffmpeg -i talk.mp3 -f wav - | PROGRAM run denoise.py:nodes --input - --format wav --output clean.wav

  Read raw samples from a microphone:
    arecord -t raw -f S16_LE -r 16000 | PROGRAM run voice.py:pipeline -i - --format raw --rate 16000

Formats by extension: .wav; .raw .pcm; .jsonl .ndjson .json; .txt. By default, stdin is text and stdout is JSON lines.";

const CHECK_EXAMPLES: &str = "\
Examples:
  PROGRAM check voice.py:pipeline
  PROGRAM check pipeline.yaml

Exit codes: 0 the pipeline can run, 1 it cannot.";

const GRAPH_EXAMPLES: &str = "\
Examples:
  PROGRAM graph voice.py:pipeline
  PROGRAM graph voice.py:pipeline --output voice.svg
  PROGRAM graph pipeline.yaml --format dot | dot -Tpdf > pipeline.pdf

Formats by extension: .svg; .dot .gv; .mmd .mermaid; .txt.";

const NODES_EXAMPLES: &str = "\
Examples:
  PROGRAM nodes
  PROGRAM nodes CalculatorNode
  PROGRAM nodes --json | jq -r '.[].name'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command(HOST_PROGRAM).debug_assert();
        command("remotemedia").debug_assert();
    }

    #[test]
    fn a_host_learns_its_python_and_target_wherever_they_stand() {
        let read = |line: &str| HostOptions::read(line.split(' ').map(OsString::from).collect()).unwrap();

        let expected = HostOptions { python: Some("/venv".into()), target: Some("a.py:p".into()) };
        assert_eq!(read("--python /venv check a.py:p"), expected);
        assert_eq!(read("run a.py:p --metrics --python=/venv -i -"), expected);
        assert_eq!(read("doctor"), HostOptions::default());
    }

    #[test]
    fn a_file_after_the_target_gets_a_hint_how_to_be_read() {
        let line = ["run", "app.py:pipeline", "speech.wav"].map(OsString::from).to_vec();

        let error = CommandLine::read("remotemedia", line).unwrap_err();

        assert!(error.to_string().contains("tip: to read items from this file, use '--input speech.wav'"), "{error}");
    }

    #[test]
    fn only_the_host_has_a_python_option() {
        let line = || vec!["doctor".into(), "--python".into(), "x".into()];

        assert!(CommandLine::read(HOST_PROGRAM, line()).is_ok());
        assert!(CommandLine::read("remotemedia", line()).is_err());
    }
}
