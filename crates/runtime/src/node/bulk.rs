//! A faster way through the nodes of a stage, past the engine.

use std::time::Duration;

use crate::node::Outputs;
use crate::node::endpoints::Sink;
use crate::payload::Payload;

/// A faster way through all nodes of a stage at once, for many items, that a payload may have.
///
/// It must return what the nodes return one by one. The engine uses it where nobody observes single items.
pub trait Bulk<P: Payload>: Send {
    /// Whether there is such a way for these nodes, and whether it can measure each call if it `is_measured`. Asked before
    /// each chunk, until it returns `false`.
    fn is_possible(&mut self, is_measured: bool) -> bool;

    /// Whether the nodes work in another place, so that each chunk takes its time to get there, and even two items are worth one.
    /// Asked before [`Bulk::is_possible`], where calls are not measured.
    ///
    /// # Errors
    /// An interruption.
    fn crosses(&mut self) -> Result<bool, P::Fault> {
        Ok(false)
    }

    /// Take a chunk of items through all nodes and hand the outputs to `sink`, in order.
    fn run(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> BulkOutcome<P>;
}

impl<P: Payload, B: Bulk<P> + ?Sized> Bulk<P> for Box<B> {
    fn is_possible(&mut self, is_measured: bool) -> bool {
        (**self).is_possible(is_measured)
    }

    fn crosses(&mut self) -> Result<bool, P::Fault> {
        (**self).crosses()
    }

    fn run(&mut self, chunk: P, sink: &mut dyn Sink<P>) -> BulkOutcome<P> {
        (**self).run(chunk, sink)
    }
}

/// A node that can be called together with its neighbours for a chunk of items.
pub trait Compilable<P: Payload> {
    /// What [`Compilable::compile`] needs of the node.
    fn part(&self) -> P;

    /// A faster way through this node and those after it in a chain, which returned these parts. `ids` are the ids of all of them. It
    /// calls [`Sink::begin_item`] before the outputs of each item.
    fn compile(&self, parts: Vec<P>, ids: Vec<String>) -> Box<dyn Bulk<P>>;
}

/// A node that a [`Bulk`] may call past the engine.
pub trait BulkMember<P: Payload> {
    /// The outputs that a value stands for, which a [`Bulk`] got from this node.
    fn interpret(&mut self, returned: P) -> Result<Outputs<P>, P::Fault>;
}

/// What became of a chunk.
pub struct BulkOutcome<P: Payload> {
    /// How many items were taken, the one that ended the chunk early among them.
    pub taken: usize,
    /// Why the chunk ended before its last item.
    pub end: BulkEnd<P>,
    /// What is left of the item that ended the chunk early.
    pub left: InProgress<P>,
    /// How many outputs went another way than by the sink.
    pub past_sink: u64,
    /// What generators raised that were closed after a fault, with their nodes, the innermost first.
    pub closed: Vec<(usize, P::Fault)>,
    /// The calls of each node, if they are measured.
    pub calls: Vec<Calls>,
}

/// Calls of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The items that the node received.
    pub items_in: u64,
    /// Its outputs.
    pub items_out: u64,
    /// Durations, and how many calls took that long.
    pub durations: Vec<(Duration, u64)>,
}

impl<P: Payload> BulkOutcome<P> {
    /// A chunk that ended with nothing in progress.
    pub fn new(taken: usize, end: BulkEnd<P>) -> Self {
        Self { taken, end, left: InProgress::default(), past_sink: 0, closed: Vec::new(), calls: Vec::new() }
    }
}

/// Why a chunk ended.
pub enum BulkEnd<P: Payload> {
    /// All its items went through.
    Done,
    /// The node at this index failed.
    Fault(usize, P::Fault),
    /// The taker of the outputs failed.
    SinkFault(P::Fault),
    /// It was asked to stop.
    Stopped,
    /// It has taken its time. The rest of the chunk comes back.
    Paused(P),
    /// There are items among them that only [`crate::Node::process`] may be given. The chunk comes back as it was.
    Refused(P),
    /// The node at this index returned a value that only [`BulkMember::interpret`] understands. The rest of the chunk comes back.
    Unfinished {
        /// The index of the node.
        node: usize,
        /// What it returned.
        output: P,
        /// The items after the current one.
        rest: Vec<P>,
    },
}

/// What is in progress of an item besides the output of the current node. Nodes are numbered as in the stage.
pub struct InProgress<P> {
    /// What comes next, the next one last.
    pub work: Vec<Pending<P>>,
    /// What each closed gate has collected: the node behind it, `None` for the gate of the outputs, and the node before it.
    pub arrived: Vec<(Option<usize>, usize, Vec<P>)>,
    /// The nodes that received an item, as far as a join has to know.
    pub entered: Vec<usize>,
    /// How many gates have passed their items on.
    pub open_gates: usize,
    /// How long the call of the current node took, if that is measured.
    pub took: Duration,
}

impl<P> Default for InProgress<P> {
    fn default() -> Self {
        Self { work: Vec::new(), arrived: Vec::new(), entered: Vec::new(), open_gates: 0, took: Duration::ZERO }
    }
}

/// Something left to do for an item.
pub enum Pending<P> {
    /// A value that a node returned, for [`BulkMember::interpret`], and that has more outputs.
    Outputs {
        /// The index of the node.
        node: usize,
        /// The value.
        returned: P,
    },
    /// An output that has not reached one of the nodes behind its own.
    Item {
        /// The node that it comes from; `None` if it is the input.
        from: Option<usize>,
        /// The node that receives it, or the gate before that.
        to: usize,
        /// The output.
        item: P,
    },
    /// An item that has passed the gate before a node.
    Passed {
        /// The index of the node.
        node: usize,
        /// The item.
        item: P,
    },
}
