//! The event loop on which the coroutines of one run are awaited.
//!
//! The waiting itself is Python (`remotemedia._asyncio.bridge`), where asyncio is at home; it is created when the first coroutine
//! appears, so a run without coroutines never imports asyncio.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyCFunction, PyTuple};
use remotemedia_runtime::locks::Mutex;

use crate::asyncio::context::CallerContext;
use crate::asyncio::mailbox::Mailbox;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::current_chunk::CurrentChunk;
use crate::node::callers;
use crate::node::callers::{Callers, Frames};

/// Awaits coroutines for the thread of a run.
pub(crate) struct Bridge {
    /// The caller's loop; without one the run gets a loop of its own.
    event_loop: Option<Py<PyAny>>,
    /// The mailbox by which that loop receives the outcomes of its coroutines.
    mailbox: Option<Arc<Mailbox>>,
    started: PyOnceLock<Py<PyAny>>,
    /// The chunks that are in work in compiled nodes, one for each stage.
    chunks: Mutex<Vec<CurrentChunk>>,
    is_cancelled: AtomicBool,
}

impl Bridge {
    pub(crate) fn new(event_loop: Option<Py<PyAny>>) -> Arc<Self> {
        let mailbox = event_loop.as_ref().map(|event_loop| attach(|py| Mailbox::new(event_loop.clone_ref(py))));
        Arc::new(Self {
            event_loop,
            mailbox,
            started: PyOnceLock::new(),
            chunks: Mutex::default(),
            is_cancelled: AtomicBool::new(false),
        })
    }

    /// Where a stage notes the chunk that is in work, so that an interruption ends it after the current item.
    pub(crate) fn new_chunk(&self) -> CurrentChunk {
        let chunk = CurrentChunk::default();
        self.chunks.lock().push(chunk.clone());
        chunk
    }

    /// End the chunks in work after their current item, those that are meant: see [`CurrentChunk::cut`].
    pub(crate) fn cut_chunks(&self, py: Python<'_>, is_meant: &dyn Fn(u64) -> bool) -> PyResult<()> {
        let chunks = self.chunks.lock().clone();
        chunks.iter().try_for_each(|chunk| chunk.cut(py, is_meant))
    }

    /// Let what the chunks in work have done go on, and take their other items one by one: they take longer than expected.
    pub(crate) fn pause_chunks(&self, py: Python<'_>) -> PyResult<()> {
        let chunks = self.chunks.lock().clone();
        chunks.iter().try_for_each(|chunk| chunk.pause(py))
    }

    /// The way to the caller's loop.
    pub(crate) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// The `Bridge` of `remotemedia._asyncio.bridge`.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        if let Some(started) = self.started.get(py) {
            return Ok(started.bind(py));
        }
        let event_loop = self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        let started = self.started.get_or_try_init(py, || {
            let bridge = py.import("remotemedia._asyncio.bridge")?.getattr("Bridge")?.call1((event_loop,))?;
            PyResult::Ok(bridge.unbind())
        })?;
        if self.is_cancelled() {
            // The run was cancelled before the bridge existed.
            started.call_method0(py, "cancel")?;
        }
        Ok(started.bind(py))
    }

    /// Await a coroutine; a cancelled run cancels it.
    pub(crate) fn wait<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_by("wait", awaitable, None)
    }

    /// The same where these calls of nodes wait for it.
    pub(crate) fn wait_for<'py>(&self, frames: Frames, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_within(frames, "wait", awaitable, None)
    }

    /// Await a coroutine for no longer than `timeout_secs`.
    pub(crate) fn wait_at_most<'py>(
        &self,
        awaitable: Bound<'py, PyAny>,
        timeout_secs: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.wait_by("wait", awaitable, timeout_secs)
    }

    fn wait_by<'py>(
        &self,
        method: &str,
        awaitable: Bound<'py, PyAny>,
        timeout_secs: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let frames = callers::current(awaitable.py())?;
        self.wait_within(frames, method, awaitable, timeout_secs)
    }

    fn wait_within<'py>(
        &self,
        frames: Frames,
        method: &str,
        awaitable: Bound<'py, PyAny>,
        timeout_secs: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, awaited) = (awaitable.py(), awaitable.clone());
        or_close(&awaited, || {
            let (context, _awaited) = CallerContext::awaited_by(py, frames)?;
            self.get(py)?.call_method1(method, (awaitable, timeout_secs, context.object(py)))
        })
    }

    /// Begin to await a coroutine; `done(value, error)` is called on the loop when it has ended. Returns what cancels it.
    pub(crate) fn start(
        &self,
        awaitable: Bound<'_, PyAny>,
        done: Bound<'_, PyAny>,
        timeout_secs: Option<f64>,
        context: &CallerContext,
    ) -> PyResult<Py<PyAny>> {
        let (py, awaited) = (awaitable.py(), awaitable.clone());
        or_close(&awaited, || {
            self.get(py)?.call_method1("start", (awaitable, done, timeout_secs, context.object(py))).map(Bound::unbind)
        })
    }

    /// What cancels that for which this thread waits, if it waits.
    pub(crate) fn awaited_by<'py>(&self, py: Python<'py>, thread_id: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(bridge) = self.started.get(py) else { return Ok(None) };
        let cancel = bridge.bind(py).call_method1("awaited_by", (thread_id,))?;
        Ok((!cancel.is_none()).then_some(cancel))
    }

    /// What this thread waits for goes on over interruptions.
    pub(crate) fn spare_thread(&self, py: Python<'_>) -> PyResult<()> {
        self.get(py)?.call_method0("spare_thread").map(drop)
    }

    /// Cancel what threads wait for now, and what was begun by [`Bridge::start`].
    pub(crate) fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.cut_chunks(py, &|_| true)?;
        self.started.get(py).map_or(Ok(()), |bridge| bridge.call_method0(py, "interrupt").map(drop))
    }

    /// The same, unless `is_due` is false when the loop comes to it: by then the nodes may be at what came after the interruption.
    pub(crate) fn interrupt_if(
        &self,
        py: Python<'_>,
        is_due: impl Fn() -> bool + Send + Sync + 'static,
    ) -> PyResult<()> {
        let Some(bridge) = self.started.get(py) else { return Ok(()) };
        let is_due = PyCFunction::new_closure(py, None, None, move |_, _| is_due())?;
        bridge.call_method1(py, "interrupt", (is_due,)).map(drop)
    }

    /// Await a coroutine that must end even in a cancelled run.
    pub(crate) fn wait_to_the_end<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_by("wait_to_the_end", awaitable, None)
    }

    /// Call a method on the loop, and wait for its result, also in a cancelled run if it `runs_to_the_end`.
    pub(crate) fn call<'py>(
        &self,
        method: &Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        runs_to_the_end: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = method.py();
        let options = [("to_the_end", runs_to_the_end)].into_py_dict(py)?;
        let (context, _awaited) = CallerContext::awaited_by(py, callers::current(py)?)?;
        options.set_item("context", context.object(py))?;
        py.import("remotemedia._asyncio.loop_calls")?.call_method("call", (self.get(py)?, method, args), Some(&options))
    }

    /// Take an async iterable step by step, each in no longer than `timeout_secs`, in one task. One that is ours is closed at its end.
    pub(crate) fn iterate(
        &self,
        iterable: &Bound<'_, PyAny>,
        is_ours: bool,
        timeout_secs: Option<f64>,
    ) -> PyResult<Iteration> {
        let py = iterable.py();
        let options = [("is_ours", is_ours)].into_py_dict(py)?;
        options.set_item("timeout", timeout_secs)?;
        let callers = Py::new(py, Callers::default())?;
        options.set_item("context", CallerContext::carrying(py, &callers)?.object(py))?;
        let iteration = self.get(py)?.call_method("iterate", (iterable,), Some(&options))?.unbind();
        Ok(Iteration { iteration, callers })
    }

    /// Cancel what is awaited now, and whatever would be awaited later, but for [`Bridge::wait_to_the_end`].
    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.cut_chunks(py, &|_| true)?;
        self.started.get(py).map_or(Ok(()), |bridge| bridge.call_method0(py, "cancel").map(drop))
    }

    /// A function that cancels as [`Bridge::cancel`] does, for threads that cannot receive an error.
    pub(crate) fn stopper(self: &Arc<Self>) -> Arc<dyn Fn() + Send + Sync> {
        let bridge = Arc::clone(self);
        Arc::new(move || {
            attach(|py| {
                if let Err(error) = bridge.cancel(py) {
                    error.write_unraisable(py, None);
                }
            });
        })
    }

    /// Whether the run was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// End the loop, if it is the run's own.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.started.get(py).map_or(Ok(()), |bridge| bridge.call_method0(py, "close").map(drop))
    }
}

/// Do something that awaits a coroutine. If it fails before that has begun, the coroutine is closed, because it will not be awaited.
fn or_close<T>(awaitable: &Bound<'_, PyAny>, wait: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let has_begun = || {
        let is_true = |name| awaitable.getattr(name)?.is_truthy();
        PyResult::Ok(is_true("cr_running")? || is_true("cr_suspended")? || awaitable.getattr("cr_frame")?.is_none())
    };
    wait().inspect_err(|_| {
        if has_begun().is_ok_and(|has_begun| !has_begun) {
            // One that has not begun has nothing to end.
            drop(awaitable.call_method0("close"));
        }
    })
}

/// An async iterable at work.
pub(crate) struct Iteration {
    iteration: Py<PyAny>,
    /// The callers that wait for its next step.
    callers: Py<Callers>,
}

impl Iteration {
    /// The next item, or `None` at the end.
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Option<Object>> {
        let (is_item, item): (bool, Py<PyAny>) = self.step(py, "next")?.extract(py)?;
        Ok(is_item.then_some(Object(item)))
    }

    /// Stop before the end.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.step(py, "close").map(drop)
    }

    fn step(&self, py: Python<'_>, method: &str) -> PyResult<Py<PyAny>> {
        self.callers.get().hold(callers::current(py)?);
        let result = self.iteration.call_method0(py, method);
        self.callers.get().hold(Vec::new());
        result
    }
}
