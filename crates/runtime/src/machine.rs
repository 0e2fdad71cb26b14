//! Takes single items through the nodes of an open plan, depth first.
//!
//! Work waits on a stack, not in recursion, so that a pipeline of any length and generators of any depth need no more of
//! the thread's stack. Where branches meet again, a [`Gate`] collects their items until all other work of the input is done.

use std::sync::Arc;
use std::time::Duration;

use quanta::Instant;

use crate::metrics::Recorder;
use crate::{Node, Observer, Outputs, Payload, Phase, Plan, Sink, Stream};

/// Why the machine stopped in the middle of its work.
pub(crate) enum Stop<F> {
    Node { node: usize, phase: Phase, fault: F },
    Sink(F),
    Cancelled,
}

type Step<P> = Result<(), Stop<<P as Payload>::Fault>>;

/// Where the outputs of a node go.
#[derive(Clone, Debug)]
enum Route {
    Node(usize),
    Gate { gate: usize, branch: usize },
    Output,
    Several(Arc<[Route]>),
}

/// The meeting point of several branches: what they gave for the input under way.
struct Gate<P> {
    /// The node behind it; without one the items leave the pipeline.
    node: Option<usize>,
    upstreams: Vec<usize>,
    join: bool,
    arrived: Vec<Vec<P>>,
}

/// Something left to do.
enum Work<P: Payload> {
    Item { route: Route, item: P },
    Outputs { node: usize, phase: Phase, stream: Box<dyn Stream<P>>, took: Duration },
}

pub(crate) struct Machine<P: Payload> {
    pub(crate) nodes: Vec<Box<dyn Node<P>>>,
    ids: Vec<String>,
    routes: Vec<Route>,
    entry: Route,
    /// In plan order of the nodes behind them, that of the outputs last.
    gates: Vec<Gate<P>>,
    /// The gate before each node that has one.
    gate_of: Vec<Option<usize>>,
    has_join: bool,
    visited: Vec<bool>,
    stack: Vec<Work<P>>,
    /// The generator that makes the input.
    pub(crate) source: Option<Box<dyn Stream<P>>>,
    pub(crate) recorders: Option<Vec<Recorder>>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) is_cancelled: crate::CancelFlag,
    /// The index of the input under way.
    pub(crate) item_index: u64,
}

impl<P: Payload> Machine<P> {
    pub(crate) fn new(plan: &Plan, nodes: Vec<Box<dyn Node<P>>>, is_cancelled: crate::CancelFlag) -> Self {
        let Layout { routes, entry, gates, gate_of } = lay_routes(plan);
        Self {
            ids: plan.nodes().iter().map(|node| node.id.clone()).collect(),
            routes,
            entry,
            has_join: gates.iter().any(|gate| gate.join),
            gates,
            gate_of,
            visited: vec![false; nodes.len()],
            nodes,
            stack: Vec::new(),
            source: None,
            recorders: None,
            observer: None,
            is_cancelled,
            item_index: 0,
        }
    }

    /// Whether somebody wants to know about single steps.
    pub(crate) fn is_watched(&self) -> bool {
        self.recorders.is_some() || self.observer.is_some()
    }

    /// Take one input item all the way.
    pub(crate) fn take(&mut self, item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        if self.has_join {
            self.visited.fill(false);
        }
        self.deliver(self.entry.clone(), item, sink)?;
        self.settle(sink)
    }

    /// Take one item that the source at `node` made all the way.
    pub(crate) fn take_from_source(&mut self, node: usize, item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        if self.has_join {
            self.visited.fill(false);
            self.visited[node] = true;
        }
        self.deliver(self.routes[node].clone(), item, sink)?;
        self.settle(sink)
    }

    /// Take the answer that a node gave elsewhere to the input under way the rest of the way.
    pub(crate) fn resume(&mut self, node: usize, answer: P, sink: &mut dyn Sink<P>) -> Step<P> {
        let outputs = self.nodes[node].interpret(answer);
        let outputs = outputs.map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })?;
        self.follow(node, Phase::Process, outputs, Duration::ZERO, sink)?;
        self.settle(sink)
    }

    /// The end of input: each node gives its last outputs, in plan order, and the nodes after it get them.
    pub(crate) fn flush(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.visited.fill(false);
        for node in 0..self.nodes.len() {
            if let Some(gate) = self.gate_of[node] {
                self.open_gate(gate, true)?;
                self.work_off(sink)?;
            }
            if self.is_cancelled.is_set() {
                return Err(Stop::Cancelled);
            }
            let started = self.is_watched().then(Instant::now);
            let flushed = self.nodes[node].flush();
            let took = started.map_or(Duration::ZERO, |started| started.elapsed());
            // A node that flushes nothing is not worth a line, and a generator is noted when it has ended.
            if matches!(flushed, Ok(Outputs::One(_)) | Err(_)) {
                self.note_step(node, Phase::Flush, took);
            }
            let outputs = flushed.map_err(|fault| Stop::Node { node, phase: Phase::Flush, fault })?;
            self.follow(node, Phase::Flush, outputs, took, sink)?;
            self.work_off(sink)?;
        }
        if self.gates.last().is_some_and(|gate| gate.node.is_none()) {
            self.open_gate(self.gates.len() - 1, true)?;
            self.work_off(sink)?;
        }
        Ok(())
    }

    /// Whether a node is in the middle of something that [`Machine::abandon`] would end.
    pub(crate) fn has_generators(&self) -> bool {
        self.source.is_some() || self.stack.iter().any(|work| matches!(work, Work::Outputs { .. }))
    }

    /// Forget all work under way: generators are closed, the innermost first, and collected items dropped. Answers what failed.
    pub(crate) fn abandon(&mut self) -> Vec<(usize, Phase, P::Fault)> {
        let mut failed = Vec::new();
        while let Some(work) = self.stack.pop() {
            if let Work::Outputs { node, phase, mut stream, .. } = work
                && let Err(fault) = stream.close()
            {
                failed.push((node, phase, fault));
            }
        }
        if let Some(mut source) = self.source.take()
            && let Err(fault) = source.close()
        {
            failed.push((0, Phase::Process, fault));
        }
        for gate in &mut self.gates {
            gate.arrived.iter_mut().for_each(Vec::clear);
        }
        failed
    }

    /// Work off the stack, then open one gate after the other, until nothing is left of this input.
    fn settle(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        self.work_off(sink)?;
        for gate in 0..self.gates.len() {
            self.open_gate(gate, false)?;
            self.work_off(sink)?;
        }
        Ok(())
    }

    fn work_off(&mut self, sink: &mut dyn Sink<P>) -> Step<P> {
        while let Some(work) = self.stack.pop() {
            match work {
                Work::Item { route, item } => self.deliver(route, item, sink)?,
                Work::Outputs { node, phase, stream, took } => self.draw(node, phase, stream, took)?,
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
        let next = stream.next();
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

    /// Take an item along its route as far as each node answers with a single item.
    fn deliver(&mut self, mut route: Route, mut item: P, sink: &mut dyn Sink<P>) -> Step<P> {
        // The end of one call is the start of the next: reading the clock costs as much as a small node.
        let mut started = self.is_watched().then(Instant::now);
        loop {
            match route {
                Route::Output => return sink.accept(item).map_err(Stop::Sink),
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
                Route::Node(node) => match self.enter(node, item, &mut started)? {
                    Outputs::One(output) => {
                        item = output;
                        route = self.routes[node].clone();
                    }
                    Outputs::None => return Ok(()),
                    Outputs::Many(stream) => {
                        self.stack.push(Work::Outputs { node, phase: Phase::Process, stream, took: Duration::ZERO });
                        return Ok(());
                    }
                },
            }
        }
    }

    /// One call of `process`. Where steps are watched, `started` is when it began, and then when it ended.
    fn enter(&mut self, node: usize, item: P, started: &mut Option<Instant>) -> Result<Outputs<P>, Stop<P::Fault>> {
        if self.is_cancelled.is_set() {
            return Err(Stop::Cancelled);
        }
        if self.has_join {
            self.visited[node] = true;
        }
        let answer = self.nodes[node].process(item);
        if let Some(started) = started {
            let ended = Instant::now();
            self.note_call(node, &answer, ended - *started);
            *started = ended;
        }
        answer.map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })
    }

    fn note_call(&mut self, node: usize, answer: &Result<Outputs<P>, P::Fault>, took: Duration) {
        if let Some(recorders) = &mut self.recorders {
            recorders[node].items_in += 1;
        }
        match answer {
            Ok(Outputs::One(_)) => {
                self.count_output(node);
                self.note_step(node, Phase::Process, took);
            }
            Ok(Outputs::None) | Err(_) => self.note_step(node, Phase::Process, took),
            // Noted when the generator has ended, with all the time that it took.
            Ok(Outputs::Many(_)) => {}
        }
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
            Outputs::None => Ok(()),
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

    /// Put what a gate collected on the stack, first item on top.
    fn open_gate(&mut self, gate: usize, is_flush: bool) -> Step<P> {
        let Gate { node, upstreams, join, arrived } = &mut self.gates[gate];
        let route = node.map_or(Route::Output, Route::Node);
        let arrived: Vec<Vec<P>> = arrived.iter_mut().map(std::mem::take).collect();
        if !*join {
            for item in arrived.into_iter().flatten().rev() {
                self.stack.push(Work::Item { route: route.clone(), item });
            }
            return Ok(());
        }
        let has_answer = arrived.iter().any(|branch| !branch.is_empty())
            || (!is_flush && upstreams.iter().any(|&upstream| self.visited[upstream]));
        if has_answer {
            let branches = upstreams.iter().map(|&upstream| self.ids[upstream].as_str()).zip(arrived).collect();
            let node = node.expect("only nodes join");
            let item = P::join(branches).map_err(|fault| Stop::Node { node, phase: Phase::Process, fault })?;
            self.stack.push(Work::Item { route, item });
        }
        Ok(())
    }

    fn count_output(&mut self, node: usize) {
        if let Some(recorders) = &mut self.recorders {
            recorders[node].items_out += 1;
        }
    }

    pub(crate) fn note_step(&mut self, node: usize, phase: Phase, took: Duration) {
        if let Some(recorders) = &mut self.recorders {
            recorders[node].called(took);
        }
        if let Some(observer) = &self.observer {
            let item_index = (phase == Phase::Process).then_some(self.item_index);
            observer.stepped(&self.ids[node], phase, item_index, took);
        }
    }
}

/// The ways through a plan.
struct Layout<P> {
    routes: Vec<Route>,
    entry: Route,
    gates: Vec<Gate<P>>,
    gate_of: Vec<Option<usize>>,
}

fn lay_routes<P>(plan: &Plan) -> Layout<P> {
    let nodes = plan.nodes();
    let mut gates = Vec::new();
    let mut gate_of = vec![None; nodes.len()];
    // For each node the gates that it has a branch to, in plan order.
    let mut branches: Vec<Vec<Route>> = vec![Vec::new(); nodes.len()];
    let mut add_gate = |node, upstreams: &[usize], join| {
        for (branch, &upstream) in upstreams.iter().enumerate() {
            branches[upstream].push(Route::Gate { gate: gates.len(), branch });
        }
        let arrived = upstreams.iter().map(|_| Vec::new()).collect();
        gates.push(Gate { node, upstreams: upstreams.to_vec(), join, arrived });
        Some(gates.len() - 1)
    };
    for (index, node) in nodes.iter().enumerate() {
        if node.upstreams.len() > 1 || (node.join && !node.upstreams.is_empty()) {
            gate_of[index] = add_gate(Some(index), &node.upstreams, node.join);
        }
    }
    let terminals: Vec<usize> = (0..nodes.len()).filter(|&index| nodes[index].downstreams.is_empty()).collect();
    if terminals.len() > 1 {
        add_gate(None, &terminals, false);
    }

    let routes = nodes.iter().zip(branches).map(|(node, branches)| {
        if node.downstreams.is_empty() {
            return branches.into_iter().next().unwrap_or(Route::Output);
        }
        let mut branches = branches.into_iter();
        join_routes(node.downstreams.iter().map(|&down| match gate_of[down] {
            Some(_) => branches.next().expect("a branch for each gate that it leads to"),
            None => Route::Node(down),
        }))
    });
    let routes = routes.collect();
    let roots = (0..nodes.len()).filter(|&index| nodes[index].upstreams.is_empty());
    Layout { routes, entry: join_routes(roots.map(Route::Node)), gates, gate_of }
}

fn join_routes(routes: impl Iterator<Item = Route>) -> Route {
    let mut routes: Vec<Route> = routes.collect();
    if routes.len() == 1 { routes.remove(0) } else { Route::Several(routes.into()) }
}
