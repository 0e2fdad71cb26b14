//! An open pipeline, as `serve` needs it.

use std::sync::Arc;
use std::time::Duration;

use remotemedia_runtime::{Metrics, Value};

use crate::failure::Failure;

/// A pipeline whose nodes are initialized, for items that come at any time. Its methods may be called on any thread.
pub trait Service: Send + Sync {
    /// Begin with an item. `reply` is called once, on any thread; this does not wait for it, nor for anything else. `on_step` is called for
    /// the item if the service was opened to observe steps.
    fn call(&self, item: Value, on_step: Option<OnStep>, reply: Reply) -> CallId;

    /// Nobody waits for this call any more: it does not begin, and what is in progress is dropped. Does not wait.
    fn abandon(&self, call: CallId);

    /// Begin a stream, whose outputs come in the order of its items. `changed` is called, on any thread, when [`ItemStream::next`] may
    /// return something else than before; it does not wait.
    fn open_stream(&self, changed: Box<dyn Fn() + Send + Sync>) -> Box<dyn ItemStream>;

    /// What its nodes did so far, if that is measured.
    fn metrics(&self) -> Option<Metrics>;

    /// The queue before each stage: the number of its first node in the plan, the items in it, and for how many it has room.
    fn queues(&self) -> Vec<(usize, usize, usize)>;

    /// Take no more items, drop those in progress and clean the nodes up. Waits, for about as long as this at most.
    ///
    /// It fails if a node does, or if one does not return in time.
    fn close(&self, timeout: Duration) -> Result<(), Failure>;
}

/// Makes services with nodes of their own, on any thread.
pub trait ServiceMaker: Send + Sync {
    /// Whether nodes are made for each service: at least one is given as a class or a function that returns it.
    fn has_own_nodes(&self) -> bool;

    /// Initialize nodes for one more service.
    fn make(&self) -> Result<Arc<dyn Service>, Failure>;
}

/// Items of one client, and their outputs in order. Dropping it drops what is in progress. No method waits.
pub trait ItemStream: Send + Sync {
    /// Put an item in. `admitted` is called once, on any thread, when the next one may be put in.
    fn put(&self, item: Value, admitted: Admitted);

    /// No more items follow: the nodes are flushed, and [`StreamNext::End`] is returned after the last output.
    fn end(&self);

    /// The next output, or what there is instead.
    fn next(&self) -> StreamNext;

    /// How many items and outputs there are in it.
    fn load(&self) -> usize;

    /// Drop what was put in before and has not come out. `done` is called with the number of dropped items, on any thread; after that,
    /// none of their outputs is returned.
    fn interrupt(&self, done: Box<dyn FnOnce(u64) + Send>);
}

/// Receives whether an item was put in.
pub type Admitted = Box<dyn FnOnce(Result<(), CallError>) + Send>;

/// What a stream has for its client.
#[derive(Debug)]
pub enum StreamNext {
    /// An output.
    Output(Value),
    /// Nothing yet.
    Nothing,
    /// All outputs have been returned.
    End,
    /// An item failed; the outputs before it have been returned. The stream goes on, unless the service is closed.
    Failed(CallError),
}

/// Names a call of a service.
pub type CallId = u64;

/// Receives the id of a node that has returned, and how long it took. Called on threads of nodes; does not wait.
pub type OnStep = Arc<dyn Fn(&str, Duration) + Send + Sync>;

/// Receives what comes of a call.
pub type Reply = Box<dyn FnOnce(Result<Vec<Value>, CallError>) + Send>;

/// Why a call has no outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// Whose fault it is.
    pub kind: CallErrorKind,
    /// The class of the exception.
    pub type_name: String,
    /// What went wrong, in one sentence or a few lines.
    pub message: String,
    /// The node that failed, if one did.
    pub node_id: Option<String>,
    /// Where, in user code: the lines of a Python traceback.
    pub traceback: Option<String>,
}

impl CallError {
    /// The service takes no more items.
    pub fn closing() -> Self {
        Self {
            kind: CallErrorKind::Closed,
            type_name: "SessionClosedError".to_owned(),
            message: "the service is closing".to_owned(),
            node_id: None,
            traceback: None,
        }
    }
}

/// Whose fault it is that a call has no outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The item cannot be passed to nodes.
    Item,
    /// A node failed, or its output has no form in which it could be sent.
    Node,
    /// The service takes no more items.
    Closed,
    /// The client does not take its outputs.
    Client,
}
