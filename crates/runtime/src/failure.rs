//! How a run ends that does not end well.

use std::time::Duration;

use crate::payload::Payload;
use crate::phase::Phase;

/// A node failed.
#[derive(Debug)]
pub struct NodeFailure<F> {
    /// The id of the node.
    pub node_id: String,
    /// The index of the input that it was about, where there is one.
    pub item_index: Option<u64>,
    /// In which method.
    pub phase: Phase,
    /// How.
    pub fault: F,
}

/// Why a run ended before its time.
#[derive(Debug)]
pub enum RunError<F> {
    /// A node failed.
    Node(NodeFailure<F>),
    /// A node passed on a stop request.
    Interrupt(F),
    /// The input failed.
    Feed(F),
    /// The taker of the outputs failed.
    Sink(F),
    /// A [`CancelFlag`](crate::CancelFlag) was set.
    Cancelled,
    /// The session was interrupted, and dropped the input.
    Interrupted,
    /// The session has closed.
    Closed,
    /// The system did not start a thread for the nodes.
    NoThread(std::io::Error),
    /// Its nodes would wait for themselves: the calls along the way.
    Deadlock(String),
    /// A call took longer than its node may.
    Timeout {
        /// The id of the node.
        node_id: String,
        /// The index of the input, where there is one.
        item_index: Option<u64>,
        /// How long the call might have taken.
        timeout: Duration,
        /// Whether the call has ended; one that cannot be stopped goes on, and its session is broken.
        is_stopped: bool,
    },
}

impl<F> RunError<F> {
    /// What a fault of a node is: its failure, or a stop request.
    pub(crate) fn of_node<P: Payload<Fault = F>>(
        node_id: &str,
        item_index: Option<u64>,
        phase: Phase,
        fault: F,
    ) -> Self {
        if P::is_interrupt(&fault) {
            return Self::Interrupt(fault);
        }
        Self::Node(NodeFailure { node_id: node_id.to_owned(), item_index, phase, fault })
    }

    /// The index of the input that it was about, where there is one.
    pub(crate) fn item_index_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Node(NodeFailure { item_index, .. }) | Self::Timeout { item_index, .. } => item_index.as_mut(),
            _ => None,
        }
    }
}

/// All that went wrong in a run: what ended it, and the cleanups that failed after it.
#[derive(Debug)]
pub struct Failure<F> {
    /// What ended the run, unless only cleanups failed.
    pub first: Option<RunError<F>>,
    /// The cleanups that failed, in the order in which they ran.
    pub cleanups: Vec<NodeFailure<F>>,
}
