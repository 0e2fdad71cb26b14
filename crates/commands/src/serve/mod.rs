//! `serve`: a pipeline on HTTP.
//!
//! Connections and requests are handled on a runtime of their own, on which no node ever runs: items go to a
//! [`Service`](crate::service::Service), which replies from its own threads.

mod access;
mod app;
mod body;
mod listener;
mod metrics;
mod openapi;
mod reply;
mod router;
mod settings;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::cli::ServeOptions;
use crate::failure::{Failure, FailureKind};
use crate::loader::Loader;
use crate::serve::app::App;
use crate::serve::settings::Settings;
use crate::service::Service;
use crate::terminal;

/// How often the main thread looks for signals.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the nodes may take to be cleaned up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serve the target until a signal comes. What is in progress then may end within the grace period; a second signal ends at once.
pub(crate) fn serve(options: &ServeOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let settings = Settings::of(options)?;
    let mut pipeline = loader.load(&options.target)?;
    let listener = listener::bind(&settings.host, options.port)?;
    let address = listener.local_addr().map_err(|error| Failure::failed(terminal::reason(&error)))?;
    let name = pipeline.plan().name().to_owned();
    let description = openapi::document(&name, &settings, pipeline.item_schemas().as_deref());
    let service = pipeline.open()?;

    let app = Arc::new(App::new(Arc::clone(&service), settings, description));
    let (gone, all_gone) = sync_channel(1);
    let server = listener::start(listener, Arc::clone(&app), gone)?;
    terminal::note(&format!("serving '{name}' on http://{address}; Ctrl-C stops it"));
    let stopped = wait_for_signal(loader);
    app.begin_drain();
    server.stop_accepting();
    let deadline = Instant::now() + Duration::from_secs_f64(options.grace);
    let outcome = stopped.and_then(|()| {
        loop {
            match all_gone.recv_timeout(SIGNAL_POLL_INTERVAL) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => loader.check_signals()?,
                Err(RecvTimeoutError::Timeout) => {
                    terminal::note("requests in progress were dropped at the end of the grace period");
                    break Ok(0);
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(0),
            }
        }
    });
    server.end();
    end(&*service, outcome)
}

/// Wait until a signal asks to stop.
fn wait_for_signal(loader: &dyn Loader) -> Result<(), Failure> {
    loop {
        match loader.check_signals() {
            Ok(()) => std::thread::sleep(SIGNAL_POLL_INTERVAL),
            Err(failure) if failure.is_order_to_stop() => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

fn end(service: &dyn Service, outcome: Result<u8, Failure>) -> Result<u8, Failure> {
    // After a second signal nobody waits for nodes.
    let is_hurried = outcome.as_ref().is_err_and(Failure::is_order_to_stop);
    let closed = service.close(if is_hurried { Duration::ZERO } else { CLOSE_TIMEOUT });
    match (outcome, closed) {
        (Err(failure), _) => Err(failure),
        (Ok(_), Err(failure)) if failure.kind != FailureKind::Usage => Err(failure),
        (Ok(code), _) => Ok(code),
    }
}
