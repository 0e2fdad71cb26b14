//! The ways of items through the nodes of one stage, and into and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::Plan;

/// Where the outputs of a node go.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// Into another node of the stage.
    Node(usize),
    /// To a meeting point of branches.
    Gate { gate: usize, branch: usize },
    /// Out of the stage.
    Exit(usize),
    /// To each of these.
    Several(Arc<[Route]>),
}

/// A connection that leads into a stage or out of it. Nodes are numbered as in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The node that emits, or `None` for the input of the pipeline.
    pub(crate) from: Option<usize>,
    /// The node that receives, or `None` for the output of the pipeline.
    pub(crate) to: Option<usize>,
}

/// The meeting point of several branches.
#[derive(Clone, Debug)]
pub(crate) struct GatePlan {
    /// The node of the stage behind it; without one the items leave the pipeline.
    pub(crate) node: Option<usize>,
    /// The nodes before it, as numbered in the plan, in the order in which they count.
    pub(crate) upstreams: Vec<usize>,
    /// The branch of each node before it.
    branch_of: HashMap<usize, usize>,
    /// Whether the branches are joined into one item an input.
    pub(crate) join: bool,
}

impl GatePlan {
    fn new(node: Option<usize>, upstreams: Vec<usize>, join: bool) -> Self {
        let branch_of = upstreams.iter().enumerate().map(|(branch, &upstream)| (upstream, branch)).collect();
        Self { node, upstreams, branch_of, join }
    }

    /// The branch that begins at a node, as numbered in the plan.
    pub(crate) fn branch_of(&self, upstream: usize) -> usize {
        self.branch_of[&upstream]
    }
}

/// The ways through one stage. Nodes are numbered as in the stage.
pub(crate) struct Layout {
    /// The way out of each node.
    pub(crate) routes: Vec<Route>,
    /// The ways into the stage, each from outside of it.
    pub(crate) entries: Vec<(Edge, Route)>,
    /// The ways out of the stage.
    pub(crate) exits: Vec<Edge>,
    /// In the order of the nodes behind them, that of the outputs last.
    pub(crate) gates: Vec<GatePlan>,
    /// The gate before each node that has one.
    pub(crate) gate_of: Vec<Option<usize>>,
}

impl Layout {
    /// The ways through the stage of this number.
    pub(crate) fn new(plan: &Plan, stage: usize) -> Self {
        let members = &plan.stages()[stage].nodes;
        let mut local = vec![None; plan.nodes().len()];
        for (index, &node) in members.iter().enumerate() {
            local[node] = Some(index);
        }
        let (gates, gate_of) = lay_gates(plan, members);
        let mut layout = Self { routes: Vec::new(), entries: Vec::new(), exits: Vec::new(), gates, gate_of };
        layout.routes = members.iter().map(|&node| layout.route_out_of(plan, node, &local)).collect();
        layout.entries = layout.lay_entries(plan, members, &local);
        layout
    }

    fn route_out_of(&mut self, plan: &Plan, node: usize, local: &[Option<usize>]) -> Route {
        let downstreams = &plan.nodes()[node].downstreams;
        if downstreams.is_empty() {
            return match self.output_gate() {
                Some(gate) => self.gate_route(gate, node),
                None => self.exit(Edge { from: Some(node), to: None }),
            };
        }
        let routes = downstreams.iter().map(|&down| match local[down] {
            Some(index) => self.route_into(index, node),
            None => self.exit(Edge { from: Some(node), to: Some(down) }),
        });
        join_routes(routes.collect())
    }

    fn output_gate(&self) -> Option<usize> {
        self.gates.last().is_some_and(|gate| gate.node.is_none()).then(|| self.gates.len() - 1)
    }

    fn route_into(&self, index: usize, from: usize) -> Route {
        self.gate_of[index].map_or(Route::Node(index), |gate| self.gate_route(gate, from))
    }

    fn gate_route(&self, gate: usize, from: usize) -> Route {
        Route::Gate { gate, branch: self.gates[gate].branch_of[&from] }
    }

    fn exit(&mut self, edge: Edge) -> Route {
        self.exits.push(edge);
        Route::Exit(self.exits.len() - 1)
    }

    /// The input as one way to all first nodes, then each connection from another stage.
    fn lay_entries(&self, plan: &Plan, members: &[usize], local: &[Option<usize>]) -> Vec<(Edge, Route)> {
        let is_root = |node: &usize| plan.nodes()[*node].upstreams.is_empty();
        let roots: Vec<Route> = (0..members.len()).filter(|&index| is_root(&members[index])).map(Route::Node).collect();
        let mut entries = Vec::new();
        if !roots.is_empty() {
            entries.push((Edge { from: None, to: None }, join_routes(roots)));
        }
        for (index, &node) in members.iter().enumerate() {
            for &from in plan.nodes()[node].upstreams.iter().filter(|&&up| local[up].is_none()) {
                entries.push((Edge { from: Some(from), to: Some(node) }, self.route_into(index, from)));
            }
        }
        entries
    }
}

fn lay_gates(plan: &Plan, members: &[usize]) -> (Vec<GatePlan>, Vec<Option<usize>>) {
    let mut gates = Vec::new();
    let mut gate_of = vec![None; members.len()];
    for (index, &node) in members.iter().enumerate() {
        let node = &plan.nodes()[node];
        if node.upstreams.len() > 1 || (node.join && !node.upstreams.is_empty()) {
            gate_of[index] = Some(gates.len());
            gates.push(GatePlan::new(Some(index), node.upstreams.clone(), node.join));
        }
    }
    let terminals = plan.terminals();
    if terminals.len() > 1 && terminals.iter().all(|node| members.binary_search(node).is_ok()) {
        gates.push(GatePlan::new(None, terminals, false));
    }
    (gates, gate_of)
}

pub(crate) fn join_routes(mut routes: Vec<Route>) -> Route {
    if routes.len() == 1 { routes.remove(0) } else { Route::Several(routes.into()) }
}
