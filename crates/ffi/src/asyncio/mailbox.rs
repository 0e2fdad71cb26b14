//! Messages from other threads to an event loop.
//!
//! *Invariant:* posting waits neither for the loop nor, while a delivery is due, for the interpreter, which the loop holds when it is
//! busy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;

use crate::attach::attach;

/// How many messages are delivered before the loop does its other work.
const BUNDLE: usize = 64;

/// Something to be done on the loop.
type Message = Box<dyn FnOnce(Python<'_>) + Send>;

/// A queue of messages to an event loop, which is woken once for all messages that arrive until it takes them.
pub(crate) struct Mailbox {
    event_loop: Py<PyAny>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    /// The loop has been asked to take them.
    is_due: bool,
}

impl Mailbox {
    pub(crate) fn new(event_loop: Py<PyAny>) -> Arc<Self> {
        Arc::new(Self { event_loop, state: Mutex::default() })
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.event_loop.bind(py).clone()
    }

    /// Run a function on the loop, from any thread. If the loop is closed, the function does not run.
    pub(crate) fn post(self: &Arc<Self>, message: impl FnOnce(Python<'_>) + Send + 'static) {
        self.add(|messages| messages.push_back(Box::new(message)));
    }

    /// The same, before all messages that have not been delivered.
    pub(crate) fn post_first(self: &Arc<Self>, message: impl FnOnce(Python<'_>) + Send + 'static) {
        self.add(|messages| messages.push_front(Box::new(message)));
    }

    /// What the loop does now is about to post messages: it checks for them by itself, and need not be woken. Called on the loop.
    pub(crate) fn expect(self: &Arc<Self>, py: Python<'_>) {
        if !std::mem::replace(&mut self.state.lock().is_due, true) {
            self.call_for_delivery(py, "call_soon");
        }
    }

    fn add(self: &Arc<Self>, add: impl FnOnce(&mut VecDeque<Message>)) {
        let is_due = {
            let mut state = self.state.lock();
            add(&mut state.messages);
            std::mem::replace(&mut state.is_due, true)
        };
        if !is_due {
            attach(|py| self.call_for_delivery(py, "call_soon_threadsafe"));
        }
    }

    fn call_for_delivery(self: &Arc<Self>, py: Python<'_>, how: &str) {
        let delivery = Delivery { mailbox: Arc::clone(self), is_made: AtomicBool::new(false) };
        let called =
            Bound::new(py, delivery).and_then(|delivery| self.event_loop.bind(py).call_method1(how, (delivery,)));
        if let Err(error) = called
            && !error.is_instance_of::<PyRuntimeError>(py)
        {
            error.write_unraisable(py, None);
        }
    }

    /// The messages that are delivered next, and whether more are left.
    fn take(&self) -> (Vec<Message>, bool) {
        let mut state = self.state.lock();
        let count = state.messages.len().min(BUNDLE);
        let messages = state.messages.drain(..count).collect();
        state.is_due = !state.messages.is_empty();
        (messages, state.is_due)
    }
}

/// What the loop calls to take messages.
#[pyclass(module = "remotemedia._core", frozen)]
struct Delivery {
    mailbox: Arc<Mailbox>,
    is_made: AtomicBool,
}

#[pymethods]
impl Delivery {
    fn __call__(&self, py: Python<'_>) {
        self.is_made.store(true, Ordering::Relaxed);
        let (messages, are_more_left) = self.mailbox.take();
        for message in messages {
            message(py);
        }
        if are_more_left {
            self.mailbox.call_for_delivery(py, "call_soon");
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !*self.is_made.get_mut() {
            // The loop was closed before the delivery. What the messages hold may hold the session, and would keep it alive.
            drop(std::mem::take(&mut *self.mailbox.state.lock()));
        }
    }
}

/// Run a function on the event loop, or on this thread if there is no loop.
pub(crate) fn deliver(mailbox: Option<&Arc<Mailbox>>, message: impl FnOnce(Python<'_>) + Send + 'static) {
    match mailbox {
        Some(mailbox) => mailbox.post(message),
        None => attach(message),
    }
}

/// A function that calls `on_output`: on the event loop, if there is one.
pub(crate) fn output_notifier(on_output: Py<PyAny>, mailbox: Option<&Arc<Mailbox>>) -> Box<dyn Fn() + Send + Sync> {
    let (on_output, mailbox) = (Arc::new(on_output), mailbox.cloned());
    Box::new(move || {
        let on_output = Arc::clone(&on_output);
        deliver(mailbox.as_ref(), move |py| call_unraisable(py, &on_output, ()));
    })
}

/// Call a function; pass its error to `sys.unraisablehook`.
pub(crate) fn call_unraisable<'py>(py: Python<'py>, callback: &Py<PyAny>, arguments: impl PyCallArgs<'py>) {
    if let Err(error) = callback.call1(py, arguments) {
        error.write_unraisable(py, None);
    }
}
