//! Generated manifests are read or refused, and never end anything else than well.

use proptest::prelude::*;
use remotemedia_runtime::{Error, Manifest};
use serde_json::{Map, Value, json};

/// Any JSON value of moderate depth.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A manifest in which every node comes after an earlier one, or the input.
fn any_manifest() -> impl Strategy<Value = Value> {
    let node = ("[A-Za-z]{1,8}(:[A-Z][a-z]{1,5})?", prop::collection::vec((".*", any_value()), 0..4), any::<bool>());
    let nodes = prop::collection::vec((node, any::<prop::sample::Index>()), 1..12);
    (nodes, any::<bool>(), ".{1,12}").prop_map(|(nodes, has_connections, name)| {
        let mut connections = Vec::new();
        let mut entries = Vec::new();
        for (position, ((node_type, params, join), upstream)) in nodes.into_iter().enumerate() {
            let params: Map<String, Value> = params.into_iter().collect();
            entries.push(json!({"id": format!("n{position}"), "node_type": node_type, "params": params, "join": join}));
            if position > 0 {
                connections
                    .push(json!({"from": format!("n{}", upstream.index(position)), "to": format!("n{position}")}));
            }
        }
        let mut manifest = json!({"version": "v1", "metadata": {"name": name}, "nodes": entries});
        if has_connections {
            manifest["connections"] = Value::Array(connections);
        }
        manifest
    })
}

/// The outcome of a text that may be anything: a manifest, or an error that names a line.
fn read_or_refused(text: &str) -> Option<Manifest> {
    match Manifest::parse(text) {
        Ok(manifest) => Some(manifest),
        Err(Error::Manifest { place, .. }) => {
            assert!(place.starts_with("line "), "{place}");
            None
        }
        Err(other) => panic!("a manifest is refused with its place: {other:?}"),
    }
}

proptest! {
    #[test]
    fn a_manifest_survives_writing_and_reading(value in any_manifest()) {
        let manifest = Manifest::parse(&value.to_string()).unwrap();
        let written = serde_json::to_string_pretty(&manifest.to_json_value()).unwrap();

        let again = Manifest::parse(&written).unwrap();

        prop_assert_eq!(again.to_json_value(), manifest.to_json_value());
        prop_assert_eq!(again.nodes()[0].params.clone(), value["nodes"][0]["params"].as_object().unwrap().clone());
        prop_assert_eq!(Manifest::parse(&written).unwrap(), again);
    }

    #[test]
    fn yaml_says_what_json_says(value in any_manifest()) {
        let json = Manifest::parse(&value.to_string()).unwrap();

        let yaml = Manifest::parse(&serde_saphyr::to_string(&value).unwrap()).unwrap();

        prop_assert_eq!(yaml.to_json_value(), json.to_json_value());
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        read_or_refused(&text);
        read_or_refused(&format!("{{{text}"));
        read_or_refused(&format!("version: v1\nnodes: {text}"));
    }

    #[test]
    fn text_of_the_letters_of_yaml_is_read_or_refused(text in "[-a: \n\t\\[\\]{}&*!|>'\"%@,#?0-9.~<]{0,80}") {
        read_or_refused(&text);
        read_or_refused(&format!("version: v1\n{text}"));
    }

    #[test]
    fn a_broken_manifest_is_read_or_refused(
        value in any_manifest(), at in any::<prop::sample::Index>(), len in 0_usize..4, insert in "[\\[\\]{},:\"0a\\\\]?",
    ) {
        let text: Vec<char> = value.to_string().chars().collect();
        let start = at.index(text.len());
        let end = (start + len).min(text.len());

        let broken: String = text[..start].iter().copied().chain(insert.chars()).chain(text[end..].iter().copied()).collect();

        read_or_refused(&broken);
    }

    #[test]
    fn a_manifest_with_a_value_of_any_type_in_a_field_is_read_or_refused(
        value in any_manifest(), other in any_value(), at in any::<prop::sample::Index>(),
    ) {
        let places = ["/version", "/metadata", "/metadata/name", "/nodes", "/nodes/0", "/nodes/0/id", "/nodes/0/node_type",
            "/nodes/0/params", "/nodes/0/join", "/connections", "/connections/0", "/connections/0/from", "/connections/0/to"];
        let mut manifest = value;
        if let Some(place) = manifest.pointer_mut(places[at.index(places.len())]) {
            *place = other;
        }

        read_or_refused(&manifest.to_string());
        read_or_refused(&serde_saphyr::to_string(&manifest).unwrap());
    }

    #[test]
    fn arbitrary_connections_are_arranged_or_refused(
        edges in prop::collection::vec((0_usize..8, 0_usize..9), 0..20), equal_ids in any::<bool>(),
    ) {
        let id = |n: usize| if equal_ids { format!("n{}", n % 5) } else { format!("n{n}") };
        let nodes: Vec<Value> = (0..8).map(|n| json!({"id": id(n), "node_type": "A"})).collect();
        let connections: Vec<Value> = edges.iter().map(|&(from, to)| json!({"from": id(from), "to": id(to)})).collect();
        let text = json!({"version": "v1", "nodes": nodes, "connections": connections}).to_string();

        let manifest = read_or_refused(&text);

        prop_assert!(manifest.is_none() || !equal_ids);
    }

    #[test]
    fn nesting_of_any_depth_is_read_or_refused(depth in 0_usize..3000, open in "[\\[{]|- |\\? |k: |\\{a: |\\[\\{a: ") {
        read_or_refused(&open.repeat(depth));
        read_or_refused(&format!("version: v1\nnodes: {}", open.repeat(depth)));
        read_or_refused(&format!("{{\"version\": \"v1\", \"nodes\": {}", open.repeat(depth)));
    }
}

#[test]
fn a_hundred_levels_of_nesting_are_read() {
    let (open, close) = ("[".repeat(100), "]".repeat(100));
    let json =
        format!("{{\"version\": \"v1\", \"nodes\": [{{\"node_type\": \"A\", \"params\": {{\"x\": {open}{close}}}}}]}}");
    let yaml = format!("version: v1\nnodes:\n- node_type: A\n  params:\n    x: {open}{close}");

    assert_eq!(Manifest::parse(&json).unwrap().to_json_value(), Manifest::parse(&yaml).unwrap().to_json_value());
}

#[test]
fn a_hundred_thousand_levels_of_nesting_are_refused() {
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let json = format!("{{\"version\": \"v1\", \"nodes\": {open}{close}}}");
    let yaml = format!("version: v1\nnodes: {open}{close}");

    for text in [json, yaml] {
        assert!(Manifest::parse(&text).unwrap_err().to_string().contains("nested deeper than 128 levels"));
    }
}

/// So many that what is quadratic would never end.
fn lines(line: impl Fn(usize) -> String) -> String {
    (0..100_000).map(line).collect::<Vec<_>>().join(",\n")
}

#[test]
fn a_hundred_thousand_nodes_are_read() {
    let nodes = lines(|n| format!("{{\"id\": \"n{n}\", \"node_type\": \"A\"}}"));
    let edges = lines(|n| format!("{{\"from\": \"n{}\", \"to\": \"n{n}\"}}", n.saturating_sub(1)));
    let (_, edges) = edges.split_once(",\n").unwrap();

    let chain = Manifest::parse(&format!("{{\"version\": \"v1\", \"nodes\": [\n{nodes}]}}")).unwrap();
    let connected = format!("{{\"version\": \"v1\", \"nodes\": [\n{nodes}], \"connections\": [{edges}]}}");
    let connected = Manifest::parse(&connected).unwrap();

    assert_eq!(chain.nodes()[99_999].line, 100_001);
    assert_eq!(connected.specs()[99_999].after, ["n99998"]);
}

#[test]
fn a_hundred_thousand_nodes_are_read_from_yaml() {
    let nodes = "\n- node_type: A".repeat(100_000);

    let manifest = Manifest::parse(&format!("version: v1\nnodes:{nodes}")).unwrap();

    assert_eq!(manifest.nodes()[99_999].line, 100_002);
}

#[test]
fn a_hundred_thousand_nodes_are_refused() {
    let nodes = lines(|n| format!("{{\"id\": \"n{n}\", \"node_type\": \"A\"}}"));
    let ring = lines(|n| format!("{{\"from\": \"n{n}\", \"to\": \"n{}\"}}", (n + 1) % 100_000));

    let twice = format!("{{\"version\": \"v1\", \"nodes\": [\n{nodes},\n{{\"id\": \"n0\", \"node_type\": \"A\"}}]}}");
    let twice = Manifest::parse(&twice).unwrap_err().to_string();
    let cycle = format!("{{\"version\": \"v1\", \"nodes\": [\n{nodes}],\n\"connections\": [{ring}]}}");
    let cycle = Manifest::parse(&cycle).unwrap_err().to_string();

    assert_eq!(twice, "line 100002, nodes[100000].id: two nodes have the id 'n0'; give each node its own id");
    assert!(cycle.contains("the connections form a cycle: "), "{cycle}");
}
