//! Nodes, items, inputs and outputs that the tests share.

mod node;
mod session;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::thread::ThreadId;

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{
    Bulk, CLOSE_TIMEOUT, CancelFlag, Failure, Feed, InlinePlan, Metrics, Node, NodeFailure, NodeLock, NodeSpec,
    Observer, Options, Payload, Phase, Plan, Replicas, RunError, Session, SessionSettings, Sink,
};

pub(crate) use self::node::{BAD, Returned, TestNode, add, fail_on, keep, node, pass, source, spread};
pub(crate) use self::session::{Call, Put, SessionUse, TIMEOUT, Valve, options, stream, thread};

/// A number, the outputs of several branches, or several items at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Number(i64),
    Joined(Vec<(String, Vec<Item>)>),
    Chunk(Vec<Item>),
}

/// How a node, an input or a sink of the tests fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Because(&'static str),
    Interrupt,
}

impl Payload for Item {
    type Fault = Fault;
    type Context = ();

    fn duplicate(&self) -> Self {
        self.clone()
    }

    fn duplicate_fault(fault: &Fault) -> Fault {
        *fault
    }

    fn join(branches: Vec<(&str, Vec<Self>)>) -> Result<Self, Fault> {
        Ok(Self::Joined(branches.into_iter().map(|(id, outputs)| (id.to_owned(), outputs)).collect()))
    }

    fn unpack(chunk: Self) -> Vec<Self> {
        match chunk {
            Self::Chunk(items) => items,
            single => vec![single],
        }
    }

    fn is_interrupt(fault: &Fault) -> bool {
        *fault == Fault::Interrupt
    }
}

impl PartialEq<i64> for Item {
    fn eq(&self, number: &i64) -> bool {
        *self == Self::Number(*number)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            other => write!(formatter, "{other:?}"),
        }
    }
}

/// The one item that a join makes of these outputs.
pub(crate) fn joined(branches: &[(&str, &[i64])]) -> Item {
    let branches = branches.iter().map(|(id, outputs)| ((*id).to_owned(), numbers(outputs)));
    Item::Joined(branches.collect())
}

pub(crate) fn numbers(numbers: &[i64]) -> Vec<Item> {
    numbers.iter().copied().map(Item::Number).collect()
}

/// What happened, in order, one line each, and on which thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, ThreadId)>>>);

impl Log {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().push((line.into(), std::thread::current().id()));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().iter().map(|(line, _)| line.clone()).collect()
    }

    /// The threads on which the methods of a node were called.
    pub(crate) fn threads_of(&self, node: &str) -> HashSet<ThreadId> {
        let entries = self.0.lock();
        let of_node = entries.iter().filter(|(line, _)| line.split('.').next() == Some(node));
        of_node.map(|(_, thread)| *thread).collect()
    }

    /// The only thread on which the methods of a node were called.
    pub(crate) fn thread_of(&self, node: &str) -> ThreadId {
        let threads: Vec<_> = self.threads_of(node).into_iter().collect();
        assert_eq!(threads.len(), 1, "{node} runs on one thread: {:?}", self.0.lock());
        threads[0]
    }

    /// The lines that are about this method.
    pub(crate) fn lines_of(&self, method: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(method)).collect()
    }
}

type OptionalBulk = Option<Box<dyn Bulk<Item>>>;

/// How a pipeline under test is opened.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) with_metrics: bool,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) cancel: CancelFlag,
    pub(crate) node_lock: Option<Box<dyn NodeLock>>,
    pub(crate) bulk: OptionalBulk,
}

/// A pipeline under test.
#[derive(Default)]
pub(crate) struct Pipe {
    specs: Vec<NodeSpec>,
    /// The replicas of each node.
    nodes: Vec<Vec<Box<dyn Node<Item>>>>,
    pub(crate) settings: Settings,
}

impl Pipe {
    /// One node after the other, with the ids `n0`, `n1` and so on.
    pub(crate) fn chain(nodes: impl IntoIterator<Item = TestNode>) -> Self {
        let mut pipe = Self::default();
        for (index, node) in nodes.into_iter().enumerate() {
            let after = index.checked_sub(1).map(|before| format!("n{before}"));
            pipe.specs.push(NodeSpec { id: format!("n{index}"), after: Vec::from_iter(after), ..NodeSpec::default() });
            pipe.nodes.push(vec![Box::new(node)]);
        }
        pipe
    }

    pub(crate) fn node(self, id: &str, after: &[&str], node: impl Node<Item> + 'static) -> Self {
        self.add(id, after, false, node)
    }

    pub(crate) fn join(self, id: &str, after: &[&str], node: impl Node<Item> + 'static) -> Self {
        self.add(id, after, true, node)
    }

    pub(crate) fn add(mut self, id: &str, after: &[&str], join: bool, node: impl Node<Item> + 'static) -> Self {
        let after = after.iter().map(|&upstream| upstream.to_owned()).collect();
        self.specs.push(NodeSpec { id: id.to_owned(), after, join, ..NodeSpec::default() });
        self.nodes.push(vec![Box::new(node)]);
        self
    }

    /// The node that was added last runs like this.
    pub(crate) fn with(mut self, options: Options) -> Self {
        self.specs.last_mut().expect("a node was added").options = options.into();
        self
    }

    /// One more object for the node that was added last.
    pub(crate) fn replica(mut self, node: impl Node<Item> + 'static) -> Self {
        self.nodes.last_mut().expect("a node was added").push(Box::new(node));
        self
    }

    pub(crate) fn cancelled_by(mut self, cancel: &CancelFlag) -> Self {
        self.settings.cancel = cancel.clone();
        self
    }

    pub(crate) fn measured(mut self) -> Self {
        self.settings.with_metrics = true;
        self
    }

    /// The plan, and the replicas of each node in its order.
    pub(crate) fn replicated(self) -> (Arc<Plan>, Vec<Replicas<Item>>, Settings) {
        let plan = Plan::new("test", &self.specs).expect("the tests describe good pipelines");
        let mut nodes: Vec<_> = self.nodes.into_iter().map(Some).collect();
        let in_order = plan.nodes().iter().map(|node| nodes[node.position].take().expect("each position once"));
        let nodes = in_order.map(|nodes| Replicas { nodes }).collect();
        (Arc::new(plan), nodes, self.settings)
    }

    /// Run over these numbers and return what came out and how it ended.
    pub(crate) fn run(self, input: impl IntoIterator<Item = i64>) -> (Vec<Item>, Outcome) {
        let mut input = input.into_iter();
        let mut outputs = Vec::new();
        let outcome = self.run_with(
            || Ok(input.next().map(Item::Number)),
            |output| {
                outputs.push(output);
                Ok(())
            },
        );
        (outputs, outcome)
    }

    /// What comes out when nothing fails.
    pub(crate) fn outputs(self, input: impl IntoIterator<Item = i64>) -> Vec<Item> {
        let (outputs, outcome) = self.run(input);
        outcome.expect("nothing fails");
        outputs
    }

    /// How a run fails, and what came out before.
    pub(crate) fn failure(self, input: impl IntoIterator<Item = i64>) -> (Vec<Item>, Failure<Fault>) {
        let (outputs, outcome) = self.run(input);
        (outputs, outcome.expect_err("something fails"))
    }

    pub(crate) fn run_with(
        self,
        feed: impl FnMut() -> Result<Option<Item>, Fault>,
        sink: impl FnMut(Item) -> Result<(), Fault>,
    ) -> Outcome {
        self.run_through(&mut FnFeed(feed), &mut FnSink(sink))
    }

    pub(crate) fn run_through(self, feed: &mut dyn Feed<Item>, sink: &mut dyn Sink<Item>) -> Outcome {
        let (session, bulk) = self.open_run()?;
        let outcome = session.run(feed, sink, bulk);
        session.close(CLOSE_TIMEOUT, &|| {}).after(outcome)
    }

    /// Open it for a run on this thread.
    pub(crate) fn open_run(self) -> Result<(Session<Item>, OptionalBulk), Failure<Fault>> {
        let (plan, nodes, settings) = self.replicated();
        let node_lock = Mutex::new(settings.node_lock);
        let opened = SessionSettings {
            with_metrics: settings.with_metrics,
            observer: settings.observer,
            stop: settings.cancel,
            inline: InlinePlan::InRun,
            ..SessionSettings::default()
        };
        let session = Session::open(plan, nodes, &opened, &|_, _| node_lock.lock().take())?;
        Ok((session, settings.bulk))
    }
}

pub(crate) type Outcome = Result<Option<Metrics>, Failure<Fault>>;

/// A feed that asks a closure.
pub(crate) struct FnFeed<F>(pub(crate) F);

impl<F: FnMut() -> Result<Option<Item>, Fault>> Feed<Item> for FnFeed<F> {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        (self.0)()
    }
}

/// A sink that calls a closure.
pub(crate) struct FnSink<F>(pub(crate) F);

impl<F: FnMut(Item) -> Result<(), Fault>> Sink<Item> for FnSink<F> {
    fn accept(&mut self, output: Item) -> Result<(), Fault> {
        (self.0)(output)
    }
}

/// The facts of a node's failure.
pub(crate) fn facts(failure: &NodeFailure<Fault>) -> (&str, Option<u64>, Phase, Fault) {
    (&failure.node_id, failure.item_index, failure.phase, failure.fault)
}

/// The facts of the node's failure that ended a run.
pub(crate) fn blamed(failure: &Failure<Fault>) -> (&str, Option<u64>, Phase, Fault) {
    match &failure.first {
        Some(RunError::Node(failure)) => facts(failure),
        other => panic!("a node failed: {other:?}"),
    }
}
