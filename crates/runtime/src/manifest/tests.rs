use std::fmt::Write;

use super::*;

fn message(text: &str) -> String {
    Manifest::parse(text).unwrap_err().to_string()
}

fn yaml_nodes(rest: &str) -> String {
    format!("version: v1\nnodes:\n- node_type: PassThroughNode\n{rest}")
}

fn params(text: &str) -> Value {
    Value::Object(Manifest::parse(text).unwrap().nodes()[0].params.clone())
}

#[test]
fn json_and_yaml_describe_the_same_pipeline() {
    let json = r#"{
        "version": "v1",
        "metadata": {"name": "calc"},
        "nodes": [
            {"id": "in", "node_type": "PassThroughNode", "params": {}},
            {"id": "add", "node_type": "CalculatorNode", "params": {"operation": "add", "operand": 1.5},
             "options": {"placement": "inline"}, "join": true}
        ],
        "connections": [{"from": "in", "to": "add"}]
    }"#;
    let yaml = "# A comment.\nversion: v1\nmetadata: {name: calc}\nnodes:\n- {id: in, node_type: PassThroughNode}\n\
                - id: add\n  node_type: CalculatorNode\n  params:\n    operation: add\n    operand: 1.5\n  \
                options: {placement: inline}\n  join: true\nconnections:\n- {from: in, to: add}\n";

    let (json, yaml) = (Manifest::parse(json).unwrap(), Manifest::parse(yaml).unwrap());

    assert_eq!(json.to_json_value(), yaml.to_json_value());
    assert_eq!(json.name(), "calc");
    assert_eq!(json.nodes()[1].line, 6);
    assert_eq!(yaml.nodes()[1].line, 6);
    assert_eq!(yaml.specs()[1].after, ["in"]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let manifest = Manifest::parse("version: v1\nnodes:\n- node_type: A\n- node_type: package.module:Klass\n").unwrap();

    let ids: Vec<&str> = manifest.nodes().iter().map(|node| node.id.as_str()).collect();
    assert_eq!(manifest.name(), "pipeline");
    assert_eq!(ids, ["A_0", "Klass_1"]);
    assert_eq!(manifest.connections(), None);
    assert_eq!(manifest.specs()[1].after, ["A_0"]);
}

#[test]
fn empty_connections_leave_every_node_at_the_input() {
    let manifest = Manifest::parse("version: v1\nnodes: [{node_type: A}, {node_type: B}]\nconnections: []").unwrap();

    assert!(manifest.specs().iter().all(|spec| spec.after.is_empty()));
}

#[test]
fn upstream_nodes_are_ordered_as_their_connections() {
    let text = "version: v1\nnodes: [{node_type: A, id: a}, {node_type: B, id: b}, {node_type: C, id: c}]\n\
                connections: [{from: b, to: c}, {from: a, to: c}]";

    assert_eq!(Manifest::parse(text).unwrap().specs()[2].after, ["b", "a"]);
}

#[test]
fn fields_of_older_manifests_are_listed_as_ignored() {
    let text = r#"{"version": "v1", "metadata": {"name": "x", "created_at": "2024"}, "execution": {},
        "nodes": [{"node_type": "A", "host": "h", "capabilities": {"gpu": null}, "is_streaming": true}]}"#;

    let manifest = Manifest::parse(text).unwrap();

    let expected =
        ["metadata.created_at", "execution", "nodes[0].host", "nodes[0].capabilities", "nodes[0].is_streaming"];
    let mut ignored = manifest.ignored().to_vec();
    ignored.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(ignored, sorted);
}

#[test]
fn a_text_that_is_not_a_manifest_is_refused_at_its_line() {
    let cases = [
        ("", "line 1: the text is empty; a manifest has a version (\"v1\") and nodes"),
        ("hello", "line 1: expected a manifest (an object with version and nodes), found the string 'hello'"),
        ("\n[1]", "line 2: expected a manifest (an object with version and nodes), found a list"),
        ("{\n\"version\": \"v1\",}", "line 2: not valid JSON: key must be a string (column 17)"),
        ("a: 1\nb: 'open", "line 2: not valid YAML: unclosed quote (column 4)"),
        (
            "a: 1\n---\nb: 1",
            "line 2: not valid YAML: a second document starts here; a manifest must be one document (column 1)",
        ),
        ("a: *b", "line 1: not valid YAML: alias references unknown anchor (column 4)"),
        (
            "a: !!python/object:os.system {}",
            "line 1: not valid YAML: unsupported tag `!!python/object:os.system` (column 30)",
        ),
    ];

    for (text, expected) in cases {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn the_version_is_asked_for() {
    assert_eq!(message("{\"nodes\": []}"), "line 1, version: missing; add \"version\": \"v1\"");
    assert_eq!(message("version: v2"), "line 1, version: expected \"v1\", found the string 'v2'");
    assert_eq!(message("{\n\"version\": 1}"), "line 2, version: expected \"v1\", found the number 1");
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_stands_there() {
    let cases = [
        ("version: v1", "line 1, nodes: missing; add the list of nodes"),
        ("version: v1\nnodes: 3", "line 2, nodes: expected a list, found the number 3"),
        (
            "version: v1\nnodes:\n- A",
            "line 3, nodes[0]: expected a node (an object with node_type and params), found the string 'A'",
        ),
        (
            "version: v1\nnodes:\n- id: a",
            "line 3, nodes[0].node_type: missing; add the type of the node, such as \"PassThroughNode\"",
        ),
        (
            "version: v1\nnodes:\n- id: a\n  node_type: [1]",
            "line 4, nodes[0].node_type: expected a string, found a list",
        ),
        ("version: v1\nnodes:\n- id: 1\n  node_type: A", "line 3, nodes[0].id: expected a string, found the number 1"),
        ("version: v1\nnodes:\n- node_type: ' '", "line 3, nodes[0].node_type: must not be empty"),
        (&yaml_nodes("  params:\n    - a"), "line 4, nodes[0].params: expected an object, found a list"),
        (&yaml_nodes("  params: null"), "line 4, nodes[0].params: expected an object, found null"),
        (&yaml_nodes("  join: yes"), "line 4, nodes[0].join: expected true or false, found the string 'yes'"),
        (&yaml_nodes("connections: {}"), "line 4, connections: expected a list, found an object"),
        (
            &yaml_nodes("connections:\n- from: a"),
            "line 5, connections[0].to: missing; a connection has \"from\" and \"to\", the ids of two nodes",
        ),
    ];

    for (text, expected) in cases {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn unknown_fields_and_options_are_refused_with_the_nearest_name() {
    let cases = [
        ("version: v1\nnode: []", "line 2, node: unknown field; did you mean 'nodes'?"),
        (
            "version: v1\nnodes: []\nzebra: 1",
            "line 3, zebra: unknown field; known: version, metadata, nodes, connections",
        ),
        ("version: v1\nnodes:\n- nodetype: A", "line 3, nodes[0].nodetype: unknown field; did you mean 'node_type'?"),
        (
            &yaml_nodes("  options:\n    placment: inline"),
            "line 5, nodes[0].options.placment: unknown option; did you mean 'placement'?",
        ),
        (
            &yaml_nodes("  options: {replicas: 2}"),
            "line 4, nodes[0].options.replicas: replicas requires \"placement\": \"thread\" or \"placement\": \"process\"",
        ),
        (
            &yaml_nodes("  options: {placement: ray}"),
            "line 4, nodes[0].options.placement: \"ray\" is not valid; use one of \"inline\", \"thread\", \"process\"",
        ),
        (
            &yaml_nodes("connections:\n- {form: a, to: b}"),
            "line 5, connections[0].form: unknown field; did you mean 'from'?",
        ),
    ];

    for (text, expected) in cases {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn a_graph_that_cannot_run_is_refused_at_the_guilty_element() {
    let two = "version: v1\nnodes:\n- {node_type: A, id: alpha}\n- {node_type: B, id: beta}\nconnections:\n";
    let cases = [
        ("version: v1\nnodes: []", "line 2, nodes: pipeline 'pipeline' has no nodes; add at least one"),
        (
            "version: v1\nnodes:\n- {node_type: A, id: x}\n- {node_type: B, id: x}",
            "line 4, nodes[1].id: two nodes have the id 'x'; give each node its own id",
        ),
        (
            &format!("{two}- {{from: alpha, to: betta}}"),
            "line 6, connections[0].to: no node has the id 'betta'; did you mean 'beta'?",
        ),
        (
            &format!("{two}- {{from: alhpa, to: beta}}"),
            "line 6, connections[0].from: node 'beta' comes after 'alhpa', but no node has that id; did you mean 'alpha'?",
        ),
        (
            &format!("{two}- {{from: alpha, to: beta}}\n- {{from: beta, to: alpha}}"),
            "line 6, connections[0]: the connections form a cycle: alpha → beta → alpha",
        ),
        (
            &format!("{two}\n- {{from: beta, to: beta}}"),
            "line 7, connections[0]: the connections form a cycle: beta → beta",
        ),
    ];

    for (text, expected) in cases {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let json = "{\"version\": \"v1\", \"nodes\": [{\"node_type\": \"A\",\n\"node_type\": \"B\"}]}";
    let yaml = "version: v1\nnodes:\n- node_type: A\n  params:\n    deep: {x: 1, x: 2}";

    assert_eq!(message(json), "line 2, nodes[0].node_type: appears twice; keep one of them");
    assert_eq!(message(yaml), "line 5, nodes[0].params.deep.x: appears twice; keep one of them");
}

#[test]
fn a_name_that_stands_twice_among_many_is_refused() {
    let fields: Vec<String> = (0..100).map(|n| format!("\"x{}\": {n}", n % 99)).collect();
    let text = format!(
        "{{\"version\": \"v1\", \"nodes\": [{{\"node_type\": \"A\", \"params\": {{{}}}}}]}}",
        fields.join(",\n")
    );

    assert_eq!(message(&text), "line 100, nodes[0].params.x0: appears twice; keep one of them");
}

#[test]
fn numbers_are_never_changed() {
    let written =
        "[9223372036854775807, 18446744073709551615, -9223372036854775808, 1.0, 0.1, 1e22, 2.2250738585072014e-308]";
    let expected: Value = serde_json::from_str(written).unwrap();
    let json =
        format!("{{\"version\": \"v1\", \"nodes\": [{{\"node_type\": \"A\", \"params\": {{\"x\": {written}}}}}]}}");

    assert_eq!(params(&json)["x"], expected);
    assert_eq!(params(&yaml_nodes(&format!("  params: {{x: {written}}}")))["x"], expected);
    assert_eq!(params(&json)["x"][3].to_string(), "1.0");
}

#[test]
fn a_number_that_does_not_fit_is_refused_with_its_place() {
    let json =
        "{\"version\": \"v1\", \"nodes\": [{\"node_type\": \"A\", \"params\":\n{\"x\": [1,\n18446744073709551616]}}]}";
    let too_long =
        "nodes[0].params.x[1]: the integer 18446744073709551616 does not fit in 64 bits; write it as a string";

    assert_eq!(message(json), format!("line 3, {too_long}"));
    assert_eq!(
        message(&yaml_nodes("  params:\n    x: [1,\n      18446744073709551616]")),
        format!("line 6, {too_long}")
    );
    assert_eq!(
        message(&yaml_nodes("  params: {x: 1e999}")),
        "line 4, nodes[0].params.x: the number 1e999 is out of range"
    );
    assert_eq!(
        message(&yaml_nodes("  params: {x: .inf}")),
        "line 4, nodes[0].params.x: the number .inf is out of range"
    );
    assert_eq!(
        message(&json.replace("18446744073709551616", "1e999")),
        "line 3, nodes[0].params.x[1]: the number 1e999 is out of range"
    );
}

#[test]
fn plain_yaml_scalars_have_the_types_of_yaml_1_2() {
    let params = params(&yaml_nodes("  params: {a: no, b: 007, c: 1_0, d: 0x10, e: ~, f: '5', g: !!str 5, h: True}"));

    assert_eq!(params, json!({"a": "no", "b": "007", "c": "1_0", "d": 16, "e": null, "f": "5", "g": "5", "h": true}));
}

#[test]
fn many_nodes_may_share_one_anchor() {
    let nodes: String = (0..1000).map(|_| "- {node_type: A, params: *shared}\n").collect();
    let text = format!("version: v1\nnodes:\n- {{node_type: A, params: &shared {{x: 1, y: {{z: 2}}}}}}\n{nodes}");

    let manifest = Manifest::parse(&text).unwrap();

    assert_eq!(manifest.nodes()[1000].params, manifest.nodes()[0].params);
}

#[test]
fn merge_keys_are_expanded() {
    let text =
        "version: v1\nnodes:\n- {node_type: A, params: &p {x: 1, y: 2}}\n- {node_type: A, params: {<<: *p, y: 3}}";

    let manifest = Manifest::parse(text).unwrap();

    assert_eq!(Value::Object(manifest.nodes()[1].params.clone()), json!({"x": 1, "y": 3}));
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("version: v1\nmetadata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        writeln!(bomb, "  a{level}: &a{level} [{aliases}]").unwrap();
    }

    assert!(message(&bomb).contains("not valid YAML: its aliases expand to too much"), "{}", message(&bomb));
}

#[test]
fn a_manifest_begins_after_a_byte_order_mark() {
    let manifest = Manifest::parse("\u{feff}{\"version\": \"v1\",\n\"nodes\": [{\"node_type\": \"A\"}]}").unwrap();

    assert_eq!(manifest.nodes()[0].line, 2);
}

#[test]
fn the_schema_knows_the_fields_that_are_read() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let names = |pointer: &str| {
        let fields = schema.pointer(pointer).unwrap().as_object().unwrap();
        fields.keys().cloned().collect::<Vec<_>>()
    };
    let read = |fields: &[&str]| fields.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();

    assert_eq!(names("/properties"), read(&[&read::ROOT_FIELDS[..], &read::OLDER_FIELDS].concat()));
    assert_eq!(names("/$defs/node/properties"), read(&[&read::NODE_FIELDS[..], &read::OLDER_FIELDS].concat()));
    assert_eq!(names("/$defs/connection/properties"), read(&read::CONNECTION_FIELDS));
    assert_eq!(names("/$defs/options/properties"), read(&crate::options::OPTION_NAMES));
}
