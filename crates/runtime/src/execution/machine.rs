//! Takes single items through the nodes of an open plan, depth first.
//!
//! Work waits on a stack, not in recursion, so that a pipeline of any length and generators of any depth need no more of
//! the thread's stack. Where branches meet again, a [`Gate`] collects their items until all other work of the input is done.

mod abandoning;
mod chunks;
mod continuing;
mod flushing;
mod fusing;
mod gates;
mod notes;
mod pauses;

use std::sync::Arc;
use std::time::Duration;

use quanta::Instant;

use self::chunks::ForChunks;
pub(crate) use self::chunks::Places;
use self::fusing::{Entered, Fusing};
use self::gates::Gate;
pub(crate) use self::pauses::UnderWay;
use crate::cancel::CancelFlag;
use crate::execution::metrics::{Recorders, Step as Event};
use crate::execution::progress::ProgressPlace;
use crate::layout::{Edge, Layout, Route};
use crate::node::endpoints::Sink;
use crate::node::{Hindrance, Node, Observer, Outputs, Source, Stream, WorkerHandle};
use crate::numbering::{self, NO_INPUT};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::plan::Plan;

/// Why the machine stopped in the middle of its work.
pub(crate) enum Stop<F> {
    Node {
        node: usize,
        phase: Phase,
        fault: F,
    },
    Sink(F),
    Hindered(Hindrance),
    Cancelled,
    /// The sink takes no more for now: the rest of the input waits on the stack, for [`Machine::go_on`].
    Paused,
}

type Step<P> = Result<(), Stop<<P as Payload>::Fault>>;

/// Something left to do.
enum Work<P: Payload> {
    Item { route: Route, item: P },
    Outputs { node: usize, phase: Phase, stream: Box<dyn Stream<P>>, took: Duration },
}

pub(crate) struct Machine<P: Payload> {
    pub(crate) nodes: Vec<Box<dyn Node<P>>>,
    /// Which of the nodes must know the index of an item that they get.
    takes_indices: Vec<bool>,
    /// The number of each node in the plan.
    pub(crate) members: Vec<usize>,
    plan: Arc<Plan>,
    pub(crate) progress: ProgressPlace,
    routes: Vec<Route>,
    entries: Vec<(Edge, Route)>,
    pub(crate) exits: Vec<Edge>,
    /// In plan order of the nodes behind them, that of the outputs last.
    gates: Vec<Gate<P>>,
    /// The gate before each node that has one.
    gate_of: Vec<Option<usize>>,
    /// The nodes stand for others in another process.
    pub(crate) works_elsewhere: bool,
    /// Whether a join anywhere needs to know which nodes were given an item.
    pub(crate) notes_visits: bool,
    visited: Vec<bool>,
    stack: Vec<Work<P>>,
    fusing: Fusing<P>,
    bulk: ForChunks<P>,
    /// A node has set something in the context of an item, so that each item needs a copy of its own.
    pub(crate) changes_contexts: bool,
    /// How many steps of [`Machine::drain`] or [`Machine::flush`] have begun.
    steps: usize,
    /// The generator that makes the input.
    pub(crate) source: Option<Box<dyn Stream<P>>>,
    pub(crate) recorders: Option<Recorders>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) is_cancelled: CancelFlag,
    /// The number of the current input.
    pub(crate) input: u64,
}

impl<P: Payload> Machine<P> {
    /// The nodes of one stage, in plan order.
    pub(crate) fn new(
        plan: &Arc<Plan>,
        stage: usize,
        mut nodes: Vec<Box<dyn Node<P>>>,
        is_cancelled: CancelFlag,
    ) -> Self {
        let Layout { routes, entries, exits, gates, gate_of } = Layout::new(plan, stage);
        let members = plan.stages()[stage].nodes.clone();
        Self {
            plan: Arc::clone(plan),
            progress: ProgressPlace::default(),
            routes,
            entries,
            exits,
            works_elsewhere: false,
            notes_visits: plan.nodes().iter().any(|node| node.join),
            gates: gates.into_iter().map(Gate::new).collect(),
            gate_of,
            visited: vec![false; nodes.len()],
            members,
            takes_indices: nodes
                .iter_mut()
                .map(|node| node.info().failure_counts.is_some() || node.as_remote().is_some())
                .collect(),
            nodes,
            stack: Vec::new(),
            fusing: Fusing::default(),
            bulk: ForChunks::default(),
            changes_contexts: false,
            steps: 0,
            source: None,
            recorders: None,
            observer: None,
            is_cancelled,
            input: numbering::of_item(0),
        }
    }

    /// The way into the stage for this connection.
    pub(crate) fn entry_of(&self, edge: Edge) -> Option<usize> {
        self.entries.iter().position(|(entry, _)| *entry == edge)
    }

    /// Let what enters at the input go where the outputs of this node go.
    pub(crate) fn bypass(&mut self, node: usize) {
        if let Some((_, route)) = self.entries.iter_mut().find(|(edge, _)| *edge == Edge { from: None, to: None }) {
            *route = self.routes[node].clone();
        }
    }

    /// The first node works for all of them, in another place: its outputs go where those of the last one go.
    pub(crate) fn work_elsewhere(&mut self, elsewhere: &dyn WorkerHandle) {
        let last = self.routes.len() - 1;
        self.routes[0] = self.routes[last].clone();
        self.works_elsewhere = true;
        if let Some(recorders) = self.recorders.clone() {
            elsewhere.observe_steps(Box::new(move |node, step| {
                let is_new_item = node > 0 && matches!(step, Event::Took(_));
                recorders.note(node.min(last), |recorder| {
                    recorder.items_in += u64::from(is_new_item);
                    recorder.stepped(step);
                });
                if is_new_item {
                    recorders.note(node - 1, |recorder| recorder.items_out += 1);
                }
            }));
        }
    }

    /// Begin with the next input.
    pub(crate) fn begin(&mut self) {
        self.steps = 0;
        if self.notes_visits {
            self.visited.fill(false);
        }
        self.fuse_if_due();
    }

    /// Take one item in by one of the entries, as far as it goes without the rest of its input.
    pub(crate) fn take_at(&mut self, entry: usize, item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        self.deliver(self.entries[entry].1.clone(), item, sink)?;
        self.work_off(sink)
    }

    /// Whether a node received an item of the current input.
    pub(crate) fn was_visited(&self, node: usize) -> bool {
        self.visited[node]
    }

    /// The exits after nodes that received an item of the current input, if joins need them.
    pub(crate) fn visited_exits(&self) -> Vec<usize> {
        if !self.notes_visits {
            return Vec::new();
        }
        let is_visited = |edge: &Edge| {
            // The outputs of several last nodes leave by an exit of the stage's own.
            let index = edge.from.and_then(|from| self.members.iter().position(|&member| member == from));
            index.is_some_and(|index| self.visited[index])
        };
        self.exits.iter().enumerate().filter(|(_, edge)| is_visited(edge)).map(|(exit, _)| exit).collect()
    }

    /// Whether single steps are observed or recorded.
    pub(crate) fn is_watched(&self) -> bool {
        self.recorders.is_some() || self.observer.is_some()
    }

    /// Take one input item all the way.
    pub(crate) fn take(&mut self, item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        self.begin();
        self.deliver(self.entries[0].1.clone(), item, sink)?;
        self.drain(sink)
    }

    /// The items of the source, which is the first node.
    pub(crate) fn produce(&mut self) -> Result<Outputs<P>, P::Fault> {
        self.nodes[0].as_source().map_or(Ok(Outputs::None), Source::produce)
    }

    /// Take one item that the source at `node` made all the way.
    pub(crate) fn take_from_source(&mut self, node: usize, item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        if self.notes_visits {
            self.visited.fill(false);
            self.visited[node] = true;
        }
        self.deliver(self.routes[node].clone(), item, sink)?;
        self.drain(sink)
    }

    /// Work off the stack, then open one gate after the other, until nothing is left of this input.
    pub(crate) fn drain(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.steps = 0;
        self.drain_rest(sink)
    }

    fn drain_rest(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.work_off(sink)?;
        for gate in self.steps..self.gates.len() {
            self.steps = gate + 1;
            self.open_gate(gate, false)?;
            self.work_off(sink)?;
        }
        Ok(())
    }

    fn work_off(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        while let Some(work) = self.stack.pop() {
            match work {
                Work::Item { route, item } => self.deliver(route, item, sink)?,
                Work::Outputs { node, phase, stream, took } => {
                    sink.before_wait();
                    if !sink.is_wanted() {
                        self.stack.push(Work::Outputs { node, phase, stream, took });
                        return Err(Stop::Cancelled);
                    }
                    if sink.is_full() {
                        self.stack.push(Work::Outputs { node, phase, stream, took });
                        return Err(Stop::Paused);
                    }
                    self.draw(node, phase, stream, took)?;
                }
            }
        }
        Ok(())
    }

    /// Ask a generator for one more output.
    fn draw(&mut self, node: usize, phase: Phase, mut stream: Box<dyn Stream<P>>, took: Duration) -> Step<P> {
        if self.is_cancelled.is_set() {
            self.stack.push(Work::Outputs { node, phase, stream, took });
            return Err(Stop::Cancelled);
        }
        let started = self.is_watched().then(Instant::now);
        self.progress.enter(node, if phase == Phase::Process { self.input } else { NO_INPUT });
        let next = stream.next();
        self.progress.leave();
        let took = took + started.map_or(Duration::ZERO, |started| started.elapsed());
        match next {
            Ok(Some(item)) => {
                self.count_output(node);
                let route = self.routes[node].clone();
                self.stack.push(Work::Outputs { node, phase, stream, took });
                self.stack.push(Work::Item { route, item });
                Ok(())
            }
            Ok(None) => {
                self.note_step(node, phase, took);
                Ok(())
            }
            Err(fault) => Err(Stop::Node { node, phase, fault }),
        }
    }

    /// Take an item along its route as long as each node returns a single item.
    fn deliver(&mut self, mut route: Route, mut item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        // The end of one call is the start of the next: reading the clock costs as much as a small node.
        let mut started = self.is_watched().then(Instant::now);
        loop {
            match route {
                Route::Exit(exit) => return sink.accept_at(exit, item).map_err(Stop::Sink),
                Route::Gate { gate, branch } => {
                    self.gates[gate].arrived[branch].push(item);
                    return Ok(());
                }
                Route::Several(routes) => {
                    for route in routes.iter().rev() {
                        self.stack.push(Work::Item { route: route.clone(), item: item.duplicate() });
                    }
                    return Ok(());
                }
                Route::Node(first) => {
                    let (node, outputs) = match self.enter_fused(first, item)? {
                        Entered::Called(node, outputs) => (node, outputs),
                        Entered::Singly(item) => (first, self.enter(first, item, &mut started)?),
                    };
                    match outputs {
                        Outputs::One(output) => {
                            item = output;
                            route = self.routes[node].clone();
                        }
                        Outputs::None | Outputs::NotReached => return Ok(()),
                        Outputs::Many(stream) => {
                            let took = Duration::ZERO;
                            self.stack.push(Work::Outputs { node, phase: Phase::Process, stream, took });
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// One call of `process`. Where steps are watched, `started` is when it began, and then when it ended.
    fn enter(&mut self, node: usize, item: P, started: &mut Option<Instant>) -> Result<Outputs<P>, Stop<P::Fault>> {
        if self.is_cancelled.is_set() {
            return Err(Stop::Cancelled);
        }
        if self.notes_visits {
            self.visited[node] = true;
        }
        self.announce(node, &[self.item_index()]);
        self.progress.enter(node, self.input);
        let result = self.nodes[node].process(item);
        self.progress.leave();
        if let Some(started) = started {
            let ended = Instant::now();
            self.note_call(node, &result, ended - *started);
            *started = ended;
        }
        result.map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })
    }

    /// Send outputs on that did not come along a route.
    fn follow(
        &mut self,
        node: usize,
        phase: Phase,
        outputs: Outputs<P>,
        took: Duration,
        sink: &mut dyn Sink<P>,
    ) -> Step<P> {
        match outputs {
            Outputs::None | Outputs::NotReached => Ok(()),
            Outputs::One(item) => {
                self.count_output(node);
                self.deliver(self.routes[node].clone(), item, sink)
            }
            Outputs::Many(stream) => {
                self.stack.push(Work::Outputs { node, phase, stream, took });
                Ok(())
            }
        }
    }
}
