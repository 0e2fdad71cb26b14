//! Plans as text: one node a line, and lines between them for the connections.

use remotemedia_runtime::{Plan, PlanNode};
use unicode_width::UnicodeWidthStr;

use super::rails::{self, Row};
use super::{connections, is_queue, labels, options, stage_label};
use crate::table::{columns, counted, on_one_line};

const LABEL_LIMIT: usize = 32;
/// More rails than this leave no room for names in a terminal of 100 columns.
const MAX_RAILS: usize = 16;
const LEGEND: &str = "\n  ┊ a queue\n";

pub(super) fn draw(plan: &Plan) -> String {
    let heading = format!(
        "{}: {} in {}\n\n",
        on_one_line(plan.name(), 60),
        counted(plan.nodes().len(), "node"),
        counted(plan.stages().len(), "stage")
    );
    let body = match rails::rows(plan, MAX_RAILS) {
        Some(rows) => with_rails(plan, &rows),
        None => listed(plan),
    };
    let has_queues = connections(plan).any(|(from, to)| is_queue(plan, from, to));
    heading + &body + if has_queues { LEGEND } else { "" }
}

fn with_rails(plan: &Plan, rows: &[Row]) -> String {
    let rail_width = rows.iter().map(|row| row.rails.width()).max().unwrap_or(0);
    let cells: Vec<Vec<String>> = rows.iter().filter_map(|row| row.node).map(|index| cells(plan, index)).collect();
    let names = columns(&cells, &[], "");
    let mut names = names.lines();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("  {}", row.rails);
        if row.node.is_some() {
            line += &" ".repeat(rail_width - row.rails.width() + 2);
            line += names.next().unwrap_or_default();
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cells(plan: &Plan, index: usize) -> Vec<String> {
    let node = &plan.nodes()[index];
    let (id, node_type) = labels(node, LABEL_LIMIT);
    let mut facts = options(plan, index);
    if node.join {
        facts.insert_str(0, if facts.is_empty() { "join" } else { "join · " });
    }
    vec![id, node_type, stage_label(plan, plan.stage_of(index)), facts]
}

/// For plans that are too wide to draw: each node with what it comes after.
fn listed(plan: &Plan) -> String {
    let rows: Vec<Vec<String>> = plan
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let mut row = cells(plan, index);
            row[3] = options(plan, index);
            row.insert(3, upstreams(plan, node));
            row
        })
        .collect();
    columns(&rows, &[], "  ")
}

fn upstreams(plan: &Plan, node: &PlanNode) -> String {
    const SHOWN: usize = 4;
    if node.upstreams.is_empty() {
        return String::new();
    }
    let ids = node.upstreams.iter().take(SHOWN).map(|&index| on_one_line(&plan.nodes()[index].id, LABEL_LIMIT));
    let mut text = if node.join { "joins " } else { "after " }.to_owned();
    text += &ids.collect::<Vec<_>>().join(", ");
    if node.upstreams.len() > SHOWN {
        text += &format!(" and {} more", node.upstreams.len() - SHOWN);
    }
    text
}
