//! Plans as Mermaid flowcharts.

use remotemedia_runtime::Plan;

use super::{connections, labels, stage_label};

const LABEL_LIMIT: usize = 60;

pub(super) fn draw(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, stage) in plan.stages().iter().enumerate() {
        text += &format!("    subgraph stage{number}[\"{}\"]\n", stage_label(plan, number));
        for &index in &stage.nodes {
            let node = &plan.nodes()[index];
            let (id, node_type) = labels(node, LABEL_LIMIT);
            let label = if node_type.is_empty() {
                escaped(&id)
            } else {
                format!("{}<br/>{}", escaped(&id), escaped(&node_type))
            };
            // A hexagon stands for a join.
            let (open, close) = if node.join { ("{{", "}}") } else { ("[", "]") };
            text += &format!("        n{index}{open}\"{label}\"{close}\n");
        }
        text += "    end\n";
    }
    for (from, to) in connections(plan) {
        text += &format!("    n{from} --> n{to}\n");
    }
    text
}

/// Mermaid reads Markdown, HTML and entities in quoted labels: everything but letters, digits and harmless marks is an entity.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_alphanumeric() || " .,:-+/()=…".contains(letter) {
            safe.push(letter);
        } else {
            safe += &format!("#{};", u32::from(letter));
        }
    }
    safe
}
