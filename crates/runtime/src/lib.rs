//! The engine of RemoteMedia: takes items through a graph of nodes, in order, and never loses one.
//!
//! Nothing here knows what an item is made of. A [`Node`] works on any [`Payload`]: [`Value`] for native nodes, a Python
//! object in `remotemedia-ffi`. A [`Plan`] is the checked, immutable arrangement of a pipeline; a [`Session`] owns the nodes
//! of an open plan and drives them: on threads and in workers, or on the thread that calls it.

mod cancel;
mod error;
mod error_budget;
mod execution;
mod failure;
mod failure_counts;
mod layout;
mod limits;
pub mod locks;
pub mod manifest;
mod node;
mod numbering;
mod options;
mod payload;
mod phase;
mod plan;
mod session;
mod suggest;
mod value;
pub mod worker;

pub use cancel::CancelFlag;
pub use error::{Error, Result};
pub use error_budget::ErrorBudget;
pub use execution::call_times::CallTimes;
pub use execution::measurement::{MeasuredNode, Measurement};
pub use execution::metrics::{Metrics, NodeMetrics, Step, WorkerMetrics};
pub use failure::{Failure, NodeFailure, RunError};
pub use failure_counts::FailureCounts;
pub use limits::{CLOSE_TIMEOUT, DEFAULT_QUEUE_SIZE, LONGEST_RETRY_DELAY, LONGEST_SECS, STACK_BYTES};
pub use manifest::{Connection, Manifest, ManifestNode};
pub use node::bulk::{Bulk, BulkEnd, BulkMember, BulkOutcome, Calls, Compilable, InProgress, Pending};
pub use node::concurrent::{Concurrent, Done, EndEarly, EndPack, PackDone, Start, start_pack_singly};
pub use node::endpoints::{Fed, Feed, Items, Sink};
pub use node::fused::{Fused, FusedOutcome, Fusible};
pub use node::native::{ValueFault, create_native_node, native_node_types};
pub use node::policy::{DeadLetter, Policy, PolicyNode, longest_call};
pub use node::{
    Batched, Hindrance, Node, NodeInfo, NodeLock, Observer, Outputs, RemoteStage, Snapshot, Source, StepObserver,
    Stream, Streaming, WorkerHandle,
};
pub use options::{
    Batch, Notation, OPTION_NAMES, OnError, OptionProblem, Options, Placement, Refusal, WORKER_OPTIONS, WhenFull,
};
pub use payload::Payload;
pub use phase::Phase;
pub use plan::{NodeSpec, Plan, PlanNode, PlanOrder, Stage};
pub use session::{
    Admission, AtWork, Bringing, Caller, ChunkedStream, Client, Closed, Direct, Drain, InlinePlan, Next, NodeLockOf,
    Outbox, Overflow, Pace, Replicas, Reporter, Session, SessionSettings, Stall, Worked,
};
pub use suggest::{did_you_mean, nearest};
pub use value::{AudioChunk, Value};

/// The programs of this page are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
mod embedding {}
