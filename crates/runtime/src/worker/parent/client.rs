//! A stage in another process, as its session sees it: what was sent, which replies receive the results, and which thread reads them.
//!
//! *Invariant:* a job is kept in `pending` until its result is complete; then its reply receives the result exactly once.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::locks::{Condvar, Mutex, MutexGuard};
use rustix::event::EventfdFlags;

use crate::node::{Outputs, StepObserver, Stream};
use crate::payload::Payload;
use crate::worker::parent::connection::{Connection, Job, Written};
use crate::worker::parent::counters::Counters;
use crate::worker::parent::jobs::{Jobs, Pending, Reply};
use crate::worker::parent::snapshots::Snapshots;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::{ItemCodec, WorkerExit, WorkerSpec};

/// A job, the index of its item if it is known, and the reply that receives the result.
pub(crate) type Begun<P> = (Job<P>, Option<u64>, Reply<P>);

/// Where the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Unborn,
    /// Started, or about to be started again.
    Starting,
    Up,
    /// No other takes its place.
    Failed,
    Ended,
}

/// Which thread reads the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Nobody,
    Supervisor,
    Direct,
}

pub(crate) struct State<P: Payload> {
    pub(crate) life: Life,
    pub(crate) connection: Option<Arc<Connection>>,
    pub(crate) pending: Jobs<P>,
    pub(crate) next_number: u64,
    pub(crate) reader: Reader,
    pub(crate) direct_result: Option<Result<Outputs<P>, P::Fault>>,
    /// Interruptions that were requested, and those that the worker has handled.
    pub(crate) interruptions: (u64, u64),
    /// What the nodes failed with, in `initialize` or in `cleanup`.
    pub(crate) faults: Vec<Option<P::Fault>>,
    pub(crate) exit: Option<WorkerExit>,
    pub(crate) is_closing: bool,
    /// What the worker is at when it closes need not come to its end.
    pub(crate) must_cancel_calls: bool,
    pub(crate) end_by: Option<Instant>,
    /// The start was cancelled: what the worker does when it is ended need not be reported.
    pub(crate) is_start_cancelled: bool,
    /// What a new worker needs to be where the old one was.
    pub(crate) kept: Snapshots<P>,
}

/// What the nodes of a stage and the supervisor of its worker share.
pub(crate) struct Remote<P: Payload> {
    pub(crate) spec: WorkerSpec<P>,
    pub(crate) codec: Arc<dyn ItemCodec<P>>,
    pub(crate) counters: Counters,
    state: Mutex<State<P>>,
    pub(crate) changed: Condvar,
    /// Wakes the supervisor, as long as it lives: a session that has closed holds no file.
    wake: Mutex<Option<Arc<OwnedFd>>>,
    pub(crate) are_waits_short: AtomicBool,
    /// Receives how long the nodes took.
    pub(crate) step_observer: OnceLock<StepObserver>,
}

impl<P: Payload> Remote<P> {
    pub(crate) fn new(spec: WorkerSpec<P>, codec: Arc<dyn ItemCodec<P>>) -> io::Result<Self> {
        let state = State {
            life: Life::Unborn,
            connection: None,
            pending: Jobs::new(),
            next_number: 1,
            reader: Reader::Nobody,
            direct_result: None,
            interruptions: (0, 0),
            faults: spec.node_ids.iter().map(|_| None).collect(),
            exit: None,
            is_closing: false,
            must_cancel_calls: false,
            end_by: None,
            is_start_cancelled: false,
            kept: Snapshots::new(),
        };
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            spec,
            codec,
            counters: Counters::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            wake: Mutex::new(Some(Arc::new(wake))),
            are_waits_short: AtomicBool::new(false),
            step_observer: OnceLock::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock()
    }

    /// The current time, if metrics are collected.
    pub(crate) fn now_for_metrics(&self) -> Option<Instant> {
        self.spec.with_metrics.then(Instant::now)
    }

    /// Let the supervisor look at what has changed.
    pub(crate) fn wake_supervisor(&self) {
        if let Some(wake) = self.wake() {
            // A counter that is full wakes it as well.
            rustix::io::write(&wake, &1_u64.to_ne_bytes()).ok();
        }
    }

    /// What becomes readable when the supervisor should look.
    pub(crate) fn wake(&self) -> Option<Arc<OwnedFd>> {
        self.wake.lock().clone()
    }

    /// The supervisor has ended.
    pub(crate) fn forget_supervisor(&self) {
        self.wake.lock().take();
    }

    /// Begin with jobs; each reply is sent when its job is done. Never waits for the worker. Returns the numbers of each job, for
    /// [`Remote::drop_jobs`]; none for one that was not begun.
    pub(crate) fn begin(&self, jobs: impl IntoIterator<Item = Begun<P>>) -> Vec<Range<u64>> {
        let mut jobs: Vec<_> = jobs.into_iter().map(|(job, index, reply)| (Arc::new(job), index, reply)).collect();
        loop {
            let connection = self.connection_if_up();
            // Written together, so that the threads that take outputs do not alternate with this one.
            let written: Vec<_> = P::hold(|| {
                let write = |(job, ..): &(Arc<Job<P>>, _, _)| {
                    connection.as_ref().map(|connection| connection.write(&*self.codec, job, 0..job.count()))
                };
                jobs.iter().map(write).collect()
            });
            let since = self.now_for_metrics();
            let pending = |(job, index, reply)| Pending::new(job, index, reply, since);
            let mut state = self.lock();
            if matches!(state.life, Life::Failed | Life::Ended) {
                let exit = state.exit.clone();
                drop(state);
                let exit = exit.unwrap_or_else(|| self.has_closed());
                let numbers = vec![0..0; jobs.len()];
                for job in jobs {
                    pending(job).fail(self, self.codec.lost(&exit));
                }
                return numbers;
            }
            let connection_now = if state.life == Life::Up { state.connection.as_ref() } else { None };
            if connection_now.map(Arc::as_ptr) != connection.as_ref().map(Arc::as_ptr) {
                // It came up, or was lost, while the messages were written.
                continue;
            }
            let (mut numbers, mut refused) = (Vec::with_capacity(jobs.len()), Vec::new());
            for (job, written) in jobs.drain(..).zip(written) {
                let sent = connection.as_deref().zip(written);
                numbers.push(state.enter(sent, pending(job), &mut refused));
            }
            let must_wake = state.reader == Reader::Nobody && !state.pending.is_empty();
            drop(state);
            if must_wake {
                self.wake_supervisor();
            }
            // What they refer to is not dropped under the lock.
            for (pending, fault) in refused {
                pending.fail(self, fault);
            }
            return numbers;
        }
    }

    /// The results of the jobs of these numbers are not needed any more: their replies end, and the worker is asked to leave them.
    pub(crate) fn drop_jobs(&self, mut numbers: Range<u64>) {
        let mut dropped = Vec::new();
        let connection = {
            let mut state = self.lock();
            while !numbers.is_empty() {
                let count = usize::try_from(numbers.end - numbers.start).unwrap_or(usize::MAX);
                let Some(pending) = state.pending.remove(numbers.start, count) else {
                    numbers.start += 1;
                    continue;
                };
                for number in numbers.by_ref().take(pending.slots.len()) {
                    if let Some(connection) = state.connection.as_ref().filter(|_| pending.is_sent) {
                        connection.post_drop(number);
                    }
                }
                dropped.push(pending);
            }
            if dropped.is_empty() {
                return;
            }
            state.connection.clone()
        };
        if let Some(connection) = connection {
            connection.control.flush().ok();
        }
        for pending in dropped {
            pending.abandon(self);
        }
        // It writes what goes by the other socket.
        self.wake_supervisor();
    }

    /// What the nodes hold of the items so far must not come out with later ones.
    pub(crate) fn forget_items(&self) {
        let state = self.lock();
        if let Some(connection) = &state.connection {
            connection.link.post(Head::new(Kind::Forget, 0), connection.link.message());
        }
    }

    pub(crate) fn connection_if_up(&self) -> Option<Arc<Connection>> {
        let state = self.lock();
        if state.life == Life::Up { state.connection.clone() } else { None }
    }

    /// Send what waits to be sent. May wait for the worker to read.
    pub(crate) fn flush(&self) {
        let connection = self.lock().connection.clone();
        if let Some(connection) = connection {
            // The supervisor notices by itself that a worker is gone.
            connection.link.flush().ok();
        }
    }

    /// Abandon the jobs in progress: all replies receive that, and the worker is asked to stop. Its nodes are interrupted if
    /// `must_notify_nodes`.
    pub(crate) fn interrupt(&self, must_notify_nodes: bool) {
        let (connection, pending) = {
            let mut state = self.lock();
            if must_notify_nodes || state.interruptions.0 == state.interruptions.1 {
                state.interruptions.0 += 1;
                let kind = if must_notify_nodes { Kind::Interrupt } else { Kind::Discard };
                let head = Head { extra: state.next_number, ..Head::new(kind, state.interruptions.0) };
                if let Some(connection) = &state.connection {
                    connection.control.post(head, connection.control.message());
                }
            }
            (state.connection.clone(), std::mem::replace(&mut state.pending, Jobs::new()))
        };
        if let Some(connection) = connection {
            connection.control.flush().ok();
        }
        for pending in pending.into_values() {
            pending.abandon(self);
        }
        self.wake_supervisor();
    }

    /// Wait until the worker has left what it was at when it was interrupted, or is lost, or should end.
    pub(crate) fn wait_until_interrupted(&self) {
        let mut state = self.lock();
        while state.interruptions.0 != state.interruptions.1
            && !state.is_closing
            && !matches!(state.life, Life::Failed | Life::Ended | Life::Unborn)
            && state.end_by.is_none()
        {
            self.changed.wait(&mut state);
        }
    }
}

impl<P: Payload> State<P> {
    /// A job is in progress: sent, if it is written down. Returns its numbers. Items that cannot be written down are `refused`.
    fn enter(
        &mut self,
        sent: Option<(&Connection, Written<'_, P>)>,
        mut pending: Pending<P>,
        refused: &mut Vec<(Pending<P>, P::Fault)>,
    ) -> Range<u64> {
        let number = self.next_number;
        self.next_number += pending.slots.len() as u64;
        pending.is_sent = sent.is_some();
        self.pending.insert(number, pending);
        if let Some((connection, written)) = sent {
            self.send(connection, number, written, refused);
        }
        number..self.next_number
    }

    /// Send what was written down of items, of which the first has this number. Those that cannot be written down are `refused`.
    pub(crate) fn send(
        &mut self,
        connection: &Connection,
        number: u64,
        mut written: Written<'_, P>,
        refused: &mut Vec<(Pending<P>, P::Fault)>,
    ) {
        for (slot, fault) in std::mem::take(&mut written.refused) {
            refused.extend(self.pending.remove(number + slot as u64, 1).map(|pending| (pending, fault)));
        }
        written.send(connection, number, false);
    }
}

impl<P: Payload> Pending<P> {
    pub(crate) fn fail(self, remote: &Remote<P>, fault: P::Fault) {
        let Reply::Pack(done) = self.reply else { return self.reply.send(remote, Err(fault)) };
        let faults = self.slots.clone().skip(1).map(|_| Err(P::duplicate_fault(&fault))).collect::<Vec<_>>();
        done.done(self.slots.start, faults.into_iter().chain([Err(fault)]).collect());
    }

    /// The results are not needed any more.
    pub(crate) fn abandon(self, remote: &Remote<P>) {
        match self.reply {
            Reply::Pack(done) => done.done(self.slots.start, self.slots.map(|_| Ok(Outputs::None)).collect()),
            reply => reply.abandon(remote),
        }
    }
}

impl<P: Payload> Reply<P> {
    pub(crate) fn send(self, remote: &Remote<P>, result: Result<Outputs<P>, P::Fault>) {
        match self {
            Self::Whole(done) => done(result),
            Self::Direct => remote.reply_directly(result),
            Self::Stream(channel) => channel.end(match result {
                Ok(Outputs::One(output)) => {
                    channel.push(output);
                    Ok(())
                }
                result => result.map(|_| ()),
            }),
            Self::Batch(outputs, done) => done(result.map(|_| outputs)),
            Self::Pack(_) => unreachable!("its items have places"),
        }
    }

    /// The result is no longer wanted.
    pub(crate) fn abandon(self, remote: &Remote<P>) {
        match self {
            Self::Stream(channel) => channel.close(),
            Self::Batch(..) => self.send(remote, Ok(Outputs::None)),
            // An engine that was stopped does not draw from this.
            reply => reply.send(remote, Ok(Outputs::Many(Box::new(Nothing)))),
        }
    }
}

/// A stream without outputs.
struct Nothing;

impl<P: Payload> Stream<P> for Nothing {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        Ok(None)
    }
}
