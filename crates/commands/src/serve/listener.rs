//! Accepts connections, and ends them together.

use std::convert::Infallible;
use std::net::{TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tower::Service as _;

use crate::failure::Failure;
use crate::serve::app::App;
use crate::serve::router;
use crate::terminal;

/// The time for the head of a request, and for which a connection may be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Threads for other work that waits than the reading of streams.
const SPARE_THREADS: usize = 64;

/// Connections that wait to be accepted, as long as the system allows.
const BACKLOG: i32 = 1024;

/// Listen on an address, before anything else is begun.
pub(crate) fn bind(host: &str, port: u16) -> Result<TcpListener, Failure> {
    let refused = |error: &std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another program listens there: choose another --port, or 0 for any",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose another --port",
            _ => "",
        };
        Failure::failed(format!("cannot listen on {host}:{port}: {}{hint}", terminal::reason(error)))
    };
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|error| refused(&error))?.collect();
    let listener = TcpListener::bind(&*addresses).map_err(|error| refused(&error))?;
    rustix::net::listen(&listener, BACKLOG).map_err(|error| refused(&error.into()))?;
    listener.set_nonblocking(true).map_err(|error| refused(&error))?;
    Ok(listener)
}

/// The threads that serve.
pub(crate) struct Server {
    runtime: Runtime,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Accept no more connections. Those that are there end after the requests that are in progress.
    pub(crate) fn stop_accepting(&self) {
        self.stop.send_replace(true);
    }

    /// End all connections.
    pub(crate) fn end(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Serve on threads of their own. `gone` is notified when all connections have ended after [`Server::stop_accepting`].
pub(crate) fn start(listener: TcpListener, app: Arc<App>, gone: SyncSender<()>) -> Result<Server, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot serve: {}", terminal::reason(&error)));
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        // Each stream is read on one.
        .max_blocking_threads(app.settings.max_in_flight.saturating_add(SPARE_THREADS))
        .thread_name("remotemedia-http")
        .enable_io()
        .enable_time()
        .build()
        .map_err(failed)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(failed)?
    };
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move {
        accept(listener, router::router(Arc::clone(&app)), stopped).await;
        app.sessions.all_gone().await;
        gone.send(()).ok();
    });
    Ok(Server { runtime, stop })
}

async fn accept(listener: tokio::net::TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    // Every connection holds a sender: the receiver learns when there is none any more.
    let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve_connection(stream, router.clone(), stopped.clone());
                let alive = alive.clone();
                tokio::spawn(async move {
                    serving.await;
                    drop(alive);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop((listener, alive));
    all_gone.recv().await;
}

async fn serve_connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    // Replies are small, and somebody waits for them.
    stream.set_nodelay(true).ok();
    let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        async move {
            Ok::<_, Infallible>(match router.call(request).await {
                Ok(response) => response,
            })
        }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection.with_upgrades());
    // A connection that breaks concerns only its client.
    let is_done = tokio::select! {
        _ = connection.as_mut() => true,
        _ = stopped.wait_for(|is_stopped| *is_stopped) => false,
    };
    if !is_done {
        connection.as_mut().graceful_shutdown();
        connection.await.ok();
    }
}
