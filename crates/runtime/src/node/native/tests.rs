use serde_json::json;

use super::*;

fn process(node_type: &str, params: &Json, item: Value) -> Result<Option<Value>, ValueFault> {
    let mut node = create_native_node(node_type, params, "n").unwrap();
    match node.process(item)? {
        Outputs::None | Outputs::NotReached => Ok(None),
        Outputs::One(value) => Ok(Some(value)),
        Outputs::Many(_) => panic!("native nodes return immediately"),
    }
}

fn calculate(operation: &str, item: impl Into<Item>, operand: impl Into<Json>) -> Result<Value, ValueFault> {
    let params = json!({ "operation": operation, "operand": operand.into() });
    process("CalculatorNode", &params, item.into().0).map(Option::unwrap)
}

struct Item(Value);

impl From<i64> for Item {
    fn from(number: i64) -> Self {
        Self(Value::Int(number))
    }
}

impl From<f64> for Item {
    fn from(number: f64) -> Self {
        Self(Value::Float(number))
    }
}

#[test]
fn a_calculator_returns_what_python_returns() {
    assert_eq!(calculate("add", 1, 10), Ok(Value::Int(11)));
    assert_eq!(calculate("subtract", 1, 2.5), Ok(Value::Float(-1.5)));
    assert_eq!(calculate("multiply", 1.5, 2), Ok(Value::Float(3.0)));
    assert_eq!(calculate("divide", 6, 3), Ok(Value::Float(2.0)));
    assert_eq!(calculate("power", 2, 10), Ok(Value::Int(1024)));
    assert_eq!(calculate("power", 2, -1), Ok(Value::Float(0.5)));
    assert_eq!(calculate("power", -1, 1_000_000_000_001_i64), Ok(Value::Int(-1)));
    assert_eq!(calculate("power", 0, 0), Ok(Value::Int(1)));
    assert_eq!(calculate("power", 9, 0.5), Ok(Value::Float(3.0)));
}

#[test]
fn a_rest_has_the_sign_of_the_divisor() {
    assert_eq!(calculate("modulo", -7, 3), Ok(Value::Int(2)));
    assert_eq!(calculate("modulo", 7, -3), Ok(Value::Int(-2)));
    assert_eq!(calculate("modulo", i64::MIN, -1), Ok(Value::Int(0)));
    assert_eq!(calculate("modulo", -7.5, 2), Ok(Value::Float(0.5)));
    assert_eq!(calculate("modulo", -1.0, f64::MAX), Ok(Value::Float(f64::MAX)));
    assert_eq!(calculate("modulo", 4, -2.0), Ok(Value::Float(-0.0)));
}

#[test]
fn whole_numbers_divide_to_the_nearest_float() {
    // The same quotients in Python: rounding both numbers first gives another last digit.
    assert_eq!(calculate("divide", i64::MAX, 3), Ok(Value::Float(3.074_457_345_618_258_6e18)));
    assert_eq!(calculate("divide", 9_007_199_254_740_993_i64, 9_007_199_254_740_993_i64), Ok(Value::Float(1.0)));
    assert_eq!(calculate("divide", 1, i64::MIN), Ok(Value::Float(-(2.0_f64.powi(-63)))));
    assert_eq!(calculate("divide", -9_007_199_254_740_995_i64, 3), Ok(Value::Float(-3_002_399_751_580_331.5)));
}

#[test]
fn what_python_rejects_is_a_fault() {
    for operation in ["divide", "modulo"] {
        assert_eq!(calculate(operation, 1, 0), Err(ValueFault::DivisionByZero));
        assert_eq!(calculate(operation, 1.0, 0), Err(ValueFault::DivisionByZero));
    }
    assert_eq!(calculate("power", 0, -1), Err(ValueFault::DivisionByZero));
    assert_eq!(calculate("power", -2, 0.5), Err(ValueFault::NotReal));
    assert_eq!(calculate("power", 10.0, 400), Err(ValueFault::Overflow { operation: "power", kind: "a float" }));
}

#[test]
fn a_whole_number_that_grows_too_large_is_a_fault() {
    let texts: Vec<String> = [("add", 1), ("multiply", 2), ("power", 2), ("power", i64::MAX)]
        .map(|(operation, operand)| calculate(operation, i64::MAX, operand).unwrap_err().to_string())
        .into();

    assert_eq!(texts[0], "overflow: the result of add does not fit in an integer of 64 bits");
    assert!(texts.iter().all(|text| text.starts_with("overflow: ")));
}

#[test]
fn an_item_may_bring_its_own_calculation() {
    let item = |names: &str| {
        let numbers = Value::List(vec![Value::Int(2), Value::Int(3), Value::Float(0.5)]);
        Value::Map(vec![("operation".into(), Value::Text("multiply".into())), (names.into(), numbers)])
    };

    for names in ["args", "operands"] {
        let result = process("Calculator", &json!({}), item(names)).unwrap();
        assert_eq!(result, Some(Value::Map(vec![("result".into(), Value::Float(3.0))])));
    }
    assert!(process("Calculator", &json!({}), item("numbers")).is_err());
}

#[test]
fn numbers_without_an_operation_get_the_one_of_the_node() {
    let item = Value::Map(vec![("args".into(), Value::List(vec![Value::Int(2), Value::Int(3)]))]);

    let result = process("Calculator", &json!({"operation": "power"}), item).unwrap();

    assert_eq!(result, Some(Value::Map(vec![("result".into(), Value::Int(8))])));
}

#[test]
fn a_calculation_of_an_unknown_operation_is_a_fault() {
    let item = Value::Map(vec![
        ("operation".into(), Value::Text("multiplly".into())),
        ("args".into(), Value::List(vec![Value::Int(2)])),
    ]);

    let fault = process("Calculator", &json!({}), item).unwrap_err();

    assert_eq!(fault.to_string(), "unknown operation 'multiplly'; did you mean 'multiply'?");
}

#[test]
fn a_calculator_refuses_what_is_not_a_number() {
    let fault = process("CalculatorNode", &json!({"operand": 1}), Value::Text("a".into())).unwrap_err();

    assert_eq!(fault.to_string(), "expected a number, found text");
}

#[test]
fn a_filter_passes_items_that_reach_its_threshold() {
    let passes = |threshold: Json, item: Value| {
        process("FilterNode", &json!({ "threshold": threshold }), item.clone()).unwrap() == Some(item)
    };

    assert!(passes(json!(0.5), Value::Float(0.5)));
    assert!(!passes(json!(0.5), Value::Int(0)));
    assert!(passes(json!(1), Value::Bool(true)));
    assert!(!passes(json!(0), Value::Float(f64::NAN)));
    assert!(!passes(json!(1e300), Value::Int(i64::MAX)));
    assert!(passes(json!(-1e300), Value::Int(i64::MIN)));
    // The nearest float of this threshold is smaller than the threshold.
    assert!(!passes(json!(9_007_199_254_740_993_i64), Value::Float(9_007_199_254_740_992.0)));
    assert!(passes(json!(9_007_199_254_740_992.0), Value::Int(9_007_199_254_740_993)));
}

#[test]
fn a_pass_through_hands_every_item_on() {
    for item in [Value::Null, Value::Bytes(vec![0, 1]), Value::List(vec![])] {
        assert_eq!(process("PassThrough", &json!({"name": "pass"}), item.clone()), Ok(Some(item)));
    }
}

#[test]
fn every_listed_type_can_be_made() {
    for node_type in native_node_types() {
        assert!(create_native_node(node_type, &Json::Null, "n").is_ok());
    }
}

#[test]
fn unknown_types_and_parameters_are_refused_with_the_nearest_name() {
    let refusal =
        |node_type: &str, params: Json| create_native_node(node_type, &params, "n").err().unwrap().to_string();

    assert_eq!(
        refusal("CalcualtorNode", json!({})),
        "node 'n': no native node has the type 'CalcualtorNode'; did you mean 'CalculatorNode'?"
    );
    assert_eq!(refusal("NodeNode", json!({})), "node 'n': no native node has the type 'NodeNode'");
    assert_eq!(
        refusal("CalculatorNode", json!({"operend": 1})),
        "node 'n': unknown parameter 'operend'; did you mean 'operand'?"
    );
    assert_eq!(
        refusal("CalculatorNode", json!({"operation": "ad"})),
        "node 'n': unknown operation 'ad'; did you mean 'add'?"
    );
    assert_eq!(
        refusal("FilterNode", json!({"threshold": "0.5"})),
        "node 'n': expected threshold to be a number of 64 bits, found \"0.5\""
    );
}

#[test]
fn joined_outputs_stand_under_the_ids_of_their_nodes() {
    let joined =
        Value::join(vec![("none", vec![]), ("one", vec![Value::Int(1)]), ("more", vec![Value::Int(1), Value::Int(2)])]);

    let expected = vec![
        ("none".into(), Value::Null),
        ("one".into(), Value::Int(1)),
        ("more".into(), Value::List(vec![Value::Int(1), Value::Int(2)])),
    ];
    assert_eq!(joined, Ok(Value::Map(expected)));
}
