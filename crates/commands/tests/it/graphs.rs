//! Pictures of plans.

use remotemedia_commands::{GraphFormat, draw};
use remotemedia_runtime::{NodeSpec, Options, Plan};
use serde_json::json;

use crate::program::Desk;

const NASTY: &str = "a\"<b>&'\n`c`#quot;]}--> \u{1}\\";

/// A plan from `id<upstream,upstream` words; `id&upstream,…` is a join.
fn plan(words: &str) -> Plan {
    let specs: Vec<NodeSpec> = words
        .split_whitespace()
        .map(|word| {
            let (id, after) = word.split_once(['<', '&']).unwrap_or((word, ""));
            let after = after.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
            NodeSpec { id: id.into(), node_type: "Node".into(), after, join: word.contains('&'), ..NodeSpec::default() }
        })
        .collect();
    Plan::new("p", &specs).unwrap()
}

fn nasty_plan() -> Plan {
    let first = NodeSpec { id: NASTY.into(), node_type: NASTY.into(), ..NodeSpec::default() };
    let second = NodeSpec { id: "b".into(), after: vec![NASTY.into()], ..NodeSpec::default() };
    Plan::new(NASTY, &[first, second]).unwrap()
}

/// The rails of a text picture alone, without the names.
fn rails(words: &str) -> Vec<String> {
    let text = draw(&plan(words), GraphFormat::Text);
    let cut =
        |line: &str| line.split(|character: char| character.is_ascii_alphabetic()).next().unwrap().trim().to_owned();
    text.lines().skip(2).map(cut).collect()
}

#[test]
fn a_chain_runs_straight_down() {
    assert_eq!(
        draw(&plan("one two<one"), GraphFormat::Text),
        "p: 2 nodes in 1 stage\n\n  ●  one  Node  stage 1 · inline\n  │\n  ●  two  Node  stage 1 · inline\n"
    );
}

#[test]
fn a_single_node_is_a_picture_too() {
    assert_eq!(rails("a"), ["●"]);
    assert!(draw(&plan("a"), GraphFormat::Svg).contains(">a</text>"));
}

#[test]
fn branches_part_and_meet() {
    assert_eq!(
        rails("a b<a c<a d<a e&b,c,d"),
        ["●", "├─┬─╮", "● │ │", "│ │ │", "│ ● │", "│ │ │", "│ │ ●", "├─┴─╯", "◆"]
    );
}

#[test]
fn a_connection_passes_others_on_its_way() {
    assert_eq!(
        rails("a b<a x<a c<b d<b e<x f<c,d"),
        ["●", "├─╮", "● │", "├─┼─╮", "│ ● │", "│ │ │", "● │ │", "│ │ │", "│ │ ●", "│ │ │", "│ ● │", "├───╯", "●"]
    );
}

#[test]
fn several_starts_stand_side_by_side() {
    assert_eq!(rails("a b c<a,b"), ["●", "│", "│ ●", "├─╯", "●"]);
}

#[test]
fn a_plan_too_wide_for_a_terminal_is_listed() {
    let ids: Vec<String> = (0..60).map(|number| format!("b{number}")).collect();
    let words = format!("a {}<a end<{}", ids.join("<a "), ids.join(","));

    let text = draw(&plan(&words), GraphFormat::Text);

    assert!(text.contains("  b7   Node  stage 1 · inline  after a\n"), "{text}");
    assert!(text.ends_with("  end  Node  stage 1 · inline  after b0, b1, b2, b3 and 56 more\n"), "{text}");
}

#[test]
fn mermaid_names_nodes_by_number_and_escapes_labels() {
    let text = draw(&nasty_plan(), GraphFormat::Mermaid);

    let label = "a#34;#60;b#62;#38;#39;#92;n#96;c#96;#35;quot#59;#93;#125;--#62; #92;u#123;1#125;#92;";
    assert_eq!(
        text,
        format!(
            "flowchart LR\n    subgraph stage1[\"stage 1 · inline\"]\n        n0[\"{label}<br/>{label}\"]\n        \
             n1[\"b\"]\n    end\n    n0 --> n1\n"
        )
    );
}

fn plan_of_workers() -> Plan {
    let spec = |id: &str, after: &[&str], options: serde_json::Value| NodeSpec {
        id: id.into(),
        after: after.iter().map(|&id| id.into()).collect(),
        options: Options::from_json(options.as_object().unwrap()).unwrap().into(),
        ..NodeSpec::default()
    };
    let process = json!({"placement": "process", "replicas": 2, "max_restarts": 5});
    Plan::new("p", &[spec("a", &[], json!({})), spec("b", &["a"], process)]).unwrap()
}

#[test]
fn workers_stand_in_a_frame_of_their_own_colour() {
    let plan = plan_of_workers();
    let drawn = |format| draw(&plan, format);

    assert!(drawn(GraphFormat::Text).contains("stage 2 · process · 2 workers  replicas 2 · max_restarts 5\n"));
    assert!(drawn(GraphFormat::Mermaid).contains("    style stage2 stroke:#4c63e6,stroke-width:2px\n"));
    assert!(drawn(GraphFormat::Dot).contains("        color=\"#4c63e6\";\n"));
    assert_eq!(drawn(GraphFormat::Svg).matches("<rect class=\"frame worker\"").count(), 1);
}

#[test]
fn a_stage_shows_the_name_of_its_group() {
    let options = json!({"placement": "thread", "group": "a\"<b>\n", "timeout": 2});
    let options = Options::from_json(options.as_object().unwrap()).unwrap();
    let spec = |id: &str, after: &[&str]| NodeSpec {
        id: id.into(),
        after: after.iter().map(|&id| id.into()).collect(),
        options: options.clone().into(),
        ..NodeSpec::default()
    };
    let plan = Plan::new("p", &[spec("a", &[]), spec("b", &["a"])]).unwrap();
    let drawn = |format| draw(&plan, format);

    assert!(drawn(GraphFormat::Text).contains("stage 1 · thread · group a\"<b>\\n  timeout 2 s\n"));
    assert!(drawn(GraphFormat::Mermaid).contains("    subgraph stage1[\"stage 1 · thread · group a#34;#60;b#62;"));
    assert!(drawn(GraphFormat::Dot).contains("label=\"stage 1 · thread · group a\\\"<b>"));
    assert!(drawn(GraphFormat::Svg).contains("stage 1 · thread · group a&quot;&lt;b&gt;"));
}

#[test]
fn mermaid_shows_a_join_as_a_hexagon() {
    let text = draw(&plan("a b<a c<a d&b,c"), GraphFormat::Mermaid);

    assert!(text.contains("n3{{\"d<br/>Node\"}}"), "{text}");
    assert!(text.ends_with("    n0 --> n1\n    n0 --> n2\n    n1 --> n3\n    n2 --> n3\n"), "{text}");
}

#[test]
fn dot_closes_every_quote() {
    let text = draw(&nasty_plan(), GraphFormat::Dot);

    let unescaped = text.replace("\\\\", "").replace("\\\"", "");
    assert!(unescaped.lines().all(|line| line.matches('"').count() % 2 == 0), "{text}");
    assert!(text.contains("    n0 -> n1;\n"), "{text}");
}

#[test]
fn svg_has_every_node_connection_and_stage_and_no_stray_mark() {
    let text = draw(&nasty_plan(), GraphFormat::Svg);

    assert_eq!(text.matches("<path class=\"edge\"").count(), 1);
    assert_eq!(text.matches("<rect class=\"box\"").count(), 2);
    assert_eq!(text.matches("<rect class=\"frame\"").count(), 1);
    assert!(text.contains("a&quot;&lt;b&gt;&amp;'\\n`c`#quot;"), "{text}");
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
}

#[test]
fn svg_marks_joins_and_needs_nothing_else() {
    let text = draw(&plan("a b<a c<a d&b,c"), GraphFormat::Svg);

    assert_eq!(text.matches(">join</text>").count(), 1);
    assert!(text.contains("prefers-color-scheme:dark"));
    assert_eq!(text.matches("http").count(), 1, "the namespace alone");
}

#[test]
fn two_hundred_nodes_are_drawn_in_every_format() {
    let words: String = (0..200)
        .map(|number| match number {
            0 => "n0 ".to_owned(),
            number if number % 3 == 0 => format!("n{number}<n{},n{} ", number - 1, number / 2),
            number => format!("n{number}<n{} ", number - 1),
        })
        .collect();
    let plan = plan(&words);

    for format in [GraphFormat::Text, GraphFormat::Mermaid, GraphFormat::Dot, GraphFormat::Svg] {
        let text = draw(&plan, format);
        assert!((0..200).all(|number| text.contains(&format!("n{number}"))), "{format:?}");
    }
    assert_eq!(draw(&plan, GraphFormat::Svg).matches("<path class=\"edge\"").count(), 199 + 66);
}

#[test]
fn format_names_are_read_and_mistypings_get_a_suggestion() {
    assert_eq!("svg".parse(), Ok(GraphFormat::Svg));
    assert_eq!(
        "mermiad".parse::<GraphFormat>(),
        Err("'mermiad' is not a graph format; use text, mermaid, dot or svg; did you mean 'mermaid'?".to_owned())
    );
}

#[test]
fn the_picture_goes_to_stdout_or_to_a_file_by_its_name() {
    let desk = Desk::new();

    desk.run("graph diamond --output out.svg").good();

    assert_eq!(desk.run("graph diamond --format svg").good(), std::fs::read_to_string(desk.path("out.svg")).unwrap());
    assert!(desk.run("graph diamond").good().starts_with("diamond: 4 nodes in 1 stage\n"));
}
