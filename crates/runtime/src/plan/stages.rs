//! Which nodes run together, and what that takes.

use std::collections::HashMap;

use super::PlanNode;
use crate::options::{Options, Placement, WhenFull};

/// The most items that are with a worker at once, without options that ask for more: while it is at work on one, the next ones are on
/// their way to it and the results of earlier ones on their way back, and several of them share a wake-up.
const ITEMS_IN_FLIGHT: usize = 128;

/// Neighbouring nodes that run together in one place, without a queue between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where the stage runs.
    pub placement: Placement,
    /// Indices of its nodes, in plan order.
    pub nodes: Vec<usize>,
    /// How the stage runs: the options of its first node; of inline nodes without a queue, nothing but the placement.
    pub options: Options,
}

impl Stage {
    fn new(placement: Placement) -> Self {
        Self { placement, nodes: Vec::new(), options: Options { placement, ..Options::default() } }
    }

    /// The processes that a session starts for the stage.
    pub fn workers(&self) -> usize {
        if self.placement == Placement::Process { self.options.replicas } else { 0 }
    }

    /// Whether several items are in progress in the stage at once, so that their outputs must be put in order again.
    pub fn is_parallel(&self) -> bool {
        let options = &self.options;
        self.workers() > 0 || options.replicas > 1 || options.concurrency > 1 || options.batch.is_some()
    }

    /// Whether its node takes one batch after the other, in this process.
    pub fn takes_batches_in_order(&self) -> bool {
        let options = &self.options;
        options.batch.is_some()
            && self.workers() == 0
            && options.replicas == 1
            && options.concurrency == 1
            && options.is_ordered
    }

    /// Whether its workers get single items, more than they are at work on.
    pub fn sends_ahead(&self) -> bool {
        self.workers() > 0 && self.options.batch.is_none()
    }

    /// Whether it takes the items of a chunk one after the other, here or in its workers.
    pub fn takes_chunks(&self) -> bool {
        let options = &self.options;
        let is_in_workers = self.workers() > 0 && options.batch.is_none() && options.is_ordered;
        options.when_full == WhenFull::Wait && (is_in_workers || !self.is_parallel())
    }

    /// The most items that are in progress in the stage at once, if a queue whose node does not say is of `queue_size`.
    pub fn width(&self, queue_size: usize) -> usize {
        let Options { replicas, concurrency, batch, .. } = self.options;
        let at_once = concurrency.max(batch.map_or(1, |batch| batch.size));
        replicas * if self.sends_ahead() { self.sent_ahead(queue_size) } else { at_once }
    }

    /// The most items that are with one worker. Who keeps its queue short does so for memory, or, where it drops what is old, to be up to
    /// date: what is with a worker already can't be dropped.
    fn sent_ahead(&self, queue_size: usize) -> usize {
        let queue_size = self.options.queue_size.unwrap_or(queue_size);
        let concurrency = self.options.concurrency;
        match self.options.when_full {
            WhenFull::Wait => queue_size.saturating_mul(2).min(ITEMS_IN_FLIGHT).max(concurrency),
            _ => concurrency.max(2),
        }
    }

    /// The threads that a session starts for the stage: one for each replica and one more that hands on what they have done; for workers
    /// one to keep each of them, one that sends, and one that hands on.
    pub fn threads(&self) -> usize {
        if self.workers() > 0 { self.workers() + 2 } else { self.options.replicas + usize::from(self.is_parallel()) }
    }

    /// How many inputs can be in the stage and its queue; `queue_size` is the default of queues.
    pub fn capacity(&self, queue_size: usize) -> usize {
        self.options.queue_size.unwrap_or(queue_size) + 2 * self.width(queue_size)
    }
}

/// A node with a placement has a stage of its own. Neighbours share one if they are inline and need no queue, if they are in one
/// group, or if they inherit the same placement from the session and need no queue.
///
/// The *level* of a node is the number of stage borders on the longest path from the input. Inline nodes of one level share a
/// stage, so that no stage ever waits for itself by way of another one. Every other stage is entered at its first node only. The
/// nodes of a worker are a chain.
pub(super) fn arrange(nodes: &[PlanNode]) -> (Vec<Stage>, Vec<usize>) {
    let mut stages: Vec<Stage> = Vec::new();
    let mut stage_of: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut levels: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut inline_stages: HashMap<usize, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let is_inline = node.is_fused_inline();
        let level =
            node.upstreams.iter().map(|&up| levels[up] + usize::from(!(is_inline && nodes[up].is_fused_inline())));
        let mut level = level.max().unwrap_or(0);
        let stage = if is_inline {
            *inline_stages.entry(level).or_insert_with(|| {
                stages.push(Stage::new(Placement::Inline));
                stages.len() - 1
            })
        } else if let Some(&upstream) = node.upstreams.first()
            && node.continues(&nodes[upstream])
        {
            level = levels[upstream];
            stage_of[upstream]
        } else {
            stages.push(Stage { options: Options::clone(&node.options), ..Stage::new(node.options.placement) });
            stages.len() - 1
        };
        stages[stage].nodes.push(index);
        stage_of.push(stage);
        levels.push(level);
    }
    (stages, stage_of)
}

impl PlanNode {
    fn is_fused_inline(&self) -> bool {
        self.options.placement == Placement::Inline && !self.options.needs_own_stage()
    }

    fn is_fused_thread(&self) -> bool {
        self.options.placement == Placement::Thread && !self.options.needs_own_stage() && !self.join
    }

    /// Whether this node runs on the thread or in the worker of an upstream node, which it shares with all of them.
    fn continues(&self, upstream: &Self) -> bool {
        if self.options.group.is_some() || upstream.options.group.is_some() {
            // All upstream nodes of the members of a group are members, except those of its first node.
            return self.options.group == upstream.options.group;
        }
        if self.upstreams.len() > 1 || !(self.options.is_placement_inherited && upstream.options.is_placement_inherited)
        {
            return false;
        }
        if self.options.placement == Placement::Process {
            // One worker is watched in one way: so both must ask for the same.
            return !self.join
                && self.options == upstream.options
                && !self.options.needs_own_worker()
                && upstream.downstreams.len() == 1;
        }
        self.is_fused_thread() && upstream.is_fused_thread()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::limits::DEFAULT_QUEUE_SIZE;
    use crate::plan::{NodeSpec, Plan};

    fn spec(id: &str, after: &[&str], options: &serde_json::Value) -> NodeSpec {
        NodeSpec {
            id: id.into(),
            after: after.iter().map(|&up| up.into()).collect(),
            options: Options::from_json(options.as_object().unwrap()).unwrap().into(),
            ..NodeSpec::default()
        }
    }

    /// The same with a placement that is a default of the session.
    fn inherited(id: &str, after: &[&str], options: &serde_json::Value) -> NodeSpec {
        let spec = spec(id, after, options);
        let options = Options { is_placement_inherited: true, ..Options::clone(&spec.options) };
        NodeSpec { options: options.into(), ..spec }
    }

    /// The nodes of each stage.
    fn stages(specs: &[NodeSpec]) -> Vec<String> {
        let plan = Plan::new("p", specs).unwrap();
        let names = |stage: &Stage| stage.nodes.iter().map(|&node| plan.nodes()[node].id.as_str()).collect();
        plan.stages().iter().map(names).collect()
    }

    #[test]
    fn a_node_with_a_placement_has_its_own_stage() {
        for placement in ["thread", "process"] {
            let placed = json!({"placement": placement});

            let apart = stages(&[spec("a", &[], &placed), spec("b", &["a"], &placed)]);
            let after_inherited = stages(&[inherited("a", &[], &placed), spec("b", &["a"], &placed)]);
            let before_inherited = stages(&[spec("a", &[], &placed), inherited("b", &["a"], &placed)]);

            assert_eq!([apart, after_inherited, before_inherited], [["a", "b"]; 3], "{placement}");
        }
    }

    #[test]
    fn neighbours_that_inherit_their_placement_share_a_stage() {
        for placement in ["thread", "process"] {
            let placed = json!({"placement": placement});

            let found = stages(&[
                inherited("a", &[], &placed),
                inherited("b", &["a"], &placed),
                inherited("c", &["b"], &placed),
            ]);

            assert_eq!(found, ["abc"], "{placement}");
        }
    }

    #[test]
    fn a_group_shares_a_stage_and_no_other_node_does() {
        for placement in ["thread", "process"] {
            let placed = json!({"placement": placement});
            let [left, right] = ["left", "right"].map(|group| json!({"placement": placement, "group": group}));

            let found = stages(&[
                inherited("a", &[], &placed),
                spec("b", &["a"], &left),
                inherited("c", &["b"], &left),
                inherited("d", &["c"], &right),
                spec("e", &["d"], &right),
                inherited("f", &["e"], &placed),
                inherited("g", &["f"], &placed),
            ]);

            assert_eq!(found, ["a", "bc", "de", "fg"], "{placement}");
        }
    }

    #[test]
    fn a_group_has_one_queue_and_the_replicas_of_all_its_nodes() {
        let options = json!({"placement": "thread", "group": "g", "queue_size": 8, "replicas": 2});
        let plan = Plan::new("p", &[spec("a", &[], &options), spec("b", &["a"], &options)]).unwrap();

        let [stage] = plan.stages() else { panic!("{:?}", plan.stages()) };

        assert_eq!((stage.threads(), stage.capacity(DEFAULT_QUEUE_SIZE)), (3, 8 + 2 * 2));
    }

    #[test]
    fn branches_of_a_group_meet_in_its_thread() {
        let group = json!({"placement": "thread", "group": "g"});
        let join = NodeSpec { join: true, ..spec("d", &["b", "c"], &group) };

        let found = stages(&[
            spec("in", &[], &json!({})),
            spec("a", &["in"], &group),
            spec("b", &["a"], &group),
            spec("c", &["a"], &group),
            join,
            spec("out", &["d", "in"], &json!({})),
        ]);

        assert_eq!(found, ["in", "abcd", "out"]);
    }

    #[test]
    fn a_group_changes_nothing_for_inline_nodes() {
        let [none, group] = [json!({}), json!({"group": "g"})];

        let found = stages(&[spec("a", &[], &none), spec("b", &["a"], &group), spec("c", &["b"], &group)]);

        assert_eq!(found, ["abc"]);
    }

    #[test]
    fn inline_nodes_with_a_queue_share_it_in_a_group() {
        let group = json!({"group": "g", "queue_size": 8});

        let found = stages(&[spec("a", &[], &json!({})), spec("b", &["a"], &group), spec("c", &["b"], &group)]);

        assert_eq!(found, ["a", "bc"]);
    }

    #[test]
    fn neighbours_that_are_watched_alike_share_a_worker() {
        let (once, twice) = (json!({"placement": "process", "max_restarts": 1}), json!({"placement": "process"}));

        let found =
            stages(&[inherited("a", &[], &once), inherited("b", &["a"], &once), inherited("c", &["b"], &twice)]);

        assert_eq!(found, ["ab", "c"]);
    }

    #[test]
    fn a_node_with_a_queue_or_a_policy_has_its_own_worker() {
        let process = json!({"placement": "process"});
        for (name, value) in
            [("replicas", 2), ("batch", 2), ("queue_size", 8), ("concurrency", 2), ("timeout", 1), ("retries", 1)]
        {
            let mut own = process.clone();
            own[name] = value.into();

            let found =
                stages(&[inherited("a", &[], &process), inherited("b", &["a"], &own), inherited("c", &["b"], &own)]);

            assert_eq!(found, ["a", "b", "c"], "{name}");
        }
    }

    #[test]
    fn branches_and_joins_have_their_own_workers() {
        let process = json!({"placement": "process"});
        let join = NodeSpec { join: true, ..inherited("d", &["b", "c"], &process) };

        let found = stages(&[
            inherited("a", &[], &process),
            inherited("b", &["a"], &process),
            inherited("c", &["a"], &process),
            join,
            inherited("e", &["d"], &process),
        ]);

        assert_eq!(found, ["a", "b", "c", "de"]);
    }

    #[test]
    fn a_stage_of_workers_says_what_it_takes() {
        let options = json!({"placement": "process", "replicas": 2, "queue_size": 8});
        let plan = Plan::new("p", &[spec("a", &[], &options)]).unwrap();

        let stage = &plan.stages()[0];

        let takes =
            (stage.workers(), stage.threads(), stage.width(DEFAULT_QUEUE_SIZE), stage.capacity(DEFAULT_QUEUE_SIZE));
        assert_eq!(takes, (2, 4, 2 * 16, 8 + 2 * 32));
        assert!(stage.is_parallel() && !plan.is_direct());
    }

    #[test]
    fn few_items_are_with_a_worker_where_that_is_asked_for() {
        let width = |options: serde_json::Value| {
            let mut options = options;
            options["placement"] = json!("process");
            Plan::new("p", &[spec("a", &[], &options)]).unwrap().stages()[0].width(DEFAULT_QUEUE_SIZE)
        };

        assert_eq!(width(json!({})), ITEMS_IN_FLIGHT);
        assert_eq!(width(json!({"queue_size": 1000})), ITEMS_IN_FLIGHT);
        assert_eq!(width(json!({"queue_size": 3})), 6);
        assert_eq!(width(json!({"queue_size": 3, "when_full": "drop_oldest"})), 2);
        assert_eq!(width(json!({"concurrency": 5})), ITEMS_IN_FLIGHT);
        assert_eq!(width(json!({"concurrency": 500})), 500);
        assert_eq!(width(json!({"concurrency": 5, "queue_size": 1})), 5);
        assert_eq!(width(json!({"concurrency": 5, "when_full": "drop_oldest"})), 5);
        assert_eq!(width(json!({"batch": 8, "replicas": 2})), 16);
    }
}
