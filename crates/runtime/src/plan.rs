//! Ordered, checked arrangement of the nodes to run.
//!
//! A [`Plan`] is built once and never changes. Everything that can be wrong with a pipeline before it starts (no nodes, equal
//! ids, connections that name nothing, a cycle, a group that cannot be one stage) is refused here, so the engine has no such cases.

mod groups;
mod stages;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

pub use self::stages::Stage;
use crate::error::{Error, Result};
use crate::options::{Options, Placement, WhenFull};
use crate::suggest::did_you_mean;

/// The most items of a stream that pass through the stages together.
const LARGEST_CHUNK: usize = 64;

/// How many items pass through the stages together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    /// The number is a multiple of this one.
    pub step: usize,
    /// The largest number.
    pub largest: usize,
}

/// A node as a pipeline describes it.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Unique in the pipeline.
    pub id: String,
    /// The name of its class or type.
    pub node_type: String,
    /// The ids of the nodes whose outputs it gets, in the order in which they count. Empty: it gets the input.
    pub after: Vec<String>,
    /// Whether it gets one item an input, made of the outputs of all its upstream nodes.
    pub join: bool,
    /// How it runs. Nodes that run alike may share one.
    pub options: Arc<Options>,
}

impl Default for NodeSpec {
    fn default() -> Self {
        let (id, node_type, after) = (String::new(), String::new(), Vec::new());
        Self { id, node_type, after, join: false, options: Options::shared_default() }
    }
}

/// A node in its place in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanNode {
    /// Unique in the plan.
    pub id: String,
    /// The name of its class or type.
    pub node_type: String,
    /// Indices, in the plan, of the nodes whose outputs it gets; empty for one that gets the input.
    pub upstreams: Vec<usize>,
    /// Indices of the nodes that get its outputs; empty for one whose outputs leave the pipeline.
    pub downstreams: Vec<usize>,
    /// Whether the outputs of its upstream nodes arrive joined into one item an input.
    pub join: bool,
    /// How it runs.
    pub options: Arc<Options>,
    /// The position it had in the description.
    pub position: usize,
}

/// A pipeline that is checked and arranged into stages. Upstream nodes come before downstream ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    name: String,
    nodes: Vec<PlanNode>,
    stages: Vec<Stage>,
    stage_of: Vec<usize>,
}

impl Plan {
    /// Check a description and arrange it.
    pub fn new(name: impl Into<String>, specs: &[NodeSpec]) -> Result<Self> {
        Self::of(name, specs.to_vec())
    }

    /// The same for a description that is not needed any more.
    pub fn of(name: impl Into<String>, specs: Vec<NodeSpec>) -> Result<Self> {
        let name = name.into();
        let described = specs.iter().map(|spec| (spec.id.as_str(), spec.after.iter().map(String::as_str).collect()));
        let order = PlanOrder::of(&name, &described.collect::<Vec<_>>())?;
        Self::arranged(name, specs, &order)
    }

    /// The same for a description whose order is known. What its nodes say they come after is not looked at.
    ///
    /// # Panics
    /// If the order is not that of as many nodes.
    pub fn arranged(name: impl Into<String>, mut specs: Vec<NodeSpec>, order: &PlanOrder) -> Result<Self> {
        let PlanOrder { upstreams, order } = order;
        assert_eq!(specs.len(), order.len(), "an order is that of the nodes it comes with");
        let mut place_of = vec![0; specs.len()];
        for (place, &position) in order.iter().enumerate() {
            place_of[position] = place;
        }
        let mut nodes: Vec<PlanNode> = Vec::with_capacity(specs.len());
        for &position in order {
            let NodeSpec { id, node_type, join, options, .. } = std::mem::take(&mut specs[position]);
            let upstreams: Vec<usize> = upstreams[position].iter().map(|&upstream| place_of[upstream]).collect();
            let place = nodes.len();
            for &upstream in &upstreams {
                nodes[upstream].downstreams.push(place);
            }
            nodes.push(PlanNode { id, node_type, upstreams, downstreams: Vec::new(), join, options, position });
        }
        groups::check(&nodes)?;
        let (stages, stage_of) = stages::arrange(&nodes);
        Ok(Self { name: name.into(), nodes, stages, stage_of })
    }

    /// The name of the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes, each after all that it depends on.
    pub fn nodes(&self) -> &[PlanNode] {
        &self.nodes
    }

    /// The stages, in the order in which an item meets them.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage that a node is in.
    pub fn stage_of(&self, node: usize) -> usize {
        self.stage_of[node]
    }

    /// Indices of the nodes whose outputs leave the pipeline.
    pub fn terminals(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].downstreams.is_empty()).collect()
    }

    /// Whether all nodes run in one place without a queue, on the thread that calls.
    pub fn is_inline(&self) -> bool {
        matches!(&self.stages[..], [stage] if stage.placement == Placement::Inline && !stage.options.needs_own_stage())
    }

    /// Whether a session needs no thread and no queue: it takes each item all the way on the thread that brings it.
    pub fn is_direct(&self) -> bool {
        self.is_inline() && self.nodes.iter().all(|node| node.options.timeout.is_none())
    }

    /// Whether the whole plan is one worker that takes one item after the other: a call can send its item and wait for the result,
    /// on the thread that calls.
    pub fn is_one_worker(&self) -> bool {
        let [stage] = &self.stages[..] else { return false };
        let options = &stage.options;
        let is_plain = options.replicas == 1 && options.concurrency == 1 && options.batch.is_none();
        stage.placement == Placement::Process && is_plain
    }

    /// The number of producers of a stage: other stages, and the callers that put items in.
    ///
    /// One that gets them from several sides puts the parts of each input together before it works on them.
    pub fn sides_of(&self, stage: usize) -> usize {
        let mut sides = HashSet::new();
        for &node in &self.stages[stage].nodes {
            let upstreams = &self.nodes[node].upstreams;
            sides.extend(upstreams.iter().map(|&up| Some(self.stage_of[up])).filter(|&up| up != Some(stage)));
            if upstreams.is_empty() {
                sides.insert(None);
            }
        }
        sides.len()
    }

    /// Whether all that goes from the input of the pipeline to its output goes through this stage.
    pub(crate) fn is_only_way(&self, stage: usize) -> bool {
        // Those that are reached from the input without the stage, in plan order.
        let mut is_reached = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| self.stage_of[*index] != stage) {
            is_reached[index] = node.upstreams.is_empty() || node.upstreams.iter().any(|&up| is_reached[up]);
        }
        !self.nodes.iter().zip(is_reached).any(|(node, is_reached)| is_reached && node.downstreams.is_empty())
    }

    /// The most inputs that a session has in flight, where `queue_size` is for the stages that don't say.
    pub fn window(&self, queue_size: usize) -> usize {
        self.stages.iter().map(|stage| stage.capacity(queue_size)).sum()
    }

    /// How many items of a stream pass through the stages together, if they do. `queue_size` is for the stages that don't say.
    pub fn chunks(&self, queue_size: usize) -> Option<ChunkSizes> {
        let (first, others) = self.stages.split_first()?;
        // A limit is for the call of one item.
        let is_unlimited = |node: &PlanNode| node.options.timeout.is_none();
        let takes_batches = first.takes_batches_in_order() && first.options.when_full == WhenFull::Wait;
        let take_chunks = (first.takes_chunks() || takes_batches) && others.iter().all(Stage::takes_chunks);
        if !self.is_chain() || !take_chunks || !self.nodes.iter().all(is_unlimited) {
            return None;
        }
        let smallest = self.stages.iter().map(|stage| stage.options.queue_size.unwrap_or(queue_size)).min()?;
        // Batches that are not full would have to wait for others.
        let step = first.options.batch.map_or(1, |batch| batch.size);
        let largest = smallest.min(LARGEST_CHUNK) / step * step;
        (largest > 1).then_some(ChunkSizes { step, largest })
    }

    /// Whether the nodes form one line without a branch, a merge or a join.
    pub fn is_chain(&self) -> bool {
        self.nodes.iter().enumerate().all(|(index, node)| {
            !node.join && if index == 0 { node.upstreams.is_empty() } else { node.upstreams == [index - 1] }
        })
    }
}

/// Something for each node, by its id. A large pipeline is looked up several times, so the hash is a quick one.
pub(crate) type ById<'a, V> = HashMap<&'a str, V, RandomState>;

/// A node as far as the order depends on it: its id, and the ids that it comes after.
pub(crate) type Described<'a> = (&'a str, Vec<&'a str>);

/// How the nodes of a pipeline depend on each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOrder {
    /// The positions of the nodes before each.
    upstreams: Vec<Vec<usize>>,
    /// All positions, each after those it depends on.
    order: Vec<usize>,
}

impl PlanOrder {
    /// Check a description.
    pub(crate) fn of(name: &str, described: &[Described<'_>]) -> Result<Self> {
        if described.is_empty() {
            return Err(Error::EmptyPipeline { pipeline: name.to_owned() });
        }
        let upstreams = resolve_upstreams(described)?;
        let order = topological_order(described, &upstreams)?;
        Ok(Self { upstreams, order })
    }

    /// The positions of the nodes whose outputs the node at a position gets, each once.
    pub fn upstreams(&self, position: usize) -> &[usize] {
        &self.upstreams[position]
    }
}

fn resolve_upstreams(described: &[Described<'_>]) -> Result<Vec<Vec<usize>>> {
    let mut positions = ById::default();
    positions.reserve(described.len());
    for (position, (id, _)) in described.iter().enumerate() {
        if positions.insert(*id, position).is_some() {
            return Err(Error::DuplicateId { id: (*id).to_owned() });
        }
    }
    let mut seen_by = vec![usize::MAX; described.len()];
    described
        .iter()
        .enumerate()
        .map(|(node, (id, after))| {
            let mut found = Vec::with_capacity(after.len());
            for &upstream in after {
                let Some(&position) = positions.get(upstream) else {
                    return Err(Error::UnknownUpstream {
                        node: (*id).to_owned(),
                        upstream: upstream.to_owned(),
                        hint: did_you_mean(upstream, described.iter().map(|(other, _)| *other)),
                    });
                };
                // A connection that stands twice counts once.
                if std::mem::replace(&mut seen_by[position], node) != node {
                    found.push(position);
                }
            }
            Ok(found)
        })
        .collect()
}

/// Kahn's algorithm; among the nodes that are ready the one described first goes first.
fn topological_order(described: &[Described<'_>], upstreams: &[Vec<usize>]) -> Result<Vec<usize>> {
    let mut waiting_for: Vec<usize> = upstreams.iter().map(Vec::len).collect();
    let mut downstreams = vec![Vec::new(); described.len()];
    for (position, ups) in upstreams.iter().enumerate() {
        for &up in ups {
            downstreams[up].push(position);
        }
    }
    let mut ready: BTreeSet<usize> = (0..described.len()).filter(|&position| waiting_for[position] == 0).collect();
    let mut order = Vec::with_capacity(described.len());
    while let Some(position) = ready.pop_first() {
        order.push(position);
        for &down in &downstreams[position] {
            waiting_for[down] -= 1;
            if waiting_for[down] == 0 {
                ready.insert(down);
            }
        }
    }
    if order.len() == described.len() {
        return Ok(order);
    }
    Err(Error::Cycle { path: cycle_path(described, upstreams, &waiting_for) })
}

/// Follows unfinished upstream nodes until one comes round again.
fn cycle_path(described: &[Described<'_>], upstreams: &[Vec<usize>], waiting_for: &[usize]) -> String {
    let is_stuck = |position: &usize| waiting_for[*position] > 0;
    let mut current = (0..described.len()).find(is_stuck).expect("a graph with a cycle has an unfinished node");
    let mut seen = vec![None; described.len()];
    let mut path = Vec::new();
    while seen[current].is_none() {
        seen[current] = Some(path.len());
        path.push(current);
        current = *upstreams[current].iter().find(|up| is_stuck(up)).expect("an unfinished node waits for one");
    }
    let start = seen[current].expect("the loop ends at a node seen before");
    let mut ids: Vec<&str> = path[start..].iter().rev().map(|&position| described[position].0).collect();
    ids.insert(0, described[current].0);
    if ids.len() > 12 {
        ids.splice(6..ids.len() - 5, ["…"]);
    }
    ids.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, after: &[&str]) -> NodeSpec {
        NodeSpec { id: id.into(), after: after.iter().map(|&up| up.into()).collect(), ..NodeSpec::default() }
    }

    #[test]
    fn nodes_come_after_what_they_depend_on() {
        let plan = Plan::new("p", &[spec("c", &["b"]), spec("b", &["a"]), spec("a", &[])]).unwrap();

        let ids: Vec<&str> = plan.nodes().iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert!(plan.is_chain());
    }

    #[test]
    fn a_cycle_is_named_in_the_direction_of_the_items() {
        let error = Plan::new("p", &[spec("in", &[]), spec("a", &["in", "c"]), spec("b", &["a"]), spec("c", &["b"])]);

        assert_eq!(error.unwrap_err().to_string(), "the connections form a cycle: a → b → c → a");
    }

    #[test]
    fn a_hundred_thousand_nodes_are_arranged() {
        let specs: Vec<NodeSpec> = (0..100_000)
            .map(|n| NodeSpec {
                id: n.to_string(),
                after: if n == 0 { vec![] } else { vec![(n - 1).to_string()] },
                ..NodeSpec::default()
            })
            .collect();

        assert_eq!(Plan::new("p", &specs).unwrap().nodes().len(), 100_000);
    }
}
