//! Nodes: what the engine asks of them, of inputs and of outputs; the policies around them; the nodes written in Rust.

pub(crate) mod bulk;
pub(crate) mod concurrent;
pub(crate) mod endpoints;
pub(crate) mod fused;
pub(crate) mod native;
pub(crate) mod policy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::CancelFlag;
use crate::execution::metrics::{Step, WorkerMetrics};
use crate::failure::RunError;
use crate::failure_counts::FailureCounts;
use crate::node::bulk::{BulkMember, Compilable};
use crate::node::concurrent::Concurrent;
use crate::node::fused::Fusible;
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;

/// One step of a pipeline.
///
/// The engine calls `initialize` once before the first item and `cleanup` exactly once for each `initialize` that was entered.
/// What only some nodes can do is in traits of its own, which a node returns from its `as_…` methods.
pub trait Node<P: Payload>: Send {
    /// Make ready: load models, open connections.
    fn initialize(&mut self) -> Result<(), P::Fault> {
        Ok(())
    }

    /// The outputs for one item.
    fn process(&mut self, item: P) -> Result<Outputs<P>, P::Fault>;

    /// The last outputs, at the end of input.
    fn flush(&mut self) -> Result<Outputs<P>, P::Fault> {
        Ok(Outputs::None)
    }

    /// The items in progress are no longer wanted. Those begun by [`Concurrent::start`] are done when this returns.
    fn interrupt(&mut self) -> Result<(), P::Fault> {
        Ok(())
    }

    /// Release what `initialize` acquired.
    fn cleanup(&mut self) -> Result<(), P::Fault> {
        Ok(())
    }

    /// The index of each item of the next call, for nodes that count failures, because they may hand failed items on, and for those that
    /// are [`RemoteStage`].
    fn announce(&mut self, _item_indices: &[u64]) {}

    /// What the engine asks about the node.
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }

    /// A node that makes the input of its pipeline.
    fn as_source(&mut self) -> Option<&mut dyn Source<P>> {
        None
    }

    /// A node that takes several items in one call. Others get them one by one, see `process_batch`.
    fn as_batch(&mut self) -> Option<&mut dyn Batched<P>> {
        None
    }

    /// A node that begins with an item before it is done with the last. Others do one after the other, see `start_all`.
    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<P>> {
        None
    }

    /// A node that stands for all nodes of its stage, which work in another place.
    fn as_remote(&mut self) -> Option<&mut dyn RemoteStage> {
        None
    }

    /// A node whose state can be taken and put back.
    fn as_snapshot(&mut self) -> Option<&mut dyn Snapshot<P>> {
        None
    }

    /// A node that holds items of a stream between calls.
    fn as_streaming(&mut self) -> Option<&mut dyn Streaming<P>> {
        None
    }

    /// A node that can be called together with its neighbours.
    fn as_fusible(&mut self) -> Option<&mut dyn Fusible<P>> {
        None
    }

    /// A node that can be called together with its neighbours for a chunk of items.
    fn as_compilable(&mut self) -> Option<&mut dyn Compilable<P>> {
        None
    }

    /// A node that a [`bulk::Bulk`] may call past the engine.
    fn as_bulk_member(&mut self) -> Option<&mut dyn BulkMember<P>> {
        None
    }
}

/// What the engine asks about a node.
pub struct NodeInfo {
    /// Whether the node itself ends calls that take longer than its time limit.
    pub keeps_time: bool,
    /// What was done about failures inside the node, if anything may be. The engine adds it to what it counts itself.
    pub failure_counts: Option<Arc<FailureCounts>>,
    /// Whether the last `initialize` or `cleanup` did anything.
    pub has_lifecycle: bool,
}

impl Default for NodeInfo {
    fn default() -> Self {
        Self { keeps_time: false, failure_counts: None, has_lifecycle: true }
    }
}

/// A node that makes the input of its pipeline.
pub trait Source<P: Payload> {
    /// The items.
    fn produce(&mut self) -> Result<Outputs<P>, P::Fault>;
}

/// A node that takes several items in one call.
pub trait Batched<P: Payload> {
    /// As many outputs as items; `None` for an item without an output.
    fn process_batch(&mut self, items: Vec<P>) -> Result<Vec<Option<P>>, P::Fault>;
}

/// A node that stands for all nodes of its stage, which work in another place.
pub trait RemoteStage {
    /// Begin to make ready: `initialize` will be called, and waits for it. `cleanup` is called in any case.
    fn prepare(&mut self);

    /// How those reach the nodes who are not inside this one.
    fn handle(&self) -> Arc<dyn WorkerHandle>;
}

/// A node whose state can be taken and put back.
pub trait Snapshot<P: Payload> {
    /// The state, for [`Snapshot::restore`].
    fn snapshot(&mut self) -> Result<P, P::Fault>;

    /// Take over a state that another instance of the node returned.
    fn restore(&mut self, state: P) -> Result<(), P::Fault>;
}

/// A node that holds items of a stream between calls.
pub trait Streaming<P: Payload> {
    /// Some of the items so far are no longer wanted: what the node holds of them must not come out with later ones.
    fn forget_items(&mut self) -> Result<(), P::Fault>;

    /// End the stream. Called once before `cleanup`, whatever happened.
    fn stop(&mut self) -> Result<(), P::Fault>;
}

/// End what a node still does on its own. Called once before `cleanup`, whatever happened.
pub(crate) fn stop<P: Payload>(node: &mut dyn Node<P>) -> Result<(), P::Fault> {
    node.as_streaming().map_or(Ok(()), Streaming::stop)
}

/// Call a node with several items at once, or with one after the other if it is not [`Batched`].
pub(crate) fn process_batch<P: Payload>(node: &mut dyn Node<P>, items: Vec<P>) -> Result<Vec<Option<P>>, P::Fault> {
    if let Some(batch) = node.as_batch() {
        return batch.process_batch(items);
    }
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        results.push(match node.process(item)? {
            Outputs::None | Outputs::NotReached => None,
            Outputs::One(output) => Some(output),
            Outputs::Many(mut stream) => {
                let first = stream.next()?;
                stream.close()?;
                first
            }
        });
    }
    Ok(results)
}

/// A node's work in another place, as those reach it who are not inside the node.
pub trait WorkerHandle: Send + Sync {
    /// What is in progress is no longer wanted. Does not wait for its end, and does not notify the nodes.
    fn discard(&self);

    /// As [`Streaming::forget_items`], before the next item that is sent.
    fn forget_items(&self);

    /// Send what was begun now: the producer has no more items at the moment.
    fn hand_over(&self);

    /// The session ends: what has not ended by itself then is ended by force.
    fn end_by(&self, deadline: Instant);

    /// When the session closes, the call that is in progress then is cancelled, as far as its language can.
    fn cancel_calls(&self);

    /// The process that does the work.
    fn process_id(&self) -> Option<u32>;

    /// The job that the process is at, by a number of its own, and the number of the node in its stage.
    fn at_work(&self) -> Option<(u64, usize)>;

    /// For how long the process has been busy, if it does one item after the other.
    fn busy(&self) -> Option<Duration>;

    /// Let the process write where its threads are to its standard error stream.
    fn dump_stacks(&self);

    /// What is known of the processes so far.
    fn metrics(&self) -> WorkerMetrics;

    /// Report to this observer how long the nodes take for each item.
    fn observe_steps(&self, observer: StepObserver);
}

/// Takes the number of a node in its stage, and what it did.
pub type StepObserver = Box<dyn Fn(usize, Step) + Send + Sync>;

/// What a node returns for one item.
pub enum Outputs<P: Payload> {
    /// Nothing: the item ends here.
    None,
    /// Nothing: the item ended before the last node of a worker.
    NotReached,
    /// One item.
    One(P),
    /// Items that are made one after the other, each sent on before the next is made.
    Many(Box<dyn Stream<P>>),
}

/// Outputs in the making: a generator at work.
pub trait Stream<P: Payload>: Send {
    /// The next output, or `None` at the end.
    fn next(&mut self) -> Result<Option<P>, P::Fault>;

    /// Stop before the end.
    fn close(&mut self) -> Result<(), P::Fault> {
        Ok(())
    }
}

/// Permission to enter the nodes of a stage, for as long as `work` runs.
///
/// The lock of the nodes that several sessions share.
pub trait NodeLock: Send + Sync {
    /// A number by which others know the thread that calls, or 0.
    fn thread(&self) -> u64 {
        0
    }

    /// Run `work` while no other session is inside the same nodes.
    fn enter(&self, work: &mut dyn FnMut());

    /// As `enter`, but leave `work` undone where the wait makes no sense any more.
    fn enter_unless(&self, _cancel: &CancelFlag, work: &mut dyn FnMut()) -> Result<(), Hindrance> {
        self.enter(work);
        Ok(())
    }
}

/// Why nodes were not entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The run was cancelled meanwhile.
    Cancelled,
    /// The session inside them waits for the one that would wait.
    Deadlock(String),
}

impl<F> From<Hindrance> for RunError<F> {
    fn from(hindrance: Hindrance) -> Self {
        match hindrance {
            Hindrance::Cancelled => Self::Cancelled,
            Hindrance::Deadlock(text) => Self::Deadlock(text),
        }
    }
}

/// Notified of each step of the engine. Without an observer the steps cost nothing.
pub trait Observer: Send + Sync {
    /// A plan is opened.
    fn opened(&self, plan: &Plan);

    /// A node went through a phase; `item_index` is the input it was about, where there is one.
    fn stepped(&self, node_id: &str, phase: Phase, item_index: Option<u64>, took: Duration);
}
