//! The nodes that are built in, and [`Value`] as an item of the engine.
//!
//! They return what the nodes of the same names in Python return.

mod arithmetic;

use serde_json::Value as Json;
use thiserror::Error;

use self::arithmetic::{Number, Operation};
use crate::error::{Error, Result};
use crate::node::{Node, Outputs};
use crate::payload::Payload;
use crate::suggest::did_you_mean;
use crate::value::Value;

/// Each type of native node, under the name with and the one without the suffix.
const NODE_TYPES: [&str; 6] =
    ["Calculator", "CalculatorNode", "Filter", "FilterNode", "PassThrough", "PassThroughNode"];

/// How a native node fails.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ValueFault {
    /// A number was to be divided by nothing.
    #[error("division by zero")]
    DivisionByZero,
    /// A result that the kind of number cannot hold.
    #[error("overflow: the result of {operation} does not fit in {kind}")]
    Overflow {
        /// The name of the operation.
        operation: &'static str,
        /// What it does not fit in.
        kind: &'static str,
    },
    /// A fractional power of a negative number.
    #[error("a fractional power of a negative number is not a real number")]
    NotReal,
    /// An item of a kind that the node does not work on.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// What the node works on.
        expected: &'static str,
        /// The kind of the value that came.
        found: &'static str,
    },
    /// An item names an operation that does not exist.
    #[error("unknown operation '{name}'{hint}")]
    UnknownOperation {
        /// The name in the item.
        name: String,
        /// A nearby name, as the end of the sentence, or nothing.
        hint: String,
    },
    /// Any other cause, in the words of the node.
    #[error("{0}")]
    Other(String),
}

impl ValueFault {
    fn wrong_kind(expected: &'static str, found: &Value) -> Self {
        Self::WrongKind { expected, found: found.kind() }
    }
}

impl Payload for Value {
    type Fault = ValueFault;
    type Context = ();

    fn duplicate_fault(fault: &ValueFault) -> ValueFault {
        fault.clone()
    }

    fn duplicate(&self) -> Self {
        self.clone()
    }

    fn join(branches: Vec<(&str, Vec<Self>)>) -> Result<Self, ValueFault> {
        let joined = branches.into_iter().map(|(id, mut outputs)| {
            let value = match outputs.len() {
                0 => Self::Null,
                1 => outputs.remove(0),
                _ => Self::List(outputs),
            };
            (id.to_owned(), value)
        });
        Ok(Self::Map(joined.collect()))
    }
}

/// The names under which [`create_native_node`] knows a node.
pub fn native_node_types() -> &'static [&'static str] {
    &NODE_TYPES
}

/// The native node of that type.
///
/// # Errors
///
/// When no node has that type, or when it does not take these parameters.
pub fn create_native_node(node_type: &str, params: &Json, id: &str) -> Result<Box<dyn Node<Value>>> {
    match node_type.strip_suffix("Node").unwrap_or(node_type) {
        "PassThrough" => {
            Parameters::new(params, id, &[])?;
            Ok(Box::new(PassThrough))
        }
        "Calculator" => {
            let parameters = Parameters::new(params, id, &["operation", "operand"])?;
            Ok(Box::new(Calculator { operation: parameters.operation()?, operand: parameters.number("operand")? }))
        }
        "Filter" => {
            let parameters = Parameters::new(params, id, &["threshold"])?;
            Ok(Box::new(Filter { threshold: parameters.number("threshold")? }))
        }
        _ => {
            let hint = did_you_mean(node_type, NODE_TYPES);
            Err(refused(id, format!("no native node has the type '{node_type}'{hint}")))
        }
    }
}

fn refused(id: &str, message: String) -> Error {
    Error::NativeNode { node: id.to_owned(), message }
}

/// The parameters of one node, all of them known by name.
struct Parameters<'a> {
    fields: Option<&'a serde_json::Map<String, Json>>,
    id: &'a str,
}

impl<'a> Parameters<'a> {
    fn new(params: &'a Json, id: &'a str, known: &[&str]) -> Result<Self> {
        let fields = match params {
            Json::Null => None,
            Json::Object(fields) => Some(fields),
            _ => return Err(refused(id, "expected params to be an object".to_owned())),
        };
        // Every node of the manifest may carry the name that its Python form has.
        let is_known = |name: &str| name == "name" || known.contains(&name);
        if let Some(name) = fields.into_iter().flat_map(serde_json::Map::keys).find(|name| !is_known(name)) {
            let hint = did_you_mean(name, known.iter().copied());
            return Err(refused(id, format!("unknown parameter '{name}'{hint}")));
        }
        Ok(Self { fields, id })
    }

    fn get(&self, name: &str) -> Option<&'a Json> {
        self.fields.and_then(|fields| fields.get(name))
    }

    /// A number, zero where none is given.
    fn number(&self, name: &str) -> Result<Number> {
        let Some(value) = self.get(name) else { return Ok(Number::Int(0)) };
        let number = match value {
            Json::Number(number) if number.is_f64() => number.as_f64().map(Number::Float),
            _ => value.as_i64().map(Number::Int),
        };
        number.ok_or_else(|| refused(self.id, format!("expected {name} to be a number of 64 bits, found {value}")))
    }

    /// An operation, addition where none is given.
    fn operation(&self) -> Result<Operation> {
        match self.get("operation") {
            None => Ok(Operation::Add),
            Some(Json::String(name)) => Operation::named(name).map_err(|fault| refused(self.id, fault.to_string())),
            Some(other) => Err(refused(self.id, format!("expected operation to be a string, found {other}"))),
        }
    }
}

/// Passes every item on.
struct PassThrough;

impl Node<Value> for PassThrough {
    fn process(&mut self, item: Value) -> Result<Outputs<Value>, ValueFault> {
        Ok(Outputs::One(item))
    }
}

/// Calculates with each item.
struct Calculator {
    operation: Operation,
    operand: Number,
}

impl Node<Value> for Calculator {
    fn process(&mut self, item: Value) -> Result<Outputs<Value>, ValueFault> {
        if let Value::Map(_) = item {
            let result = self.calculate_request(&item)?;
            return Ok(Outputs::One(Value::Map(vec![("result".to_owned(), result.into())])));
        }
        let number = Number::from_value(&item)?;
        Ok(Outputs::One(self.operation.apply(number, self.operand)?.into()))
    }
}

impl Calculator {
    /// The result of an item that brings its own numbers, taken from left to right, and may bring its own operation.
    fn calculate_request(&self, item: &Value) -> Result<Number, ValueFault> {
        let operation = match item.get("operation") {
            None => self.operation,
            Some(Value::Text(name)) => Operation::named(name)?,
            Some(other) => return Err(ValueFault::wrong_kind("the name of an operation", other)),
        };
        let numbers = match item.get("args").or_else(|| item.get("operands")) {
            Some(Value::List(numbers)) if !numbers.is_empty() => numbers,
            _ => return Err(ValueFault::Other("expected a list of numbers under 'args' or 'operands'".to_owned())),
        };
        let first = Number::from_value(&numbers[0])?;
        numbers[1..].iter().try_fold(first, |result, number| operation.apply(result, Number::from_value(number)?))
    }
}

/// Passes on the items that reach a threshold.
struct Filter {
    threshold: Number,
}

impl Node<Value> for Filter {
    fn process(&mut self, item: Value) -> Result<Outputs<Value>, ValueFault> {
        let passes = Number::from_value(&item)?.reaches(self.threshold);
        Ok(if passes { Outputs::One(item) } else { Outputs::None })
    }
}

#[cfg(test)]
mod tests;
