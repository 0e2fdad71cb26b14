//! `serve`: a pipeline on HTTP and WebSocket.
//!
//! Connections and requests are handled on a runtime of their own, on which no node ever runs: items go to a
//! [`Service`](crate::service::Service), which replies from its own threads.

mod app;
mod connections;
mod host;
mod observing;
mod openapi;
mod requests;
mod router;
mod sessions;
mod settings;
mod tracing;
mod websocket;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

pub use host::ServeHost;

use crate::cli;
use crate::failure::{Failure, FailureKind};
use crate::loader::{LoadedPipeline, Loader};
use crate::serve::app::App;
use crate::serve::connections::{descriptors, listener};
use crate::serve::host::CommandHost;
use crate::serve::observing::log::Log;
use crate::serve::observing::log_line::NoteKind;
use crate::serve::sessions::Sessions;
use crate::serve::settings::Settings;
use crate::serve_options::ServeOptions;
use crate::service::ServiceMaker;
use crate::terminal;

/// How often the thread that serves asks whether to stop.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the nodes may take to be cleaned up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serve the target until a signal comes. What is in progress then may end within the grace period; a second signal ends at once.
pub(crate) fn serve(options: &ServeOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let settings = Settings::of(options)?;
    let mut pipeline = loader.load(&options.target)?;
    serve_until_stopped(options, settings, &mut *pipeline, &CommandHost(loader))?;
    Ok(0)
}

/// Serve a pipeline that a program has loaded, until it says to stop, as the command does.
///
/// `words` are those of the command line after the target, each option with its value, such as `--port=0`. The second order to stop is
/// returned as the failure that [`ServeHost::check_stop`] has returned.
pub fn serve_pipeline(
    words: Vec<OsString>,
    pipeline: &mut dyn LoadedPipeline,
    host: &dyn ServeHost,
) -> Result<(), Failure> {
    let options = cli::serve_options(words, pipeline.plan().name())?;
    let settings = Settings::of(&options)?;
    serve_until_stopped(&options, settings, pipeline, host)
}

fn serve_until_stopped(
    options: &ServeOptions,
    settings: Settings,
    pipeline: &mut dyn LoadedPipeline,
    host: &dyn ServeHost,
) -> Result<(), Failure> {
    let listener = listener::bind(&settings.host, options.port)?;
    let address = listener.local_addr().map_err(|error| Failure::failed(terminal::reason(&error)))?;
    let name = pipeline.plan().name().to_owned();
    let description = openapi::document(&name, &settings, pipeline.item_schemas().as_deref());
    let maker = pipeline.service_maker()?;
    let has_own_nodes = own_nodes(options, &*maker)?;
    let mut sessions = Sessions::new(pipeline.open(settings.collector.is_some())?, settings.max_sessions);
    if has_own_nodes {
        sessions = sessions.with_own_nodes(maker, options.warm, || host.check_stop())?;
    }

    descriptors::raise_limit();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let log = Log::start(options.log.log_format)?;
    if let Some(warning) = settings.tls.as_ref().and_then(|tls| tls.warning.as_ref()) {
        note(host, &log, NoteKind::Warning, warning);
    }
    let app = Arc::new(App::new(sessions, pipeline.plan().clone(), settings, log, description));
    let (gone, all_gone) = sync_channel(1);
    let server = listener::start(listener, Arc::clone(&app), gone)?;
    let url = format!("{scheme}://{address}");
    note(host, &app.log, NoteKind::Start, &format!("serving '{name}' on {url}; Ctrl-C stops it"));
    host.ready(&url);
    let stopped = wait_for_stop(host);
    let text = format!("stopping; requests in progress have {} s to end", options.grace);
    note(host, &app.log, NoteKind::Stop, &text);
    app.begin_drain();
    server.stop_accepting();
    let deadline = Instant::now() + Duration::from_secs_f64(options.grace);
    let outcome = stopped.and_then(|()| {
        loop {
            match all_gone.recv_timeout(STOP_POLL_INTERVAL) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => host.check_stop()?,
                Err(RecvTimeoutError::Timeout) => {
                    let text = "requests in progress were dropped at the end of the grace period";
                    note(host, &app.log, NoteKind::Warning, text);
                    break Ok(());
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        }
    });
    server.end();
    let outcome = end(&app.sessions, outcome);
    app.log.close();
    outcome
}

/// Let people know something: by the program, or on stderr.
fn note(host: &dyn ServeHost, log: &Log, kind: NoteKind, text: &str) {
    if !host.shows(kind == NoteKind::Warning, text) {
        log.note(kind, text);
    }
}

/// Wait until the program asks to stop.
fn wait_for_stop(host: &dyn ServeHost) -> Result<(), Failure> {
    loop {
        match host.check_stop() {
            Ok(()) => std::thread::sleep(STOP_POLL_INTERVAL),
            Err(failure) if failure.is_order_to_stop() => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether each WebSocket gets nodes of its own.
fn own_nodes(options: &ServeOptions, maker: &dyn ServiceMaker) -> Result<bool, Failure> {
    if maker.has_own_nodes() {
        return Ok(true);
    }
    let option = if options.session_per_connection {
        "--session-per-connection"
    } else if options.warm > 0 {
        "--warm"
    } else {
        return Ok(false);
    };
    Err(Failure::usage(format!(
        "{option} needs nodes that can be made for each connection, and all nodes of '{}' are objects; \
         give a class, or a function that returns a node",
        options.target
    )))
}

fn end(sessions: &Sessions, outcome: Result<(), Failure>) -> Result<(), Failure> {
    // After a second order to stop, nobody waits for nodes.
    let is_hurried = outcome.as_ref().is_err_and(Failure::is_order_to_stop);
    let closed = sessions.close(if is_hurried { Duration::ZERO } else { CLOSE_TIMEOUT });
    match (outcome, closed) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Err(failure)) if failure.kind != FailureKind::Usage => Err(failure),
        (Ok(()), _) => Ok(()),
    }
}
