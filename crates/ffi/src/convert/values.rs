//! Native values to Python objects and back: what files hold, and what pipelines return.
//!
//! *Invariant:* nothing is lost on the way. What has no native form is an error that names its type and its place.

use std::collections::HashSet;
use std::fmt::Write as _;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyNone, PyString, PyTuple, PyType,
};
use remotemedia_runtime::{AudioChunk, Value};

pyo3::import_exception!(remotemedia._cli.errors, OutputError);

/// Deeper values are assumed to contain themselves.
const DEEPEST: usize = 200;

/// The Python object for a value.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => PyNone::get(py).to_owned().into_any(),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Int(value) => value.into_pyobject(py)?.into_any(),
        // Refused by Python beyond `sys.get_int_max_str_digits()`.
        Value::BigInt(digits) => py.get_type::<PyInt>().call1((digits,))?,
        Value::Float(value) => PyFloat::new(py, *value).into_any(),
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                dict.set_item(key, to_python(py, value)?)?;
            }
            dict.into_any()
        }
        Value::Audio(chunk) => audio_to_python(py, chunk)?,
    })
}

/// The value of a Python object.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    convert(object, 0).map_err(|misfit| misfit.into_error(object.py()))
}

/// What has no native form, and the way to it from the outermost object, innermost step first.
struct Misfit {
    problem: Problem,
    steps: Vec<String>,
}

enum Problem {
    Type(String),
    Key(String),
    Text(&'static str),
    Raised(PyErr),
}

impl From<PyErr> for Misfit {
    fn from(error: PyErr) -> Self {
        Self { problem: Problem::Raised(error), steps: Vec::new() }
    }
}

impl From<&'static str> for Misfit {
    fn from(text: &'static str) -> Self {
        Self { problem: Problem::Text(text), steps: Vec::new() }
    }
}

impl Misfit {
    fn below(mut self, step: impl FnOnce() -> String) -> Self {
        self.steps.push(step());
        self
    }

    fn into_error(self, py: Python<'_>) -> PyErr {
        // A value that contains itself has as many steps as were taken; the first few identify it.
        let mut place = String::from("output");
        for step in self.steps.iter().rev().take(8) {
            let _ = write!(place, "{step}");
        }
        match self.problem {
            Problem::Type(name) => OutputError::new_err(format!(
                "{place} is of type {name}, which cannot be written; let the last node return a value that JSON can represent (None, bool, int, \
                 float, str, list, dict, dates, dataclasses, numpy values and the like), bytes or an AudioFrame"
            )),
            Problem::Key(name) => OutputError::new_err(format!(
                "{place} is a dict with a key of type {name}, which cannot be written; use only str keys"
            )),
            Problem::Text(text) => OutputError::new_err(format!("{place} {text}")),
            Problem::Raised(error) if self.steps.is_empty() => error,
            Problem::Raised(error) => {
                let outer = OutputError::new_err(format!("{place} cannot be written"));
                outer.set_cause(py, Some(error));
                outer
            }
        }
    }
}

fn convert(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Misfit> {
    if depth > DEEPEST {
        return Err("is nested more than 200 levels deep, or contains itself".into());
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    // A bool is an int too, so it is asked for first.
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(Value::Bool(value.is_true()));
    }
    if let Ok(value) = object.cast::<PyInt>() {
        return convert_int(value);
    }
    if let Ok(value) = object.cast::<PyFloat>() {
        return Ok(Value::Float(value.extract()?));
    }
    if let Ok(value) = object.cast::<PyString>() {
        let text = value.to_str().map_err(|_| "is a str with lone surrogates, which cannot be encoded")?;
        return Ok(Value::Text(text.to_owned()));
    }
    if let Ok(value) = object.cast::<PyBytes>() {
        return Ok(Value::Bytes(value.as_bytes().to_vec()));
    }
    if let Ok(value) = object.cast::<PyDict>() {
        return convert_dict(value, depth);
    }
    if let Ok(items) = object.cast::<PyList>() {
        return convert_items(items.iter(), depth);
    }
    if let Ok(items) = object.cast::<PyTuple>() {
        return convert_items(items.iter(), depth);
    }
    convert_rare(object, depth)
}

fn convert_items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Result<Value, Misfit> {
    let convert_item =
        |(index, item)| convert(&item, depth + 1).map_err(|misfit| misfit.below(|| format!("[{index}]")));
    Ok(Value::List(items.enumerate().map(convert_item).collect::<Result<_, _>>()?))
}

fn convert_int(value: &Bound<'_, PyInt>) -> Result<Value, Misfit> {
    if let Ok(value) = value.extract() {
        return Ok(Value::Int(value));
    }
    digits(value).map(Value::BigInt)
}

/// Its decimal digits, whatever a subclass shows instead.
fn digits(value: &Bound<'_, PyInt>) -> Result<String, Misfit> {
    let shown = value.py().get_type::<PyInt>().call_method1("__repr__", (value,));
    let shown = shown
        .map_err(|_| "is an int with more digits than Python converts to text; see sys.set_int_max_str_digits()")?;
    Ok(shown.extract()?)
}

fn convert_dict(dict: &Bound<'_, PyDict>, depth: usize) -> Result<Value, Misfit> {
    let mut entries = Vec::with_capacity(dict.len());
    let mut may_have_equal_keys = false;
    for (key, value) in dict.iter() {
        let key = if let Ok(key) = key.cast::<PyString>() {
            key.extract()?
        } else {
            may_have_equal_keys = true;
            key_text(&key)?
        };
        let value = convert(&value, depth + 1).map_err(|misfit| misfit.below(|| format!("[{key:?}]")))?;
        entries.push((key, value));
    }
    if may_have_equal_keys {
        let mut keys = HashSet::new();
        if !entries.iter().all(|(key, _)| keys.insert(key)) {
            return Err("is a dict with keys that differ in Python but not in JSON; use only str keys".into());
        }
    }
    Ok(Value::Map(entries))
}

/// A key that is not a str, as Python's `json` writes it.
fn key_text(key: &Bound<'_, PyAny>) -> Result<String, Misfit> {
    if key.is_none() {
        return Ok("null".into());
    }
    if let Ok(flag) = key.cast::<PyBool>() {
        return Ok(flag.is_true().to_string());
    }
    if let Ok(number) = key.cast::<PyInt>() {
        return digits(number);
    }
    if let Ok(number) = key.cast::<PyFloat>() {
        return Ok(key.py().get_type::<PyFloat>().call_method1("__repr__", (number,))?.extract()?);
    }
    match plainer(key)? {
        Some(plain) if plain.is_instance_of::<PyString>() => Ok(plain.extract()?),
        Some(plain) if plain.is_none() || plain.is_instance_of::<PyInt>() || plain.is_instance_of::<PyFloat>() => {
            key_text(&plain)
        }
        _ => Err(Misfit { problem: Problem::Key(type_name(&key.get_type())), steps: Vec::new() }),
    }
}

/// What stands for an object in JSON; nothing if that is not known.
fn plainer<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static PLAINER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let plain = PLAINER.import(object.py(), "remotemedia._cli.json_values", "plainer")?.call1((object,))?;
    Ok((!plain.is(object)).then_some(plain))
}

/// Audio, dataclasses, buffers and what has a plainer form: each costs a few look-ups to recognize.
fn convert_rare(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Misfit> {
    let py = object.py();
    if object.is_exact_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>() {
        let bytes = py.get_type::<PyBytes>().call1((object,))?;
        return convert(&bytes, depth);
    }
    if object.is_instance(audio_frame_type(py)?)? {
        return Ok(Value::Audio(audio_from_python(object)?));
    }
    let kind = object.get_type();
    if let Ok(fields) = kind.getattr("__dataclass_fields__") {
        return convert_dataclass(object, &fields, depth);
    }
    let no_form = || Misfit { problem: Problem::Type(type_name(&kind)), steps: Vec::new() };
    let plain = plainer(object)?.ok_or_else(no_form)?;
    convert(&plain, depth + 1).map_err(|misfit| match misfit.problem {
        Problem::Type(_) if misfit.steps.is_empty() => no_form(),
        _ => misfit,
    })
}

fn type_name(kind: &Bound<'_, PyType>) -> String {
    kind.fully_qualified_name().or_else(|_| kind.qualname()).map_or_else(|_| "unknown".into(), |name| name.to_string())
}

fn convert_dataclass(object: &Bound<'_, PyAny>, fields: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Misfit> {
    let mut entries = Vec::new();
    for name in fields.try_iter()? {
        let name: String = name?.extract()?;
        // Class variables and init-only fields are in the table as well, but are not part of the object.
        let field_kind = fields.get_item(&name)?.getattr("_field_type")?.getattr("name")?;
        if field_kind.extract::<String>()? != "_FIELD" {
            continue;
        }
        let value = convert(&object.getattr(name.as_str())?, depth + 1);
        let value = value.map_err(|misfit| misfit.below(|| format!(".{name}")))?;
        entries.push((name, value));
    }
    Ok(Value::Map(entries))
}

fn audio_frame_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static AUDIO_FRAME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    AUDIO_FRAME.import(py, "remotemedia.audio", "AudioFrame")
}

fn audio_to_python<'py>(py: Python<'py>, chunk: &AudioChunk) -> PyResult<Bound<'py, PyAny>> {
    static FROM_BUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // A bytearray, not bytes: the array over it can be written to.
    let bytes = PyByteArray::new_with(py, chunk.samples.len() * size_of::<f32>(), |bytes| {
        for (place, sample) in bytes.chunks_exact_mut(size_of::<f32>()).zip(&chunk.samples) {
            place.copy_from_slice(&sample.to_ne_bytes());
        }
        Ok(())
    })?;
    let samples = FROM_BUFFER.import(py, "numpy", "frombuffer")?.call1((bytes, "f4"))?;
    let samples = samples.call_method1("reshape", (-1, chunk.channels.max(1)))?;
    audio_frame_type(py)?.call_method1("_of", (samples, chunk.sample_rate, chunk.start_secs))
}

fn audio_from_python(frame: &Bound<'_, PyAny>) -> Result<AudioChunk, Misfit> {
    let samples = frame.getattr("samples")?;
    let shape: Vec<usize> = samples.getattr("shape")?.extract()?;
    let channels = match shape[..] {
        [_] => 1,
        [_, channels] => u16::try_from(channels).map_err(|_| "is an AudioFrame with more than 65535 channels")?,
        _ => return Err("is an AudioFrame whose samples are not of shape (frames, channels)".into()),
    };
    let bytes = samples.call_method1("astype", ("f4",))?.call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
    let (words, _) = bytes.as_chunks();
    Ok(AudioChunk {
        samples: words.iter().map(|word| f32::from_ne_bytes(*word)).collect(),
        channels,
        sample_rate: frame
            .getattr("sample_rate")?
            .extract()
            .map_err(|_| "is an AudioFrame whose sample rate is not a whole number of Hz")?,
        start_secs: frame.getattr("start")?.extract()?,
    })
}
