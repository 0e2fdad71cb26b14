//! An open pipeline, as `serve` needs it.

use std::time::Duration;

use remotemedia_runtime::{Metrics, Value};

use crate::failure::Failure;

/// A pipeline whose nodes are initialized, for items that come at any time. Its methods may be called on any thread.
pub trait Service: Send + Sync {
    /// Begin with an item. `reply` is called once, on any thread; this does not wait for it, nor for anything else.
    fn call(&self, item: Value, reply: Reply) -> CallId;

    /// Nobody waits for this call any more: it does not begin, and what is in progress is dropped. Does not wait.
    fn abandon(&self, call: CallId);

    /// What its nodes did so far, if that is measured.
    fn metrics(&self) -> Option<Metrics>;

    /// Take no more items, drop those in progress and clean the nodes up. Waits, for about as long as this at most.
    ///
    /// It fails if a node does, or if one does not return in time.
    fn close(&self, timeout: Duration) -> Result<(), Failure>;
}

/// Names a call of a service.
pub type CallId = u64;

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
}
