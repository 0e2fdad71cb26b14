//! Accepts connections, and ends them together.

use std::convert::Infallible;
use std::future::ready;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::unconstrained;
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;
use crate::serve::app::App;
use crate::serve::connections::connection::Placed;
use crate::serve::connections::{connection, descriptors};
use crate::serve::router;
use crate::terminal;

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
    let here = Arc::clone(&app);
    runtime.spawn(async move {
        if let Some(tracer) = &here.tracer {
            tracer.run(&here.log).await;
        }
    });
    runtime.spawn(async move {
        accept_all(listener, &app, stopped).await;
        app.sessions.all_gone().await;
        if let Some(tracer) = &app.tracer {
            tracer.finish().await;
        }
        gone.send(()).ok();
    });
    Ok(Server { runtime, stop })
}

async fn accept_all(listener: tokio::net::TcpListener, app: &Arc<App>, mut stopped: watch::Receiver<bool>) {
    let acceptor = Acceptor { listener, room: Arc::new(Semaphore::new(descriptors::room_for_connections())) };
    // Every connection holds a sender: the receiver learns when there is none any more.
    let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
    let tls = app.settings.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
    let connections = Connections { router: router::router(Arc::clone(app)), tls, stopped: stopped.clone(), alive };
    // Begun once: its time does not start anew with each connection.
    let mut stop = pin!(connection::stop(&mut stopped));
    loop {
        tokio::select! {
            (stream, peer, place) = acceptor.accept() => connections.start(stream, peer, place),
            () = &mut stop => break,
        }
    }
    // Those that wait in the queue connected before; more than it holds have not.
    for _ in 0..BACKLOG {
        tokio::select! {
            biased;
            (stream, peer, place) = unconstrained(acceptor.accept()) => connections.start(stream, peer, place),
            () = ready(()) => break,
        }
    }
    drop((acceptor, connections));
    all_gone.recv().await;
}

/// Accepts as many connections as the process has descriptors for; the others wait in the queue of the system.
struct Acceptor {
    listener: tokio::net::TcpListener,
    room: Arc<Semaphore>,
}

impl Acceptor {
    async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let place = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                // Other parts of the program may have used the descriptors up.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// What the connections have in common.
struct Connections {
    router: Router,
    tls: Option<TlsAcceptor>,
    stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
}

impl Connections {
    /// Serve a connection on a task of its own: nothing that its client does, or leaves undone, holds the others up.
    fn start(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Replies are small, and somebody waits for them.
        stream.set_nodelay(true).ok();
        let (router, tls, mut stopped) = (self.router.clone(), self.tls.clone(), self.stopped.clone());
        let (stream, alive) = (Placed::new(stream, place), self.alive.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else {
                connection::serve(stream, peer, router, stopped).await;
                return drop(alive);
            };
            let shaken = tokio::select! {
                shaken = connection::shake_hands(&tls, stream) => shaken,
                // No request is in progress yet.
                () = connection::stop(&mut stopped) => None,
            };
            if let Some(stream) = shaken {
                connection::serve(stream, peer, router, stopped).await;
            }
            drop(alive);
        });
    }
}
