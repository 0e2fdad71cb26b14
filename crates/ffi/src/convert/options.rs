//! Options of nodes as Python writes them: as keywords.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use remotemedia_runtime::{Notation, OPTION_NAMES, OnError, Options, Refusal, Value as Native};
use serde_json::{Map, Value, json};

use crate::convert::values;

/// What only Python knows: a function that takes failed items.
const DEAD_LETTER: &str = "dead_letter";

/// What only nodes have: all nodes in one group would be one stage.
const GROUP: &str = "group";
const GROUP_OF_SESSION: &str = "group is an option of nodes, not of a session; set it on the nodes that share a stage";

/// Settings of a session, each with an option that has the same values.
const SETTINGS: [(&str, &str); 2] = [("enable_metrics", "ordered"), ("stall_warning", "timeout")];

/// What is wrong with options, or with those of `Pipeline.open`; `None` if nothing is.
pub(crate) fn problem(written: &Bound<'_, PyDict>, are_of_session: bool) -> PyResult<Option<String>> {
    let refused = |name: &str, value: &Bound<'_, PyAny>, expected: &str| {
        PyResult::Ok(Some(format!("{name}={} is not valid; {expected}", value.repr()?)))
    };
    if are_of_session && written.contains(GROUP)? {
        return Ok(Some(GROUP_OF_SESSION.into()));
    }
    let mut known = Map::new();
    let mut dead_letter = false;
    for (name, value) in written.iter() {
        let name = name.str()?.to_string();
        let setting = SETTINGS.iter().find(|(setting, _)| are_of_session && *setting == name);
        if name == DEAD_LETTER {
            if !value.is_none() && !value.is_callable() {
                return refused(&name, &value, "use a function of an item and its error");
            }
            dead_letter = !value.is_none();
        } else if let Some((_, option)) = setting {
            if let Some(expected) = Options::expected(option, &checked_json(&value), Notation::Python) {
                return refused(&name, &value, &expected);
            }
        } else if name != "on_error" || !value.is_callable() {
            known.insert(name, checked_json(&value));
        }
    }
    let options = match Options::read(&known, Notation::Python, &names(are_of_session)) {
        Ok(options) => options,
        Err(problem) => {
            let name = &problem.name;
            return match problem.reason {
                Refusal::Unknown(hint) => Ok(Some(format!("Unknown option '{name}'{hint}"))),
                Refusal::Value(_, expected) => refused(name, &written.as_any().get_item(name)?, &expected),
                Refusal::Combination(text) => Ok(Some(text)),
            };
        }
    };
    let excludes = dead_letter && options.on_error == OnError::Skip;
    Ok(excludes.then(|| "on_error='skip' and dead_letter cannot be combined; use one of them".into()))
}

/// All names, in the order of the documentation; first those that a session has for itself.
fn names(are_of_session: bool) -> Vec<&'static str> {
    let of_session: &[&str] = if are_of_session { &["enable_metrics", "queue_size", "stall_warning"] } else { &[] };
    let of_nodes = OPTION_NAMES.into_iter().filter(|name| !of_session.contains(name));
    let of_nodes = of_nodes.filter(|name| !are_of_session || *name != GROUP);
    let mut names: Vec<&str> = of_session.iter().copied().chain(of_nodes).collect();
    let after = names.iter().position(|name| *name == "on_error").map_or(0, |place| place + 1);
    names.insert(after, DEAD_LETTER);
    names
}

/// The value as JSON; one that no option may have where JSON has nothing like it.
fn checked_json(value: &Bound<'_, PyAny>) -> Value {
    let is_finite = value.extract::<f64>().map_or(true, f64::is_finite);
    if is_finite
        && let Ok(json) = json_of(value)
        && (value.is_none() || !json.is_null())
    {
        json
    } else {
        json!([])
    }
}

/// Options as a manifest has them. What only Python knows (a callable) is left out.
pub(crate) fn json_options(written: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    let mut options = Map::new();
    for (name, value) in written.iter() {
        let name: String = name.extract()?;
        if name != "dead_letter" && !value.is_callable() {
            options.insert(name, json_of(&value)?);
        }
    }
    Ok(options)
}

fn json_of(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.hasattr("max_wait")? {
        // A `Batch`.
        return Ok(json!({
            "size": value.getattr("size")?.extract::<u64>()?,
            "max_wait": value.getattr("max_wait")?.extract::<Option<f64>>()?,
        }));
    }
    Ok(json_of_native(values::from_python(value)?))
}

/// The same for a native value; a list, which no option may be, for one that JSON options cannot have.
fn json_of_native(value: Native) -> Value {
    match value {
        Native::Null => Value::Null,
        Native::Bool(value) => value.into(),
        Native::Int(value) => value.into(),
        Native::Float(value) => value.into(),
        Native::Text(value) => value.into(),
        Native::Map(entries) => entries.into_iter().map(|(name, value)| (name, json_of_native(value))).collect(),
        _ => json!([]),
    }
}
