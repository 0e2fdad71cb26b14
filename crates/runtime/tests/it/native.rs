//! Native nodes run in the engine like any other.

use std::sync::Arc;

use remotemedia_runtime::{Items, Manifest, Node, Plan, Session, SessionSettings, Value, create_native_node};
use serde_json::Value as Json;

/// What a manifest of native nodes makes of these numbers.
fn outputs(manifest: &str, numbers: &[i64]) -> Vec<Value> {
    let manifest = Manifest::parse(manifest).expect("the tests write good manifests");
    let plan = Plan::new("native", &manifest.specs()).expect("the tests describe good pipelines");
    let native = |position: usize| -> Box<dyn Node<Value>> {
        let node = &manifest.nodes()[position];
        create_native_node(&node.node_type, &Json::Object(node.params.clone()), &node.id).expect("a native node")
    };
    let nodes = plan.nodes().iter().map(|node| native(node.position)).collect();
    let mut items = Items(numbers.iter().copied().map(Value::Int));
    let mut outputs = Vec::new();
    let settings = SessionSettings::default();
    Session::execute(Arc::new(plan), nodes, settings, &mut items, &mut outputs).expect("nothing fails");
    outputs
}

#[test]
fn a_manifest_of_native_nodes_runs() {
    let manifest = "
version: v1
nodes:
- {id: add, node_type: CalculatorNode, params: {operation: add, operand: 10}}
- {id: filter, node_type: FilterNode, params: {threshold: 12}}
";

    let outputs = outputs(manifest, &[0, 1, 2, 3]);

    assert_eq!(outputs, [Value::Int(12), Value::Int(13)]);
}

#[test]
fn a_branch_without_an_output_stands_as_null_in_a_native_join() {
    let manifest = "
version: v1
nodes:
- {id: in, node_type: PassThrough}
- {id: double, node_type: Calculator, params: {operation: multiply, operand: 2}}
- {id: high, node_type: Filter, params: {threshold: 5}}
- {id: both, node_type: PassThrough, join: true}
connections:
- {from: in, to: double}
- {from: in, to: high}
- {from: double, to: both}
- {from: high, to: both}
";

    let outputs = outputs(manifest, &[4]);

    assert_eq!(outputs, [Value::Map(vec![("double".into(), Value::Int(8)), ("high".into(), Value::Null)])]);
}
