//! Starts a process within a time limit: the system may block the caller for any time where the program is
//! on a disk that does not respond, or is stopped before it begins.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Signal};

use crate::worker::parent::process::Process;
use crate::worker::protocol::poll::POLL_INTERVAL;

/// Start a program as [`Process::start`] does, unless it has not begun while that `is_wanted`. Then it is ended.
pub(crate) fn launch(
    program: OsString,
    arguments: Vec<OsString>,
    socket: OwnedFd,
    is_wanted: impl Fn() -> bool,
) -> io::Result<Process> {
    let (sender, receiver) = sync_channel(1);
    let starter: Arc<OnceLock<Pid>> = Arc::default();
    let here = Arc::clone(&starter);
    std::thread::Builder::new().name("worker-start".to_owned()).spawn(move || {
        here.set(rustix::thread::gettid()).ok();
        // A process that is no longer waited for is dropped, which ends it.
        sender.send(Process::start(&program, &arguments, socket)).ok();
    })?;
    while is_wanted() {
        if let Ok(started) = receiver.recv_timeout(POLL_INTERVAL) {
            return started;
        }
    }
    if let Some(&starter) = starter.get() {
        end_children_of(starter);
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// End what a thread of this process is about to start, as far as the system knows it.
fn end_children_of(thread: Pid) {
    let children = std::fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)) {
        rustix::process::kill_process(child, Signal::KILL).ok();
    }
}
