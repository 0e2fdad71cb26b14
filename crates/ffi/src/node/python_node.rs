//! The user's own object as a node of the runtime.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFunction, PyList, PyTuple};
use remotemedia_runtime::{
    Batched, BulkMember, Compilable, Concurrent, FailureCounts, Fusible, Node, NodeInfo, Options, Outputs, Snapshot,
    Source, Streaming,
};

use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::callers::{Callers, Level};
use crate::node::lock::Membership;
use crate::node::methods::{
    End, OtherMethods, classify, forget_initialized, is_async, is_async_kind, is_initialized, is_source,
    optional_method, plain_function, runs_on_loop,
};
use crate::node::outputs;
use crate::node::outputs::Kind;
use crate::node::site::Site;
use crate::node::streaming;

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
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of the node")]
pub(crate) struct PythonNode {
    pub(super) object: Py<PyAny>,
    process: Process,
    /// The `flush` method, if the object has one.
    flush: Option<Py<PyAny>>,
    pub(crate) membership: Membership,
    is_dirty: bool,
    /// Whether calling its coroutine is all there is to it.
    pub(super) is_fusible: bool,
    /// Whether it can be called together with its neighbours for many items.
    is_compilable: bool,
    /// Whether the event loop runs `process`, and so all other methods, too.
    runs_on_loop: bool,
    pub(super) site: Arc<Site>,
    /// How long a coroutine may take.
    pub(super) timeout_secs: Option<f64>,
    /// Whether it is coroutines that take time, which the event loop can end.
    keeps_time: bool,
    /// How many items may be in flight together.
    pub(super) concurrency: usize,
    /// Those that were begun together.
    pub(super) packs: PyOnceLock<Py<PyAny>>,
    /// How often an item that is in flight with others is tried again, and after how many seconds.
    retries: (u32, f64),
    /// The `process` method that tries again, if it does.
    pub(super) retrying: Option<Py<PyAny>>,
    /// Counts how often it did.
    failure_counts: Arc<FailureCounts>,
    /// Another replica has the same object, and notifies it of the end of input and of interrupts.
    is_told_by_other: bool,
}

impl PythonNode {
    pub(crate) fn new(object: &Bound<'_, PyAny>, options: &Options, site: Arc<Site>) -> PyResult<Self> {
        let retries = if options.concurrency > 1 { options.retries } else { 0 };
        Ok(Self {
            object: object.clone().unbind(),
            process: Process::Callable(object.getattr("process")?.unbind()),
            flush: None,
            membership: Membership::new(object, &site.place),
            is_dirty: false,
            is_fusible: false,
            is_compilable: false,
            runs_on_loop: false,
            concurrency: options.concurrency,
            packs: PyOnceLock::new(),
            site,
            timeout_secs: options.timeout.map(|timeout| timeout.as_secs_f64()),
            keeps_time: options.timeout.is_some() && runs_on_loop(object)?,
            retries: (retries, options.retry_delay.as_secs_f64()),
            retrying: None,
            failure_counts: Arc::default(),
            is_told_by_other: false,
        })
    }

    /// One more replica of an object that has one already.
    pub(crate) fn told_by_other(self) -> Self {
        Self { is_told_by_other: true, ..self }
    }

    /// Find out whether the object makes the input: then the session must know before it initializes the node on its thread.
    pub(crate) fn find_source(&mut self, py: Python<'_>) -> PyResult<()> {
        let object = self.object.bind(py);
        if is_source(object)? {
            self.process = Process::Source(object.getattr("process")?.unbind());
        }
        Ok(())
    }

    /// Call `process` with an item.
    pub(super) fn call<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = item.py();
        match &self.process {
            Process::Function(function) => function.bind(py).call1((self.object.bind(py), item)),
            Process::Callable(callable) | Process::Streaming(callable) => callable.bind(py).call1((item,)),
            Process::Source(callable) => callable.bind(py).call0(),
        }
    }

    fn others(&self) -> OtherMethods<'_> {
        OtherMethods { bridge: &self.site.bridge, runs_on_loop: self.runs_on_loop }
    }

    /// Look the methods up. An object may choose them in its `initialize`.
    fn find_methods(&mut self, py: Python<'_>) -> PyResult<()> {
        let object = self.object.bind(py);
        let method = object.getattr("process")?;
        self.flush = if self.is_told_by_other { None } else { optional_method(object, "flush")? };
        let kind = classify(object)?;
        let kind = kind.extract::<&str>()?;
        self.runs_on_loop = is_async_kind(kind);
        if self.retries.0 > 0 && matches!(kind, "coroutine" | "async_generator") {
            let class = py.import("remotemedia._asyncio.retries")?.getattr("Retrying")?;
            let count = RetryCounter(Arc::clone(&self.failure_counts));
            let retrying = class.call1((&method, self.retries.0, self.retries.1, self.timeout_secs, count))?;
            self.retrying = Some(retrying.unbind());
        }
        let is_source = is_source(object)?;
        self.is_fusible = kind == "coroutine" && !is_source && self.retrying.is_none() && self.timeout_secs.is_none();
        self.is_compilable = kind == "plain" && !is_source;
        self.process = if is_source {
            Process::Source(method.unbind())
        } else if kind == "streaming" {
            let class = py.import("remotemedia._asyncio.streaming")?.getattr("StreamingNode")?;
            Process::Streaming(class.call1((method, Py::new(py, Callers::default())?))?.unbind())
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
        let place = Arc::clone(&self.site.place);
        let _inside = Level::node(&place).enter();
        attach(|py| {
            let object = self.object.bind(py);
            self.is_dirty = false;
            self.runs_on_loop = is_async(object)?;
            let others = OtherMethods { bridge: &self.site.bridge, runs_on_loop: self.runs_on_loop };
            let initialize = || {
                let initialized = others.call_if_any(object, "initialize", End::Cancelled);
                self.is_dirty = !matches!(initialized, Ok(false));
                initialized.map(drop)
            };
            let is_cancelled = || self.site.bridge.is_cancelled();
            self.membership.initialize(py, is_initialized(object), is_cancelled, initialize)?;
            self.find_methods(py)
        })
    }

    fn process(&mut self, item: Object) -> PyResult<Outputs<Object>> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let item = item.0.into_bound(py);
            if let Process::Streaming(adapter) = &self.process {
                return streaming::give(adapter.bind(py), "push", (item,), &self.site);
            }
            let returned = self.call(item)?;
            outputs::outputs(returned, &self.site, self.timeout_secs)
        })
    }

    fn flush(&mut self) -> PyResult<Outputs<Object>> {
        let _inside = Level::node(&self.site.place).enter();
        if let Process::Streaming(adapter) = &self.process {
            return attach(|py| streaming::give(adapter.bind(py), "end", (), &self.site));
        }
        match &self.flush {
            Some(flush) => attach(|py| {
                let outputs = self.others().call(flush.bind(py), PyTuple::empty(py), End::Cancelled)?;
                outputs::outputs(outputs, &self.site, None)
            }),
            None => Ok(Outputs::None),
        }
    }

    fn interrupt(&mut self) -> PyResult<()> {
        if self.is_told_by_other {
            return Ok(());
        }
        let place = Arc::clone(&self.site.place);
        let _inside = Level::node(&place).enter();
        self.forget_items()?;
        attach(|py| self.others().call_if_any(self.object.bind(py), "interrupt", End::Own).map(drop))
    }

    fn cleanup(&mut self) -> PyResult<()> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let object = self.object.bind(py);
            self.is_dirty = false;
            let others = OtherMethods { bridge: &self.site.bridge, runs_on_loop: self.runs_on_loop };
            self.membership.cleanup(py, || {
                let cleaned = others.call_if_any(object, "cleanup", End::Own);
                self.is_dirty = !matches!(cleaned, Ok(false));
                forget_initialized(object);
                cleaned.map(drop)
            })
        })
    }

    fn info(&self) -> NodeInfo {
        NodeInfo {
            keeps_time: self.keeps_time,
            failure_counts: (self.retries.0 > 0).then(|| Arc::clone(&self.failure_counts)),
            has_lifecycle: self.is_dirty,
        }
    }

    fn as_source(&mut self) -> Option<&mut dyn Source<Object>> {
        if matches!(self.process, Process::Source(_)) { Some(self) } else { None }
    }

    fn as_batch(&mut self) -> Option<&mut dyn Batched<Object>> {
        Some(self)
    }

    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<Object>> {
        Some(self)
    }

    fn as_snapshot(&mut self) -> Option<&mut dyn Snapshot<Object>> {
        let has_both = attach(|py| {
            let has = |name| optional_method(self.object.bind(py), name).is_ok_and(|method| method.is_some());
            has("snapshot") && has("restore")
        });
        if has_both { Some(self) } else { None }
    }

    fn as_streaming(&mut self) -> Option<&mut dyn Streaming<Object>> {
        if matches!(self.process, Process::Streaming(_)) { Some(self) } else { None }
    }

    fn as_fusible(&mut self) -> Option<&mut dyn Fusible<Object>> {
        if self.is_fusible { Some(self) } else { None }
    }

    fn as_compilable(&mut self) -> Option<&mut dyn Compilable<Object>> {
        if self.is_compilable { Some(self) } else { None }
    }

    fn as_bulk_member(&mut self) -> Option<&mut dyn BulkMember<Object>> {
        Some(self)
    }
}

impl Source<Object> for PythonNode {
    fn produce(&mut self) -> PyResult<Outputs<Object>> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| match &self.process {
            Process::Source(callable) => outputs::items(callable.bind(py).call0()?, &self.site),
            _ => Ok(Outputs::None),
        })
    }
}

impl Batched<Object> for PythonNode {
    fn process_batch(&mut self, items: Vec<Object>) -> PyResult<Vec<Option<Object>>> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let count = items.len();
            let batch = PyList::new(py, items.into_iter().map(|item| item.0))?;
            let mut returned = self.call(batch.into_any())?;
            if Kind::of(&returned)? == Kind::Coroutine {
                returned = self.site.bridge.wait_at_most(returned, self.timeout_secs)?;
            }
            let results: Vec<Py<PyAny>> = match returned.cast::<PyList>() {
                Ok(list) => list.iter().map(Bound::unbind).collect(),
                Err(_) => returned
                    .cast::<PyTuple>()
                    .map_err(|_| no_batch(&returned, count))?
                    .iter()
                    .map(Bound::unbind)
                    .collect(),
            };
            if results.len() != count {
                let text = format!("process() received a batch of {count} items and returned {}", results.len());
                return Err(PyValueError::new_err(text));
            }
            Ok(results.into_iter().map(|result| (!result.is_none(py)).then_some(Object(result))).collect())
        })
    }
}

impl Snapshot<Object> for PythonNode {
    fn snapshot(&mut self) -> PyResult<Object> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let method = self.object.bind(py).getattr("snapshot")?;
            let state = self.others().call(&method, PyTuple::empty(py), End::Cancelled)?;
            Ok(Object(state.unbind()))
        })
    }

    fn restore(&mut self, state: Object) -> PyResult<()> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let method = self.object.bind(py).getattr("restore")?;
            self.others().call(&method, PyTuple::new(py, [state.0])?, End::Cancelled).map(drop)
        })
    }
}

impl Streaming<Object> for PythonNode {
    fn forget_items(&mut self) -> PyResult<()> {
        let Process::Streaming(adapter) = &self.process else { return Ok(()) };
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| self.site.bridge.wait_to_the_end(adapter.bind(py).call_method0("restart")?).map(drop))
    }

    fn stop(&mut self) -> PyResult<()> {
        let Process::Streaming(adapter) = &self.process else { return Ok(()) };
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let close = || self.site.bridge.wait_to_the_end(adapter.bind(py).call_method0("close")?).map(drop);
            self.membership.enter(py, close)
        })
    }
}

impl BulkMember<Object> for PythonNode {
    fn interpret(&mut self, returned: Object) -> PyResult<Outputs<Object>> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| outputs::outputs(returned.0.into_bound(py), &self.site, self.timeout_secs))
    }
}

/// Called when an item that is in flight with others is tried again.
#[pyclass(module = "remotemedia._core", frozen)]
struct RetryCounter(Arc<FailureCounts>);

#[pymethods]
impl RetryCounter {
    fn __call__(&self) {
        self.0.count_retry();
    }
}

fn no_batch(returned: &Bound<'_, PyAny>, count: usize) -> PyErr {
    let kind = returned.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "process() received a batch of {count} items and returned {kind}; return a list of the same length"
    ))
}
