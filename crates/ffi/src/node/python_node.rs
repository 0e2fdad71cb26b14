//! The user's own object as a node of the runtime.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFunction, PyList, PyString, PyTuple};
use remotemedia_runtime::{
    Batched, BulkMember, Concurrent, Done, EndEarly, FailureCounts, Node, NodeInfo, Options, Outputs, Snapshot, Source,
    Streaming,
};

use crate::asyncio::bridge::Bridge;
use crate::asyncio::context::BegunCall;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::callers::{Callers, Level};
use crate::node::lock::Membership;
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

/// When a coroutine of a node ends at the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// When the run is cancelled.
    Cancelled,
    /// When it ends by itself: it cleans up.
    Own,
}

/// Calls other methods of an object than `process`, where that runs.
struct OtherMethods<'a> {
    bridge: &'a Bridge,
    runs_on_loop: bool,
}

impl OtherMethods<'_> {
    /// Call a method. A coroutine is awaited.
    fn call<'py>(
        &self,
        method: &Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        end: End,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.runs_on_loop {
            return self.bridge.call(method, args, end == End::Own);
        }
        let mut returned = method.call1(args)?;
        while Kind::of(&returned)? == Kind::Coroutine {
            returned = match end {
                End::Cancelled => self.bridge.wait(returned)?,
                End::Own => self.bridge.wait_to_the_end(returned)?,
            };
        }
        Ok(returned)
    }
}

/// Whether the event loop runs `process`.
fn is_async(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_async_kind(classify(object)?.extract()?))
}

fn classify<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static CLASSIFY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASSIFY.import(object.py(), "remotemedia._graph.node_kinds", "classify")?.call1((object,))
}

fn is_source(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static IS_SOURCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    IS_SOURCE.import(object.py(), "remotemedia._graph.node_kinds", "is_source")?.call1((object,))?.extract()
}

fn is_async_kind(kind: &str) -> bool {
    matches!(kind, "coroutine" | "async_generator" | "streaming")
}

/// A Python object that has a `process` method.
#[allow(clippy::struct_excessive_bools, reason = "each says something else about the node, in any combination")]
pub(crate) struct PythonNode {
    object: Py<PyAny>,
    process: Process,
    /// The `flush` method, if the object has one.
    flush: Option<Py<PyAny>>,
    pub(crate) membership: Membership,
    is_dirty: bool,
    /// Whether the event loop runs `process`, and so all other methods, too.
    runs_on_loop: bool,
    site: Arc<Site>,
    /// How long a coroutine may take.
    timeout_secs: Option<f64>,
    /// Whether it is coroutines that take time, which the event loop can end.
    keeps_time: bool,
    /// How often an item that is in flight with others is tried again, and after how many seconds.
    retries: (u32, f64),
    /// The `process` method that tries again, if it does.
    retrying: Option<Py<PyAny>>,
    /// Counts how often it did.
    failure_counts: Arc<FailureCounts>,
    /// Another replica has the same object, and tells it of the end of input and of interrupts.
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
            runs_on_loop: false,
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
    fn call<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = item.py();
        match &self.process {
            Process::Function(function) => function.bind(py).call1((self.object.bind(py), item)),
            Process::Callable(callable) | Process::Streaming(callable) => callable.bind(py).call1((item,)),
            Process::Source(callable) => callable.bind(py).call0(),
        }
    }

    /// Call `process`, or what tries it again, with an item that is in flight with others. An async generator runs to its end there.
    ///
    /// Returns the time limit too that is left to keep.
    fn begin<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Option<f64>)> {
        let py = item.py();
        if let Some(retrying) = &self.retrying {
            return Ok((retrying.bind(py).call1((item,))?, None));
        }
        let answer = self.call(item)?;
        if Kind::of(&answer)? == Kind::AsyncGenerator {
            let collected = py.import("remotemedia._asyncio.retries")?.getattr("collected")?;
            return Ok((collected.call1((answer, self.timeout_secs))?, None));
        }
        Ok((answer, self.timeout_secs))
    }

    fn others(&self) -> OtherMethods<'_> {
        OtherMethods { bridge: &self.site.bridge, runs_on_loop: self.runs_on_loop }
    }

    /// Begin to await a coroutine. Returns what cancels it.
    fn start_awaiting(
        &self,
        answer: Bound<'_, PyAny>,
        timeout_secs: Option<f64>,
        done: Done<Object>,
    ) -> Option<EndEarly> {
        let py = answer.py();
        let begun = BegunCall::new(py, &self.site.place).and_then(|(context, call)| {
            let callback = DoneCallback { done: Mutex::new(Some((call, done))), site: Arc::clone(&self.site) };
            Ok((context, Bound::new(py, callback)?))
        });
        let (context, callback) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                error.write_unraisable(py, None);
                return None;
            }
        };
        match self.site.bridge.start(answer, callback.clone().into_any(), timeout_secs, &context) {
            Ok(cancel) => Some(end_early(cancel)),
            Err(error) => {
                callback.get().finish(Err(error));
                None
            }
        }
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
        self.process = if is_source(object)? {
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
            let initialize = || match optional_method(object, "initialize")? {
                Some(method) => {
                    self.is_dirty = true;
                    others.call(method.bind(py), PyTuple::empty(py), End::Cancelled).map(drop)
                }
                None => Ok(()),
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
        attach(|py| match optional_method(self.object.bind(py), "interrupt")? {
            Some(method) => self.others().call(method.bind(py), PyTuple::empty(py), End::Own).map(drop),
            None => Ok(()),
        })
    }

    fn cleanup(&mut self) -> PyResult<()> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let object = self.object.bind(py);
            self.is_dirty = false;
            let others = OtherMethods { bridge: &self.site.bridge, runs_on_loop: self.runs_on_loop };
            let mut clean_up = || match optional_method(object, "cleanup")? {
                Some(method) => {
                    self.is_dirty = true;
                    others.call(method.bind(py), PyTuple::empty(py), End::Own).map(drop)
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
            let mut answer = self.call(batch.into_any())?;
            if Kind::of(&answer)? == Kind::Coroutine {
                answer = self.site.bridge.wait_at_most(answer, self.timeout_secs)?;
            }
            let answers: Vec<Py<PyAny>> = match answer.cast::<PyList>() {
                Ok(list) => list.iter().map(Bound::unbind).collect(),
                Err(_) => {
                    answer.cast::<PyTuple>().map_err(|_| no_batch(&answer, count))?.iter().map(Bound::unbind).collect()
                }
            };
            if answers.len() != count {
                let text = format!("process() got a batch of {count} items and answered {} of them", answers.len());
                return Err(PyValueError::new_err(text));
            }
            Ok(answers.into_iter().map(|answer| (!answer.is_none(py)).then_some(Object(answer))).collect())
        })
    }
}

impl Concurrent<Object> for PythonNode {
    fn start(&mut self, item: Object, _item_index: Option<u64>, done: Done<Object>) -> Option<EndEarly> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| match self.begin(item.0.into_bound(py)) {
            Ok((answer, timeout_secs)) if Kind::of(&answer).is_ok_and(|kind| kind == Kind::Coroutine) => {
                self.start_awaiting(answer, timeout_secs, done)
            }
            Ok((answer, timeout_secs)) => {
                done(outputs::outputs(answer, &self.site, timeout_secs));
                None
            }
            Err(error) => {
                done(Err(error));
                None
            }
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

fn no_batch(answer: &Bound<'_, PyAny>, count: usize) -> PyErr {
    let kind = answer.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "process() got a batch of {count} items and answered {kind}; answer a list of as many"
    ))
}

/// Whether the event loop runs `process`, and can end it.
pub(crate) fn runs_on_loop(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(matches!(classify(object)?.extract::<&str>()?, "coroutine" | "async_generator"))
}

/// Cancels a coroutine that was begun.
fn end_early(cancel: Py<PyAny>) -> EndEarly {
    Box::new(move || {
        attach(|py| {
            if let Err(error) = cancel.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    })
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

/// Told by the event loop that a coroutine of [`Node::start`] has ended.
#[pyclass(module = "remotemedia._core", frozen)]
struct DoneCallback {
    done: Mutex<Option<(BegunCall, Done<Object>)>>,
    site: Arc<Site>,
}

#[pymethods]
impl DoneCallback {
    fn __call__(&self, value: Bound<'_, PyAny>, error: Bound<'_, PyAny>) {
        if let Some(mailbox) = self.site.bridge.mailbox() {
            mailbox.expect(value.py());
        }
        self.finish(if error.is_none() {
            outputs::outputs_of_started(value, &self.site)
        } else {
            Err(PyErr::from_value(error))
        });
    }
}

impl DoneCallback {
    fn finish(&self, answer: PyResult<Outputs<Object>>) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((call, done)) = done {
            drop(call);
            done(answer);
        }
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
    let method = attribute_or_none(object, name)?;
    Ok(method.is_callable().then(|| method.unbind()))
}

/// By way of Python's `getattr`: where there is none, others make an error first, which costs more than calling a node.
fn attribute_or_none<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static GETATTR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    GETATTR.import(py, "builtins", "getattr")?.call1((object, PyString::intern(py, name), py.None()))
}

/// Whether the object says that it is ready; then it belongs to its caller.
fn is_initialized(object: &Bound<'_, PyAny>) -> bool {
    attribute_or_none(object, "is_initialized").is_ok_and(|value| value.is(pyo3::types::PyBool::new(object.py(), true)))
}

/// A subclass that cleans up without calling its base would else seem ready, and its caller's, in the next run.
pub(crate) fn forget_initialized(object: &Bound<'_, PyAny>) {
    if is_initialized(object) {
        // An object whose flag cannot be set keeps it: then it says so of itself.
        drop(object.setattr("is_initialized", false));
    }
}
