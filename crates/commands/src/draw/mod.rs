//! Pictures of plans.

mod dot;
mod layout;
mod mermaid;
mod rails;
mod svg;
mod text;

use std::str::FromStr;

use clap::ValueEnum;
use remotemedia_runtime::{Plan, PlanNode, did_you_mean};

use crate::table::{counted, on_one_line};

/// Names of groups and of functions may be long.
const OPTION_LIMIT: usize = 32;

/// So may those of nodes, where a picture has no width of its own.
const LABEL_LIMIT: usize = 60;

/// What a plan is drawn as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Lines and boxes for a terminal
    Text,
    /// A Mermaid flowchart, for Markdown pages
    Mermaid,
    /// A Graphviz graph
    Dot,
    /// A self-contained image, for light and dark pages
    Svg,
}

impl FromStr for GraphFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        <Self as ValueEnum>::from_str(name, false).map_err(|_| {
            let hint = did_you_mean(name, ["text", "mermaid", "dot", "svg"]);
            format!("'{name}' is not a graph format; use text, mermaid, dot or svg{hint}")
        })
    }
}

/// A picture of `plan`: its nodes, the connections between them, and where they run.
pub fn draw(plan: &Plan, format: GraphFormat) -> String {
    match format {
        GraphFormat::Text => text::draw(plan),
        GraphFormat::Mermaid => mermaid::draw(plan),
        GraphFormat::Dot => dot::draw(plan),
        GraphFormat::Svg => svg::draw(plan),
    }
}

/// The connections, as indices of nodes, in plan order of the receiving node.
fn connections(plan: &Plan) -> impl Iterator<Item = (usize, usize)> {
    let edges =
        |(index, node): (usize, &PlanNode)| node.upstreams.clone().into_iter().map(move |upstream| (upstream, index));
    plan.nodes().iter().enumerate().flat_map(edges)
}

/// Whether items wait in a queue on the way from one node to another.
fn is_queue(plan: &Plan, from: usize, to: usize) -> bool {
    plan.stage_of(from) != plan.stage_of(to)
}

/// The options of a node that are not the usual ones: `replicas 4`, `timeout 2 s`. A group is among them unless its stage shows it.
pub(crate) fn shown_options(plan: &Plan, index: usize) -> Vec<String> {
    let is_group_shown = group_of(plan, plan.stage_of(index)).is_some();
    let options = plan.nodes()[index].options.differing().into_iter();
    let options = options.filter(|(name, _)| !(is_group_shown && *name == "group"));
    options.map(|(name, value)| format!("{name} {}", on_one_line(&value, OPTION_LIMIT))).collect()
}

/// The name of the group that is a stage.
pub(crate) fn group_of(plan: &Plan, stage: usize) -> Option<String> {
    plan.stages()[stage].options.group.as_ref().map(|group| on_one_line(group, OPTION_LIMIT))
}

/// The options of a node on one line.
fn options(plan: &Plan, index: usize) -> String {
    shown_options(plan, index).join(" · ")
}

/// The colour of what is apart from the program: the frame of a stage that runs in workers.
const WORKER_COLOUR: &str = "#4c63e6";

/// `stage 2 · inline`, `stage 3 · process · 2 workers`, `stage 4 · thread · group speech`.
fn stage_label(plan: &Plan, number: usize) -> String {
    let stage = &plan.stages()[number];
    let workers =
        if stage.workers() > 1 { format!(" · {}", counted(stage.workers(), "worker")) } else { String::new() };
    let group = group_of(plan, number).map_or_else(String::new, |group| format!(" · group {group}"));
    format!("stage {} · {}{workers}{group}", number + 1, stage.placement.name())
}

/// What a picture that others lay out says about a node: its id, its type and its options, as far as there are such.
fn label_lines(plan: &Plan, index: usize) -> impl Iterator<Item = String> {
    let (id, node_type) = labels(&plan.nodes()[index], LABEL_LIMIT);
    [id, node_type, options(plan, index)].into_iter().filter(|line| !line.is_empty())
}

/// The id and the type of a node, each short enough for a box.
fn labels(node: &PlanNode, limit: usize) -> (String, String) {
    (on_one_line(&node.id, limit), on_one_line(&node.node_type, limit))
}
