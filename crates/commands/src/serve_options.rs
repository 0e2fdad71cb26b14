//! The options of `serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The pipeline: module:attr, path/file.py:attr, or a manifest file; the default attr is 'pipeline'
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    /// Listen on this address or name
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Listen on this port; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) port: u16,

    /// After a signal to stop, let requests in progress end for this time, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 30.0, value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) grace: f64,

    /// Give each WebSocket nodes of its own. This is the default where a node is given as a class or a function that returns it
    #[arg(long)]
    pub(crate) session_per_connection: bool,

    /// Keep nodes for COUNT WebSockets initialized in advance, if each has nodes of its own
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) warm: usize,

    #[command(flatten)]
    pub(crate) limits: LoadOptions,

    #[command(flatten)]
    pub(crate) access: AccessOptions,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    #[command(flatten)]
    pub(crate) log: LogOptions,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadOptions {
    /// Refuse calls while as many are in progress, with status 503
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = at_least_one)]
    pub(crate) max_in_flight: usize,

    /// Refuse WebSockets while as many are open, with status 503
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = at_least_one)]
    pub(crate) max_sessions: usize,

    /// Refuse bodies and messages of more bytes, with status 413
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = at_least_one)]
    pub(crate) max_body: usize,

    /// Give a call up after this time, in seconds, with status 504
    #[arg(long, value_name = "SECS", default_value_t = 60.0, value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) request_timeout: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessOptions {
    /// Require the token in FILE, as 'Authorization: Bearer TOKEN'
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,

    /// Let other machines use the pipeline without a token
    #[arg(long)]
    pub(crate) insecure: bool,

    // Not a comment of documentation, in which an address would have to be in brackets.
    #[arg(
        long,
        value_name = "ORIGIN",
        help = "Let pages of ORIGIN use the pipeline, such as https://app.example; repeat the option for several. \
                '*' stands for all, and needs a token"
    )]
    pub(crate) cors_origin: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// Serve HTTPS with the certificate in FILE, and those of its issuers after it, as PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs and traces")]
pub(crate) struct LogOptions {
    /// Write a line to stderr for each request, too, not only for errors, as text or as JSON
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    #[arg(
        long,
        value_name = "URL",
        help = "Send a span for each request and node to the OpenTelemetry collector at URL, such as http://localhost:4318"
    )]
    pub(crate) otlp: Option<String>,
}

/// A time that a clock can wait for.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=31_536_000.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number of seconds from 0 to 31536000".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(count) if count >= 1 => Ok(count as usize),
        _ => Err(format!("it must be a whole number from 1 to {}", u32::MAX)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text
    Text,
    /// A JSON object
    Json,
}
