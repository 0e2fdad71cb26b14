//! The stream of a session for Python: items go in, outputs come out.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Admission, Caller, Client, Next, Outbox, Overflow};

use crate::asyncio::context::{AwaitedGuard, CallerContext};
use crate::asyncio::mailbox::output_notifier;
use crate::attach::{detach, prepare_thread};
use crate::convert::failure;
use crate::convert::object::Object;
use crate::node::callers;
use crate::node::lock::thread_id;
use crate::session::core::{POLL_INTERVAL, SessionCore, Ticket, WaitCheck, outbox_of};
use crate::session::put_inline;

/// The outputs of the items that one stream puts in, in order.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct OutputStream {
    pub(crate) core: Py<SessionCore>,
    pub(crate) outbox: Arc<Outbox<Object>>,
    /// The context of the caller that asked for the stream.
    context: CallerContext,
    /// The number of items that went in, if their errors contain their index in the stream, not in the session.
    own_items: Option<AtomicU64>,
    /// Nodes wait for its outputs.
    _awaited: Option<AwaitedGuard>,
    /// The thread that has asked for an output last, as in `threading.get_ident()`; 0 before.
    taken_by: AtomicU64,
}

#[pymethods]
impl OutputStream {
    /// A stream of its own: what `map` puts its items in.
    #[staticmethod]
    #[pyo3(signature = (core, capacity, on_output=None, *, counts_own_items=false))]
    fn open(
        core: &Bound<'_, SessionCore>,
        capacity: usize,
        on_output: Option<Py<PyAny>>,
        counts_own_items: bool,
    ) -> PyResult<Self> {
        let session = core.get();
        let notify = on_output.map(|on_output| output_notifier(on_output, session.mailbox.as_ref()));
        let outbox = outbox_of(&session.session, capacity, notify);
        Self::awaited(core, outbox, counts_own_items)
    }

    /// The stream of `put` and iteration.
    #[staticmethod]
    fn main(core: &Bound<'_, SessionCore>) -> PyResult<Self> {
        Self::new(core, Arc::clone(&core.get().outbox))
    }

    /// Put an item in. `True`: it is in; `False`: the session takes no more; otherwise a future of the event loop, for either.
    fn put<'py>(&self, py: Python<'py>, item: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Some(mailbox) = self.core.get().mailbox.clone() else {
            return Err(PyRuntimeError::new_err("only an asynchronous session can put without waiting"));
        };
        self.check_room(py)?;
        let event_loop = mailbox.event_loop(py);
        let waiting: Arc<OnceLock<Py<PyAny>>> = Arc::default();
        let waiting_then = Arc::clone(&waiting);
        let on_admission = Box::new(move |is_in: bool| {
            // Delivered on the loop, after this call has returned.
            mailbox.post(move |py| waiting_then.get().map_or((), |future| resolve(py, future, is_in)));
        });
        let is_in = match self.submit(Some(Object(item)), Some(on_admission)) {
            Admission::Now => true,
            Admission::Never => false,
            Admission::Later => {
                let future = event_loop.call_method0("create_future")?;
                return Ok(waiting.get_or_init(|| future.unbind()).bind(py).clone());
            }
        };
        Ok(PyBool::new(py, is_in).to_owned().into_any())
    }

    /// All outputs that are ready within `timeout` seconds, at least one if there is one in time; `None` at the end.
    fn ready(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<ReadyOutputs>> {
        // Before they are taken: what is dropped meanwhile is not among them.
        let generation = self.outbox.generation();
        let mut outputs = Vec::new();
        let first = self.wait_for(py, timeout, |outbox, timeout| outbox.next_ready(timeout, &mut outputs))?;
        match first {
            Next::Output(first) => outputs.insert(0, first),
            Next::Nothing => {}
            Next::End => return Ok(None),
            Next::Failed(error) => return Err(failure::ended(py, error)),
        }
        Ok(Some(ReadyOutputs {
            outbox: Arc::clone(&self.outbox),
            outputs: Mutex::new(outputs.into_iter()),
            generation,
        }))
    }

    /// Put an item in, and wait for room. With `is_taken`, for nodes that run on the calling threads, this thread processes the item;
    /// `is_taken` returns whether another thread reads outputs, so that this one may wait for room. Without it, a thread of the session
    /// runs the nodes from now on.
    #[pyo3(signature = (item, is_taken))]
    fn put_and_wait(&self, py: Python<'_>, item: Py<PyAny>, is_taken: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.check_room(py)?;
        let session = &self.core.get().session;
        if session.is_on_callers() {
            if let Some(is_taken) = is_taken {
                return self.put_inline(py, Some(Object(item)), is_taken);
            }
            session.start_thread().map_err(|error| failure::ended(py, error))?;
        }
        let (sender, admitted) = sync_channel(1);
        let on_admission = Box::new(move |is_in| {
            // The wait may have been interrupted.
            sender.send(is_in).ok();
        });
        match self.submit(Some(Object(item)), Some(on_admission)) {
            Admission::Now => return Ok(true),
            Admission::Never => return Ok(false),
            Admission::Later => {}
        }
        let admitted = Mutex::new(admitted);
        let mut wait_check = WaitCheck::default();
        loop {
            let is_in = detach(py, || admitted.lock().recv_timeout(POLL_INTERVAL));
            if let Ok(is_in) = is_in {
                return Ok(is_in);
            }
            wait_check.check(self.core.get(), py, "put")?;
            py.check_signals()?;
        }
    }

    /// End the input: the nodes are flushed; `is_taken` is as for `put_and_wait`.
    #[pyo3(signature = (is_taken=None))]
    fn end(&self, py: Python<'_>, is_taken: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match is_taken {
            Some(is_taken) if self.core.get().session.is_on_callers() => self.put_inline(py, None, is_taken).map(drop),
            _ => {
                self.submit(None, None);
                self.outbox.end();
                Ok(())
            }
        }
    }

    /// Whether `next` returns a result without waiting.
    #[getter]
    fn is_ready(&self) -> bool {
        self.outbox.is_ready()
    }

    /// From now on, outputs that find the queue full wait (`"wait"`), are kept (`"keep"`), or are dropped with all others (`"drop"`).
    fn set_overflow(&self, overflow: &str) -> PyResult<()> {
        let overflow = match overflow {
            "wait" => Overflow::Wait,
            "keep" => Overflow::Keep,
            "drop" => Overflow::Drop,
            other => return Err(PyValueError::new_err(format!("outputs cannot {other}"))),
        };
        self.outbox.set_overflow(overflow);
        Ok(())
    }

    /// Raise the first failure that was not raised yet.
    fn raise_failure(&self, py: Python<'_>) -> PyResult<()> {
        self.outbox.take_failure().map_or(Ok(()), |error| Err(failure::ended(py, error)))
    }

    /// How many inputs are in flight, and outputs not taken.
    #[getter]
    fn load(&self) -> usize {
        self.outbox.load()
    }

    /// The thread that has asked for an output last, 0 if none has.
    #[getter]
    fn taken_by(&self) -> u64 {
        self.taken_by.load(Ordering::Relaxed)
    }

    /// What there is within `timeout` seconds: `(0, None)` for nothing, `(1, output)`, `(2, None)` at the end.
    fn next(&self, py: Python<'_>, timeout: f64) -> PyResult<(u8, Py<PyAny>)> {
        match self.wait_for(py, timeout, Outbox::next)? {
            Next::Output(output) => Ok((1, output.0)),
            Next::Nothing => Ok((0, py.None())),
            Next::End => Ok((2, py.None())),
            Next::Failed(error) => Err(failure::ended(py, error)),
        }
    }

    /// Take no more, and drop what is in progress. Returns as `SessionCore.abandon` does.
    fn abandon(&self, py: Python<'_>) -> PyResult<bool> {
        self.outbox.abandon();
        let client: Arc<dyn Client<Object>> = self.outbox.clone();
        let is_at_work = self.core.get().abandon(py, &Ticket { client, waiting: None });
        // A generator that is paused is closed.
        self.core.get().work_here(py, &|| false)?;
        is_at_work
    }
}

impl OutputStream {
    /// A stream whose outputs need not be waited for.
    pub(crate) fn new(core: &Bound<'_, SessionCore>, outbox: Arc<Outbox<Object>>) -> PyResult<Self> {
        let context = CallerContext::current(core.py())?;
        Ok(Self {
            core: core.clone().unbind(),
            outbox,
            context,
            own_items: None,
            _awaited: None,
            taken_by: AtomicU64::default(),
        })
    }

    /// A stream for a caller that takes the outputs of its own inputs.
    pub(crate) fn awaited(
        core: &Bound<'_, SessionCore>,
        outbox: Arc<Outbox<Object>>,
        counts_own_items: bool,
    ) -> PyResult<Self> {
        let (context, awaited) = CallerContext::awaited_by(core.py(), callers::current(core.py())?)?;
        let own_items = counts_own_items.then(AtomicU64::default);
        Ok(Self {
            core: core.clone().unbind(),
            outbox,
            context,
            own_items,
            _awaited: awaited,
            taken_by: AtomicU64::default(),
        })
    }

    /// Wait until `next` returns something else than nothing, for at most `timeout` seconds.
    fn wait_for(
        &self,
        py: Python<'_>,
        timeout: f64,
        mut next: impl FnMut(&Outbox<Object>, Duration) -> Next<Object> + Send,
    ) -> PyResult<Next<Object>> {
        prepare_thread();
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        self.taken_by.store(thread_id(), Ordering::Relaxed);
        let core = self.core.get();
        if core.session.is_on_callers() && !self.outbox.is_ready() {
            core.work_here(py, &|| !self.outbox.is_ready())?;
        }
        let mut found = next(&self.outbox, Duration::ZERO);
        if matches!(found, Next::Nothing) && !timeout.is_zero() {
            let _waiting = core.begin_wait(py, "map")?;
            found = detach(py, || next(&self.outbox, timeout));
        }
        if matches!(found, Next::Nothing) {
            if !timeout.is_zero() {
                core.bridge.pause_chunks(py)?;
                detach(py, || core.session.hand_on_chunks());
            }
            core.check_not_left(py)?;
            py.check_signals()?;
        }
        Ok(found)
    }

    /// The index of the first of so many items that come in, by which their errors name them; 0 of the end of input.
    pub(crate) fn own_index(&self, items: u64) -> Option<u64> {
        let counted = self.own_items.as_ref()?;
        Some(match items {
            // What is flushed belongs to the last item.
            0 => counted.load(Ordering::Relaxed).saturating_sub(1),
            _ => counted.fetch_add(items, Ordering::Relaxed),
        })
    }

    /// The index of the next item, by which its errors name it.
    pub(crate) fn next_own_index(&self) -> Option<u64> {
        self.own_items.as_ref().map(|items| items.load(Ordering::Relaxed))
    }

    /// The context of the caller that asked for the stream.
    pub(crate) fn context(&self) -> CallerContext {
        self.context.clone()
    }

    /// Put an item in without blocking; it may wait for room, see [`Outbox::is_held_up`]. `False`: the session has closed.
    pub(crate) fn offer(&self, item: Object) -> bool {
        const IS_IN: u8 = 1;
        const IS_WAITING: u8 = 2;
        let fate = Arc::new(AtomicU8::new(0));
        let (outbox, fate_then) = (Arc::clone(&self.outbox), Arc::clone(&fate));
        let on_admission = Box::new(move |_| {
            if fate_then.swap(IS_IN, Ordering::AcqRel) == IS_WAITING {
                outbox.go_on();
            }
        });
        match self.submit(Some(item), Some(on_admission)) {
            Admission::Now => true,
            Admission::Never => false,
            Admission::Later => {
                self.outbox.hold_up();
                if fate.compare_exchange(0, IS_WAITING, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    self.outbox.go_on();
                }
                true
            }
        }
    }

    /// Refuse an item that a node of the session would put in where there is no room.
    fn check_room(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core.get();
        if core.session.has_room() { Ok(()) } else { core.check_outside(py, "put") }
    }

    /// Put an item in, or the end of input, and take it through the nodes on this thread.
    fn put_inline(&self, py: Python<'_>, item: Option<Object>, is_taken: &Bound<'_, PyAny>) -> PyResult<bool> {
        let word = if item.is_none() { "end" } else { "put" };
        let order = put_inline::Order { core: self.core.get(), outbox: &self.outbox, word };
        order.put(py, |on_admission| self.submit(item, Some(on_admission)), is_taken)
    }

    fn submit(&self, item: Option<Object>, admitted: Option<Box<dyn FnOnce(bool) + Send>>) -> Admission {
        prepare_thread();
        self.outbox.expect_input();
        let own_index = self.own_index(u64::from(item.is_some()));
        let caller = Caller { client: self.outbox.clone(), context: self.context.clone(), is_urgent: false, own_index };
        // Attached: it never waits, and the threads that it wakes need the interpreter for long, not for one item.
        self.core.get().session.submit_from(caller, item, admitted)
    }
}

/// Outputs that were ready, as far as they are still wanted.
#[pyclass(module = "remotemedia._core", frozen)]
struct ReadyOutputs {
    outbox: Arc<Outbox<Object>>,
    outputs: Mutex<std::vec::IntoIter<Object>>,
    generation: u64,
}

#[pymethods]
impl ReadyOutputs {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        // An interruption or a close has dropped what was not taken.
        if self.outbox.generation() != self.generation {
            return None;
        }
        self.outputs.lock().next().map(|output| output.0)
    }
}

/// Set the result of a future, unless it was cancelled.
fn resolve(py: Python<'_>, future: &Py<PyAny>, is_in: bool) {
    let resolved = future
        .call_method0(py, "done")
        .and_then(|is_done| is_done.is_truthy(py))
        .and_then(|is_done| if is_done { Ok(()) } else { future.call_method1(py, "set_result", (is_in,)).map(drop) });
    if let Err(error) = resolved {
        error.write_unraisable(py, None);
    }
}
