//! The user's own object as a node of the runtime.

use std::sync::Arc;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyFunction;
use remotemedia_runtime::{Node, Outputs, Stream};

use crate::answer;
use crate::bridge::Bridge;
use crate::object::Object;
use crate::sharing::Membership;

/// How `process` is called.
enum Process {
    /// A plain function and the object as its first argument: CPython's shortest way into a method.
    Function(Py<PyFunction>),
    /// Whatever else can be called with an item.
    Callable(Py<PyAny>),
    /// Nothing to call an item with: the object makes the input.
    Source(Py<PyAny>),
    /// An async generator that gets the whole stream, in the hands of its `StreamingNode`.
    Streaming(Py<PyAny>),
}

/// A Python object that has a `process` method.
pub(crate) struct PythonNode {
    object: Py<PyAny>,
    process: Process,
    /// The `flush` method, if the object has one.
    flush: Option<Py<PyAny>>,
    pub(crate) membership: Membership,
    has_acted: bool,
    bridge: Arc<Bridge>,
}

impl PythonNode {
    pub(crate) fn new(object: &Bound<'_, PyAny>, bridge: Arc<Bridge>) -> PyResult<Self> {
        Ok(Self {
            object: object.clone().unbind(),
            process: Process::Callable(object.getattr("process")?.unbind()),
            flush: None,
            membership: Membership::new(object),
            has_acted: false,
            bridge,
        })
    }

    /// Look the methods up. An object may choose them in its `initialize`.
    fn find_methods(&mut self, py: Python<'_>) -> PyResult<()> {
        let object = self.object.bind(py);
        let kinds = py.import("remotemedia._kinds")?;
        let method = object.getattr("process")?;
        self.flush = optional_method(object, "flush")?;
        self.process = if kinds.call_method1("is_source", (object,))?.extract()? {
            Process::Source(method.unbind())
        } else if kinds.call_method1("classify", (object,))?.extract::<&str>()? == "streaming" {
            let class = py.import("remotemedia._streaming")?.getattr("StreamingNode")?;
            Process::Streaming(class.call1((method,))?.unbind())
        } else {
            match plain_function(object, &method) {
                Some(function) => Process::Function(function.unbind()),
                None => Process::Callable(method.unbind()),
            }
        };
        Ok(())
    }
}

impl Node<Object> for PythonNode {
    fn initialize(&mut self) -> PyResult<()> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            self.has_acted = false;
            let initialize = || match optional_method(object, "initialize")? {
                Some(method) => {
                    self.has_acted = true;
                    answer::finish(method.bind(py).call0()?, |coroutine| self.bridge.wait(coroutine))
                }
                None => Ok(()),
            };
            let is_cancelled = || self.bridge.is_cancelled();
            self.membership.initialize(py, is_initialized(object), is_cancelled, initialize)?;
            self.find_methods(py)
        })
    }

    fn is_source(&self) -> bool {
        matches!(self.process, Process::Source(_))
    }

    fn process(&mut self, item: Object) -> PyResult<Outputs<Object>> {
        Python::attach(|py| {
            let item = item.0.into_bound(py);
            let returned = match &self.process {
                Process::Function(function) => function.bind(py).call1((self.object.bind(py), item))?,
                Process::Callable(callable) => callable.bind(py).call1((item,))?,
                Process::Source(callable) => callable.bind(py).call0()?,
                Process::Streaming(adapter) => {
                    let adapter = adapter.bind(py);
                    self.bridge.wait(adapter.call_method1("push", (item,))?)?;
                    return Ok(stream_outputs(adapter, &self.bridge));
                }
            };
            answer::outputs(returned, &self.bridge)
        })
    }

    fn interpret(&mut self, answer: Object) -> PyResult<Outputs<Object>> {
        Python::attach(|py| answer::outputs(answer.0.into_bound(py), &self.bridge))
    }

    fn produce(&mut self) -> PyResult<Outputs<Object>> {
        Python::attach(|py| match &self.process {
            Process::Source(callable) => answer::outputs(callable.bind(py).call0()?, &self.bridge),
            _ => Ok(Outputs::None),
        })
    }

    fn flush(&mut self) -> PyResult<Outputs<Object>> {
        if let Process::Streaming(adapter) = &self.process {
            return Python::attach(|py| {
                let adapter = adapter.bind(py);
                self.bridge.wait(adapter.call_method0("end")?)?;
                Ok(stream_outputs(adapter, &self.bridge))
            });
        }
        match &self.flush {
            Some(flush) => Python::attach(|py| answer::outputs(flush.bind(py).call0()?, &self.bridge)),
            None => Ok(Outputs::None),
        }
    }

    fn has_acted(&self) -> bool {
        self.has_acted
    }

    fn stop(&mut self) -> PyResult<()> {
        let Process::Streaming(adapter) = &self.process else { return Ok(()) };
        Python::attach(|py| {
            let close = || self.bridge.wait_to_the_end(adapter.bind(py).call_method0("close")?).map(drop);
            self.membership.enter(py, close)
        })
    }

    fn cleanup(&mut self) -> PyResult<()> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            self.has_acted = false;
            let mut clean_up = || match optional_method(object, "cleanup")? {
                Some(method) => {
                    self.has_acted = true;
                    answer::finish(method.bind(py).call0()?, |answer| self.bridge.wait_to_the_end(answer))
                }
                None => Ok(()),
            };
            self.membership.cleanup(py, || {
                let cleaned = clean_up();
                forget_initialized(object);
                cleaned
            })
        })
    }
}

/// What a streaming node makes out of what it has, up to the moment when it asks for its next item.
fn stream_outputs(adapter: &Bound<'_, PyAny>, bridge: &Arc<Bridge>) -> Outputs<Object> {
    Outputs::Many(Box::new(StreamOutputs { adapter: adapter.clone().unbind(), bridge: Arc::clone(bridge) }))
}

struct StreamOutputs {
    adapter: Py<PyAny>,
    bridge: Arc<Bridge>,
}

impl Stream<Object> for StreamOutputs {
    fn next(&mut self) -> PyResult<Option<Object>> {
        Python::attach(|py| {
            let next = self.adapter.bind(py).call_method0("next_output")?;
            let (is_output, output): (bool, Py<PyAny>) = self.bridge.wait(next)?.extract()?;
            Ok(is_output.then_some(Object(output)))
        })
    }
}

/// The function behind `object.process`, if it is an ordinary method of the object.
fn plain_function<'py>(object: &Bound<'py, PyAny>, method: &Bound<'py, PyAny>) -> Option<Bound<'py, PyFunction>> {
    let owner = method.getattr("__self__").ok()?;
    let function = method.getattr("__func__").ok()?.cast_into::<PyFunction>().ok()?;
    owner.is(object).then_some(function)
}

/// The method `name`, if the object has one.
fn optional_method(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Py<PyAny>>> {
    match object.getattr(name) {
        Ok(method) if method.is_callable() => Ok(Some(method.unbind())),
        Ok(_) => Ok(None),
        Err(error) if error.is_instance_of::<PyAttributeError>(object.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the object says that it is ready; then it belongs to its caller.
fn is_initialized(object: &Bound<'_, PyAny>) -> bool {
    object.getattr("is_initialized").is_ok_and(|value| value.is(pyo3::types::PyBool::new(object.py(), true)))
}

/// A subclass that cleans up without calling its base would else seem ready, and its caller's, in the next run.
fn forget_initialized(object: &Bound<'_, PyAny>) {
    if is_initialized(object) {
        // An object whose flag cannot be set keeps it: then it says so of itself.
        drop(object.setattr("is_initialized", false));
    }
}
