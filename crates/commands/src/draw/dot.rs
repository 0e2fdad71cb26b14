//! Plans as Graphviz graphs.

use remotemedia_runtime::Plan;

use super::{WORKER_COLOUR, connections, is_queue, label_lines, stage_label};

pub(super) fn draw(plan: &Plan) -> String {
    let mut text = format!("digraph \"{}\" {{\n", escaped(plan.name()));
    text += "    rankdir=LR;\n";
    text += "    fontname=\"sans-serif\";\n";
    text += "    node [shape=box, style=rounded, fontname=\"sans-serif\"];\n";
    for (number, stage) in plan.stages().iter().enumerate() {
        text += &format!("    subgraph cluster_{number} {{\n");
        text +=
            &format!("        label=\"{}\";\n        style=\"rounded,dashed\";\n", escaped(&stage_label(plan, number)));
        if stage.workers() > 0 {
            text += &format!("        color=\"{WORKER_COLOUR}\";\n");
        }
        for &index in &stage.nodes {
            let node = &plan.nodes()[index];
            let shape = if node.join { ", shape=hexagon" } else { "" };
            let label = label_lines(plan, index).map(|line| escaped(&line)).collect::<Vec<_>>().join("\\n");
            text += &format!("        n{index} [label=\"{label}\"{shape}];\n");
        }
        text += "    }\n";
    }
    for (from, to) in connections(plan) {
        text += &format!("    n{from} -> n{to}{};\n", if is_queue(plan, from, to) { " [style=dashed]" } else { "" });
    }
    text + "}\n"
}

/// Inside quotes, where a backslash begins an escape and `&` an entity.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\0', "")
}
