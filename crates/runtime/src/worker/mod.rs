//! Stages in processes of their own: how they are started, what crosses to them and back, and what happens when one dies.
//!
//! A worker is a child with one inherited socket. The parent sends it the nodes of its stage, then items; small ones travel on the
//! socket, large buffers lie in anonymous shared memory that both sides map. What an item looks like in a message is the business of a
//! [`ItemCodec`]; nothing here knows a language.
//!
//! *Invariant:* an item that was sent to a worker is kept until its result is complete: a worker that dies is restarted and receives what
//! it had not finished, in order, and outputs that came out before do not come out twice.

mod child;
mod parent;
mod protocol;
mod usage;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

pub use self::child::serve::serve;
pub use self::child::worker_host::{IsStill, LeaveFork, Notes, Opened, WorkerHost};
pub use self::parent::process::STACK_SIGNAL;
pub use self::parent::remote_node::remote_nodes;
pub use self::protocol::message::Message;
pub use self::protocol::view::{OwnBytes, View};
use crate::cancel::CancelFlag;
use crate::options::Options;
use crate::payload::Payload;
use crate::phase::Phase;

/// Takes items of one kind from one process to another. One for all workers of a session; called on any thread.
pub trait ItemCodec<P: Payload>: Send + Sync + 'static {
    /// Write an item down.
    fn pack(&self, item: &P, message: &mut Message<'_>) -> Result<(), P::Fault>;

    /// The item that a message holds. Its buffers may be read in place for as long as their views live.
    fn unpack(&self, message: Arrived) -> Result<P, P::Fault>;

    /// An item that stands for a message without being unpacked, and of which [`ItemCodec::pack`] makes the same message for another worker.
    /// Returns the message if it may mean something else there.
    fn keep(&self, message: Arrived) -> Result<P, Arrived> {
        Err(message)
    }

    /// The same for a state or whatever else a node keeps: it may change it.
    fn unpack_own(&self, message: Arrived) -> Result<P, P::Fault> {
        self.unpack(message)
    }

    /// The fault for an item on its way for whose bytes there is no memory.
    fn no_memory(&self, bytes: usize) -> P::Fault;

    /// Write a fault down. One that cannot be written down is described.
    fn pack_fault(&self, fault: &P::Fault) -> Vec<u8>;

    /// The fault that was written down in a worker, where it came out of this node.
    fn unpack_fault(&self, node_id: &str, phase: Phase, bytes: &[u8]) -> P::Fault;

    /// The fault for an item whose worker was lost.
    fn lost(&self, exit: &WorkerExit) -> P::Fault;

    /// The worker of these nodes has written a line to its standard output or error stream.
    fn write_line(&self, node_ids: &[String], stream: StdStream, line: &str);

    /// The worker of these nodes sent a note by its [`Notes`].
    fn noted(&self, node_ids: &[String], note: &[u8]);

    /// The worker of these nodes was lost although its session had not closed. If that is not final, another takes its place.
    fn log_exit(&self, _node_ids: &[String], _exit: &WorkerExit) {}

    /// Another worker has taken the place of the process `former`.
    fn log_restart(&self, _node_ids: &[String], _process: u32, _former: u32) {}
}

/// Write an item down, if there is memory for it.
fn pack<'a, P: Payload>(codec: &dyn ItemCodec<P>, item: &P, mut message: Message<'a>) -> Result<Message<'a>, P::Fault> {
    codec.pack(item, &mut message)?;
    match message.missing() {
        None => Ok(message),
        Some(bytes) => Err(codec.no_memory(bytes)),
    }
}

/// The item that a message holds, if there was memory for it.
fn unpack<P: Payload>(codec: &dyn ItemCodec<P>, message: Arrived) -> Result<P, P::Fault> {
    match message.missing {
        None => codec.unpack(message),
        Some(bytes) => Err(codec.no_memory(bytes)),
    }
}

/// A message that has arrived from the other process.
#[derive(Debug)]
pub struct Arrived {
    /// What the sender wrote into the body.
    pub body: View,
    /// The buffers that it added, in order.
    pub buffers: Vec<View>,
    /// The number of bytes that arrived and for which there is no memory; then there is neither a body nor a buffer.
    missing: Option<usize>,
}

impl Arrived {
    /// A message without buffers.
    fn of(body: View) -> Self {
        Self { body, buffers: Vec::new(), missing: None }
    }

    fn missing(bytes: usize) -> Self {
        Self { missing: Some(bytes), ..Self::of(View::from(&[][..])) }
    }
}

/// A stream that a worker writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdStream {
    /// Its standard output.
    Out,
    /// Its standard error stream.
    Err,
}

/// How a worker was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerExit {
    /// The node that was at work, as far as is known; else the first one of the stage.
    pub node_id: String,
    /// In which part of its life.
    pub phase: Phase,
    /// What became of the worker.
    pub cause: ExitCause,
    /// The number of its process, if it had begun.
    pub process: Option<u32>,
    /// The item that was in work, by its index among those of the pipeline.
    pub item_index: Option<u64>,
    /// The last lines that it wrote to its standard error stream.
    pub stderr: String,
    /// How often it was started again within the window that counts.
    pub restarts: usize,
    /// Whether no other worker takes its place, which ends its session.
    pub is_final: bool,
}

/// What became of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// It could not be started.
    NotStarted(String),
    /// It ended with this exit code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// It has ended in an unknown way: the program ignores the ends of its children, or waits for all of them itself.
    Unknown,
    /// A call took longer than this, and the worker was ended.
    TimedOut(Duration),
    /// Its session closed, it did not return in time, and was ended.
    Abandoned,
}

/// Which worker a stage has, and what is done when it is lost.
pub struct WorkerSpec<P: Payload> {
    /// The nodes that run in it, a chain.
    pub node_ids: Vec<String>,
    /// The program to start, which is to call [`serve`] with its standard input.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Writes down what the worker needs to make its nodes. Called for every start.
    pub setup: WriteSetup<P>,
    /// How its stage is run.
    pub options: Options,
    /// Set when the nodes need not become ready any more.
    pub cancel: CancelFlag,
    /// How long one item may take, where the worker itself does not end it.
    pub timeout: Option<Duration>,
    /// Collect metrics of single steps.
    pub with_metrics: bool,
    /// Nothing but another worker receives the outputs, so they need not be unpacked.
    pub passes_on: bool,
}

impl<P: Payload> WorkerSpec<P> {
    /// Whether the node works on several items at the same time.
    fn is_concurrent(&self) -> bool {
        self.options.concurrency > 1
    }
}

/// Writes down what a worker needs to make its nodes.
pub type WriteSetup<P> = Arc<dyn Fn(&mut Message<'_>) -> Result<(), <P as Payload>::Fault> + Send + Sync>;
