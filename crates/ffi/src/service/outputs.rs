//! Outputs and errors of Python nodes, in a form for clients.

use pyo3::prelude::*;
use remotemedia_commands::{CallError, CallErrorKind};
use remotemedia_runtime::Value;

use crate::convert::items::mismatch;
use crate::convert::object::Object;
use crate::convert::values;

/// The least size of a value that is counted, in bytes.
const SMALLEST: usize = 32;

/// An output as a value.
pub(super) fn value_of(py: Python<'_>, output: &Object) -> PyResult<Value> {
    values::from_python(output.0.bind(py))
}

/// About how much memory a value takes, in bytes.
pub(super) fn sized(value: &Value) -> usize {
    SMALLEST
        + match value {
            Value::Text(text) | Value::BigInt(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Audio(audio) => size_of_val(&*audio.samples),
            Value::List(items) => items.iter().map(sized).sum(),
            Value::Map(entries) => entries.iter().map(|(key, value)| key.len() + sized(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        }
}

/// An error of a call or a stream, as `remotemedia._cli.serving` describes it.
pub(super) fn described(py: Python<'_>, error: PyErr) -> CallError {
    let (type_name, text) = (type_name(py, &error), error.value(py).to_string());
    let described = py
        .import("remotemedia._cli.serving")
        .and_then(|serving| serving.call_method1("describe", (error.into_value(py),))?.extract());
    match described {
        Ok((kind, type_name, message, node_id, traceback)) => {
            let kind: String = kind;
            let kind = if kind == "closed" { CallErrorKind::Closed } else { CallErrorKind::Node };
            CallError { kind, type_name, message, node_id, traceback }
        }
        Err(_) => CallError { kind: CallErrorKind::Node, type_name, message: text, node_id: None, traceback: None },
    }
}

/// The name of the class of an error.
fn type_name(py: Python<'_>, error: &PyErr) -> String {
    error.get_type(py).name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string())
}

/// An item that has no form for nodes.
pub(super) fn refused_item(py: Python<'_>, error: &PyErr) -> CallError {
    let message = mismatch(py, error).unwrap_or_else(|| format!("the item cannot be converted: {}", error.value(py)));
    let (kind, type_name) = (CallErrorKind::Item, type_name(py, error));
    CallError { kind, type_name, message, node_id: None, traceback: None }
}
