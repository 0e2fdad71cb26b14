//! A stage in another process, as its session sees it: what was sent, which replies receive the results, and which thread reads them.
//!
//! *Invariant:* a job is kept in `pending` until its result is complete; then its reply receives the result exactly once.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::locks::{Condvar, Mutex, MutexGuard};
use rustix::event::EventfdFlags;

use crate::node::{Done, Outputs, StepObserver, Stream};
use crate::payload::Payload;
use crate::worker::parent::connection::{Connection, Job, send};
use crate::worker::parent::counters::Counters;
use crate::worker::parent::output_channel::Channel;
use crate::worker::parent::snapshots::Snapshots;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::message::Message;
use crate::worker::{ItemCodec, WorkerExit, WorkerSpec, pack};

/// Receives the results of a batch.
pub(crate) type BatchDone<P> = Box<dyn FnOnce(Result<Vec<Option<P>>, <P as Payload>::Fault>) + Send>;

/// A job, the index of its item if it is known, and the reply that receives the result.
pub(crate) type Begun<P> = (Job<P>, Option<u64>, Reply<P>);

/// What receives the result of a job.
pub(crate) enum Reply<P: Payload> {
    /// The first output, or the end, has not come.
    Whole(Done<P>),
    /// One output was not the last.
    Stream(Arc<Channel<P>>),
    /// The results of a batch so far.
    Batch(Vec<Option<P>>, BatchDone<P>),
    /// The thread that reads the results itself.
    Direct,
}

/// What was begun and is not done.
pub(crate) struct Pending<P: Payload> {
    pub(crate) job: Arc<Job<P>>,
    /// The index of its item among those of the pipeline, as far as is known.
    pub(crate) item_index: Option<u64>,
    pub(crate) reply: Reply<P>,
    /// Outputs that have gone out.
    pub(crate) emitted: usize,
    /// Outputs that arrive a second time, and are discarded.
    pub(crate) repeated: usize,
    /// Workers that died while they worked on it.
    pub(crate) deaths: usize,
    pub(crate) is_sent: bool,
    /// When it was sent last, if metrics are collected.
    since: Option<Instant>,
    /// How long nodes have worked on it since then.
    pub(crate) inside: Duration,
}

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
    pub(crate) pending: BTreeMap<u64, Pending<P>>,
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
            pending: BTreeMap::new(),
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

    /// Write a job down.
    pub(crate) fn write<'a>(&self, connection: &'a Connection, job: &Job<P>) -> Result<Vec<Message<'a>>, P::Fault> {
        let write = |item: &P| pack(&*self.codec, item, connection.link.message());
        match job {
            Job::Item(item) => Ok(vec![write(item)?]),
            Job::Batch(items) => items.iter().map(write).collect(),
            Job::Flush => Ok(vec![connection.link.message()]),
        }
    }

    /// Begin with jobs; each reply is sent when its job is done. Never waits for the worker. Returns the number of each job, for
    /// [`Remote::drop_job`]; 0 for one that was not begun.
    pub(crate) fn begin(&self, jobs: impl IntoIterator<Item = Begun<P>>) -> Vec<u64> {
        let mut jobs: Vec<_> = jobs.into_iter().map(|(job, index, reply)| (Arc::new(job), index, reply)).collect();
        let mut refused = Vec::new();
        loop {
            let connection = self.connection_if_up();
            // Written together, so that the threads that take outputs do not alternate with this one.
            let written: Vec<_> = P::hold(|| {
                let write = |(job, ..): &(Arc<Job<P>>, _, _)| {
                    connection.as_ref().map(|connection| self.write(connection, job)).transpose()
                };
                jobs.iter().map(write).collect()
            });
            let mut state = self.lock();
            if matches!(state.life, Life::Failed | Life::Ended) {
                let exit = state.exit.clone();
                drop(state);
                let exit = exit.unwrap_or_else(|| self.has_closed());
                let numbers = vec![0; jobs.len()];
                for (.., reply) in jobs {
                    reply.fail(self, self.codec.lost(&exit));
                }
                return numbers;
            }
            let connection_now = if state.life == Life::Up { state.connection.as_ref() } else { None };
            if connection_now.map(Arc::as_ptr) != connection.as_ref().map(Arc::as_ptr) {
                // It came up, or was lost, while the messages were written.
                continue;
            }
            let mut numbers = Vec::with_capacity(jobs.len());
            for ((job, index, reply), messages) in jobs.drain(..).zip(written) {
                numbers.push(match messages {
                    Ok(messages) => state.enter(
                        connection.as_deref(),
                        Pending::new(job, index, reply, self.now_for_metrics()),
                        messages,
                    ),
                    // What it refers to is not dropped under the lock.
                    Err(fault) => {
                        refused.push((job, reply, fault));
                        0
                    }
                });
            }
            let must_wake = state.reader == Reader::Nobody && !state.pending.is_empty();
            drop(state);
            if must_wake {
                self.wake_supervisor();
            }
            for (_, reply, fault) in refused {
                reply.fail(self, fault);
            }
            return numbers;
        }
    }

    /// The result of a job is no longer wanted: its reply ends, and the worker is asked to leave it.
    pub(crate) fn drop_job(&self, number: u64) {
        let (connection, pending) = {
            let mut state = self.lock();
            let Some(pending) = state.pending.remove(&number) else { return };
            let connection = state.connection.clone().filter(|_| pending.is_sent);
            if let Some(connection) = &connection {
                connection.post_drop(number);
            }
            (connection, pending)
        };
        if let Some(connection) = connection {
            connection.control.flush().ok();
        }
        pending.reply.abandon(self);
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
            (state.connection.clone(), std::mem::take(&mut state.pending))
        };
        if let Some(connection) = connection {
            connection.control.flush().ok();
        }
        for (_, pending) in pending {
            pending.reply.abandon(self);
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
    /// A job is in progress: sent, if there are messages.
    fn enter(
        &mut self,
        connection: Option<&Connection>,
        pending: Pending<P>,
        messages: Option<Vec<Message<'_>>>,
    ) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let is_sent = messages.is_some();
        if let (Some(connection), Some(messages)) = (connection, messages) {
            send(connection, number, &pending.job, messages, false);
        }
        self.pending.insert(number, Pending { is_sent, ..pending });
        number
    }
}

impl<P: Payload> Pending<P> {
    pub(crate) fn new(job: Arc<Job<P>>, item_index: Option<u64>, reply: Reply<P>, since: Option<Instant>) -> Self {
        let inside = Duration::ZERO;
        Self { job, item_index, reply, emitted: 0, repeated: 0, deaths: 0, is_sent: false, since, inside }
    }

    /// It is sent to another worker.
    pub(crate) fn note_sent(&mut self, since: Option<Instant>) {
        self.is_sent = true;
        self.since = since;
        self.inside = Duration::ZERO;
    }

    /// How long it was neither here nor in a node.
    pub(crate) fn transport(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed().saturating_sub(self.inside))
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
        }
    }

    pub(crate) fn fail(self, remote: &Remote<P>, fault: P::Fault) {
        self.send(remote, Err(fault));
    }

    /// The result is no longer wanted.
    fn abandon(self, remote: &Remote<P>) {
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
