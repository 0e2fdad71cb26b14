//! How a worker becomes one: it meets its parent, and its nodes are made.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::execution::machine::Machine;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::ItemCodec;
use crate::worker::child::control::{ControlRequests, Stops, watch_parent};
use crate::worker::child::late_results::LateResults;
use crate::worker::child::replies::Out;
use crate::worker::child::worker_host::{Notes, WorkerHost};
use crate::worker::child::worker_loop::WorkerLoop;
use crate::worker::protocol::connection::{Link, Received};
use crate::worker::protocol::frame::Wishes;
use crate::worker::protocol::poll::await_readable;
use crate::worker::protocol::status_page::Page;

/// Work for the parent at the other end of a socket, until it says that this is enough.
///
/// # Errors
/// If the parent speaks another language, or is gone.
pub fn serve<P: Payload>(
    socket: OwnedFd,
    codec: &Arc<dyn ItemCodec<P>>,
    worker_host: &mut dyn WorkerHost<P>,
) -> io::Result<()> {
    serve_parent(socket, codec, worker_host).map_err(explained)
}

/// A descriptor that has changed was changed by a node.
fn explained(error: io::Error) -> io::Error {
    use rustix::io::Errno;

    match Errno::from_io_error(&error) {
        Some(Errno::BADF | Errno::NOTSOCK | Errno::NOTCONN | Errno::DESTADDRREQ) => io::Error::new(
            error.kind(),
            "its file descriptors were closed or replaced; a node must close only descriptors that it opened",
        ),
        _ => error,
    }
}

fn serve_parent<P: Payload>(
    socket: OwnedFd,
    codec: &Arc<dyn ItemCodec<P>>,
    worker_host: &mut dyn WorkerHost<P>,
) -> io::Result<()> {
    let link = Arc::new(Link::new(socket));
    // A node may have closed it: it is never closed here, but ends with the process.
    std::mem::forget(Arc::clone(&link));
    let hello = await_frame::<P>(&link)?;
    let mut files = hello.files.into_iter();
    let (Some(control), Some(page)) = (files.next(), files.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message of a parent must contain two files"));
    };
    let wishes: Wishes = serde_json::from_slice(&hello.message.body)?;
    let watched = control.try_clone()?;
    let parent = rustix::process::getppid();
    let late_results = Arc::new(LateResults::new()?);
    let (of_watch, late) = (Arc::clone(&link), Arc::clone(&late_results));
    spawn("parent-watch", move || watch_parent(&watched, parent, &of_watch, &late))?;
    let control = Arc::new(Link::new(control));
    let requests = ControlRequests::new(worker_host.stop_flag())?;
    // What the nodes hold is theirs to change.
    link.keep_files(true);
    let setup = await_frame::<P>(&link)?.message;
    link.keep_files(false);
    let out = Arc::new(Out {
        link: Arc::clone(&link),
        control: Arc::clone(&control),
        codec: Arc::clone(codec),
        requests: Arc::clone(&requests),
        late_results,
        leave_fork: worker_host.leave_fork(),
    });
    let opened = match setup.missing {
        None => worker_host.open(setup, Notes(Arc::clone(&control))),
        Some(bytes) => Err(codec.no_memory(bytes)),
    };
    let (plan, nodes) = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            out.fault(0, 0, Phase::Initialize, &fault);
            return link.flush();
        }
    };
    let (stop_waiting, cancel_wait) = (worker_host.stop_waiting(), worker_host.cancel_wait());
    let stops = Stops { stop_waiting, cancel_wait, cancel_calls: worker_host.cancel_calls() };
    let (listening, control) = (Arc::clone(&requests), Arc::clone(&control));
    spawn("requests", move || P::live(|| listening.listen(&control, &stops)))?;
    let machine = Machine::new(&plan, 0, nodes, worker_host.stop_flag());
    let mut bench = WorkerLoop::new(&plan, machine, Page::open(&page)?, wishes, out);
    if !bench.make_ready()? {
        return Ok(());
    }
    worker_host.be_at_work(true);
    let worked = bench.work();
    worker_host.be_at_work(false);
    worked?;
    bench.clean_up()
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // They live as long as the process.
    std::thread::Builder::new().name(name.to_owned()).spawn(life).map(drop)
}

fn await_frame<P: Payload>(link: &Link) -> io::Result<Received> {
    loop {
        if let Some(received) = link.next()? {
            return Ok(received);
        }
        P::wait(|| await_readable(link, None));
    }
}
