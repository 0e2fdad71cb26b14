//! Plans as Mermaid flowcharts.

use remotemedia_runtime::Plan;

use super::{WORKER_COLOUR, connections, is_queue, label_lines, stage_label};

pub(super) fn draw(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, stage) in plan.stages().iter().enumerate() {
        text += &format!("    subgraph stage{}[\"{}\"]\n", number + 1, escaped(&stage_label(plan, number)));
        for &index in &stage.nodes {
            let node = &plan.nodes()[index];
            let label = label_lines(plan, index).map(|line| escaped(&line)).collect::<Vec<_>>().join("<br/>");
            // A hexagon stands for a join.
            let (open, close) = if node.join { ("{{", "}}") } else { ("[", "]") };
            text += &format!("        n{index}{open}\"{label}\"{close}\n");
        }
        text += "    end\n";
        if stage.workers() > 0 {
            text += &format!("    style stage{} stroke:{WORKER_COLOUR},stroke-width:2px\n", number + 1);
        }
    }
    for (from, to) in connections(plan) {
        // A dotted line stands for a queue.
        text += &format!("    n{from} {} n{to}\n", if is_queue(plan, from, to) { "-.->" } else { "-->" });
    }
    text
}

/// Mermaid reads Markdown, HTML and entities in quoted labels: everything but characters, digits and harmless marks is an entity.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut before = None;
    let mut characters = text.chars().peekable();
    // `1. x`, `- x` and the like would begin a list.
    let mut may_begin_list = true;
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        let is_harmless = match character {
            // Inside a word it is not emphasis.
            '_' => before.is_some_and(char::is_alphanumeric) && next.is_some_and(char::is_alphanumeric),
            '.' | ')' | '-' | '+' => !(may_begin_list && next == Some(' ')),
            _ => character.is_alphanumeric() || " ,:/(=…·".contains(character),
        };
        if is_harmless {
            safe.push(character);
        } else {
            safe += &format!("#{};", u32::from(character));
        }
        may_begin_list &= character.is_ascii_digit();
        before = Some(character);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mermaid_would_read_as_marks_is_escaped() {
        let texts = ["speech_to_text_0", "__main__", "a_", "1. load", "v1.2 (x) - y", "- z", "a<b>\"c\"#d;`*"];

        let escaped: Vec<String> = texts.iter().map(|text| escaped(text)).collect();

        assert_eq!(
            escaped,
            [
                "speech_to_text_0",
                "#95;#95;main#95;#95;",
                "a#95;",
                "1#46; load",
                "v1.2 (x) - y",
                "#45; z",
                "a#60;b#62;#34;c#34;#35;d#59;#96;#42;"
            ]
        );
    }
}
