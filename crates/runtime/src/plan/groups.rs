//! Groups: neighbours that share a stage because their options say so.
//!
//! A group has one *first* node; all upstream nodes of its other members are members, too. Whatever enters the group enters it at
//! its first node, so no stage waits for itself by way of another one.

use std::collections::HashMap;

use super::PlanNode;
use crate::error::{Error, Result};
use crate::options::{Options, Placement};

/// The options of a stage: its nodes have the same values.
const STAGE_OPTIONS: [&str; 8] = [
    "replicas",
    "ordered",
    "queue_size",
    "when_full",
    "max_restarts",
    "restart_window",
    "initialize_timeout",
    "snapshot_every",
];

/// The options of a stage of one node.
const SINGLE_NODE_OPTIONS: [&str; 2] = ["concurrency", "batch"];

/// The options that are about one node, and are applied where its worker is supervised.
const SINGLE_WORKER_OPTIONS: [&str; 5] = ["on_error", "dead_letter", "retries", "retry_delay", "timeout"];

/// Refuse groups whose members cannot share a stage. The nodes are in plan order.
pub(super) fn check(nodes: &[PlanNode]) -> Result<()> {
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let Some(group) = node.options.group.as_deref() else { continue };
        let first = *first_of.entry(group).or_insert(index);
        if first == index {
            continue;
        }
        let problem = misplaced(nodes, node).or_else(|| different(&nodes[first], node));
        let problem = problem.or_else(|| unfit_for_worker(nodes, &nodes[first], node));
        if let Some(problem) = problem {
            let [first, second] = [first, index].map(|node| nodes[node].id.clone());
            return Err(Error::Group { group: group.to_owned(), first, second, problem });
        }
    }
    Ok(())
}

/// Why a node does not continue its group.
fn misplaced(nodes: &[PlanNode], node: &PlanNode) -> Option<String> {
    let id = &node.id;
    let (inside, outside): (Vec<usize>, Vec<usize>) =
        node.upstreams.iter().partition(|&&upstream| nodes[upstream].options.group == node.options.group);
    match (inside.first(), outside.first()) {
        (Some(_), None) => None,
        (Some(_), Some(&other)) => Some(format!(
            "'{id}' also comes after '{0}', which is not in the group; put '{0}' into the group, or '{id}' into another one",
            nodes[other].id
        )),
        (None, _) => Some(format!(
            "they are not neighbours: '{id}' comes after no node of the group; \
             put the nodes between them into the group, or '{id}' into another one"
        )),
    }
}

/// In which option of their stage two nodes differ.
fn different(first: &PlanNode, second: &PlanNode) -> Option<String> {
    let placements = [first, second].map(|node| node.options.placement);
    if placements[0] != placements[1] {
        let [first, second] = placements.map(Placement::name);
        return Some(differ("placement", first, second));
    }
    let written = [first, second].map(|node| node.options.differing());
    let value_of = |node: usize, name: &str| written[node].iter().find(|(other, _)| *other == name);
    for name in SINGLE_NODE_OPTIONS {
        if let Some(node) = (0..2).find(|&node| value_of(node, name).is_some()) {
            let id = &[first, second][node].id;
            return Some(format!("{name} requires a stage of one node; remove {name} or the group from '{id}'"));
        }
    }
    let name = STAGE_OPTIONS.into_iter().find(|name| value_of(0, name) != value_of(1, name))?;
    let [first, second] = [0, 1].map(|node| value_of(node, name).map_or("not set", |(_, value)| value.as_str()));
    Some(differ(name, first, second))
}

fn differ(name: &str, first: &str, second: &str) -> String {
    format!("they have different values of {name} ({first}, {second}); give both the same value")
}

/// Why two nodes cannot share a worker, if their placement asks for one.
fn unfit_for_worker(nodes: &[PlanNode], first: &PlanNode, second: &PlanNode) -> Option<String> {
    if second.options.placement != Placement::Process {
        return None;
    }
    for node in [first, second] {
        if let Some(name) = single_worker_option(&node.options) {
            return Some(format!(
                "{name} requires a worker of one node; remove {name} or the group from '{}'",
                node.id
            ));
        }
    }
    let chain = "the nodes of a worker must form a chain";
    if second.join || second.upstreams.len() > 1 {
        return Some(format!("{chain}, and branches meet at '{0}'; put '{0}' into another group", second.id));
    }
    let upstream = &nodes[second.upstreams[0]];
    let other = upstream.downstreams.iter().map(|&other| &nodes[other]).find(|other| other.id != second.id)?;
    Some(format!(
        "{chain}, and '{}' comes after '{}', too; put '{}' into another group",
        other.id, upstream.id, second.id
    ))
}

fn single_worker_option(options: &Options) -> Option<&'static str> {
    let written = options.differing();
    written.iter().map(|(name, _)| *name).find(|name| SINGLE_WORKER_OPTIONS.contains(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::options::Options;
    use crate::plan::{NodeSpec, Plan};

    /// A node of the group `g`, unless its options name another one.
    fn spec(id: &str, after: &[&str], options: &Value) -> NodeSpec {
        let mut written = json!({"group": "g", "placement": "thread"});
        written.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        NodeSpec {
            id: id.into(),
            after: after.iter().map(|&up| up.into()).collect(),
            options: Options::from_json(written.as_object().unwrap()).unwrap().into(),
            ..NodeSpec::default()
        }
    }

    fn problem(specs: &[NodeSpec]) -> String {
        Plan::new("p", specs).unwrap_err().to_string()
    }

    #[test]
    fn members_that_are_not_neighbours_are_refused() {
        let found = problem(&[
            spec("a", &[], &json!({})),
            spec("b", &["a"], &json!({"group": null})),
            spec("c", &["b"], &json!({})),
        ]);

        assert_eq!(
            found,
            "nodes 'a' and 'c' are in group 'g', but they are not neighbours: 'c' comes after no node of the group; \
             put the nodes between them into the group, or 'c' into another one"
        );
    }

    #[test]
    fn two_beginnings_are_not_neighbours() {
        let found = problem(&[spec("a", &[], &json!({})), spec("b", &[], &json!({}))]);

        assert!(found.contains("they are not neighbours: 'b' comes after no node of the group"), "{found}");
    }

    #[test]
    fn a_member_that_comes_after_another_stage_too_is_refused() {
        let found = problem(&[
            spec("a", &[], &json!({})),
            spec("b", &["a"], &json!({"group": null})),
            spec("c", &["a", "b"], &json!({})),
        ]);

        assert_eq!(
            found,
            "nodes 'a' and 'c' are in group 'g', but 'c' also comes after 'b', which is not in the group; \
             put 'b' into the group, or 'c' into another one"
        );
    }

    #[test]
    fn members_have_the_same_options_of_a_stage() {
        let process = json!({"placement": "process"});
        for (first, second, text) in [
            (json!({}), process.clone(), "placement (thread, process)"),
            (json!({}), json!({"queue_size": 8}), "queue_size (not set, 8)"),
            (json!({"replicas": 2}), json!({}), "replicas (2, not set)"),
            (json!({"placement": "process", "max_restarts": 1}), process.clone(), "max_restarts (1, not set)"),
        ] {
            let found = problem(&[spec("a", &[], &first), spec("b", &["a"], &second)]);

            let text = format!("they have different values of {text}; give both the same value");
            assert_eq!(found, format!("nodes 'a' and 'b' are in group 'g', but {text}"));
        }
    }

    #[test]
    fn options_of_one_node_are_refused() {
        for (placement, name, value, what) in [
            ("thread", "concurrency", 2, "stage"),
            ("thread", "batch", 2, "stage"),
            ("process", "batch", 2, "stage"),
            ("process", "timeout", 2, "worker"),
            ("process", "retries", 2, "worker"),
        ] {
            let mut options = json!({"placement": placement});
            options[name] = value.into();

            let found = problem(&[spec("a", &[], &json!({"placement": placement})), spec("b", &["a"], &options)]);

            let text = format!("{name} requires a {what} of one node; remove {name} or the group from 'b'");
            assert_eq!(found, format!("nodes 'a' and 'b' are in group 'g', but {text}"));
        }
    }

    #[test]
    fn a_group_of_a_worker_is_a_chain() {
        let process = json!({"placement": "process"});

        let found = problem(&[
            spec("a", &[], &process),
            spec("b", &["a"], &process),
            spec("c", &["a"], &json!({"group": null})),
        ]);

        assert_eq!(
            found,
            "nodes 'a' and 'b' are in group 'g', but the nodes of a worker must form a chain, and 'c' comes after 'a', \
             too; put 'b' into another group"
        );
    }

    #[test]
    fn branches_do_not_meet_in_a_worker() {
        let process = json!({"placement": "process"});
        let join = NodeSpec { join: true, ..spec("b", &["a"], &process) };

        let found = problem(&[spec("a", &[], &process), join]);

        assert!(found.ends_with("must form a chain, and branches meet at 'b'; put 'b' into another group"), "{found}");
    }
}
