//! An open pipeline of Python nodes, for the items of a network service.
//!
//! Items come from threads without Python. One thread takes all that wait, converts them while the interpreter is attached once, and
//! submits them to a session, whose nodes have threads of their own. Outputs are converted where they are made.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_commands::{CallError, CallErrorKind, CallId, Failure, Reply, Service};
use remotemedia_runtime::locks::{Condvar, Mutex};
use remotemedia_runtime::{Caller, Client, Metrics, RunError, Value};

use crate::asyncio::context::CallerContext;
use crate::attach::{attach, prepare_thread};
use crate::command_failure::attached;
use crate::convert::items::{ItemReader, mismatch};
use crate::convert::object::Object;
use crate::convert::{failure, values};
use crate::session::call::{Call, Outputs};
use crate::session::core::{SessionCore, Ticket};

/// An open pipeline with its intake.
pub(crate) struct PyService {
    shared: Arc<Shared>,
    session: Py<SessionCore>,
    intake: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// The calls that were submitted and are not done.
    begun: HashMap<CallId, Arc<dyn Client<Object>>>,
    last_id: CallId,
    is_closing: bool,
}

enum Order {
    Call { id: CallId, item: Value, reply: Reply },
    Abandon(Arc<dyn Client<Object>>),
}

impl PyService {
    /// Serve an open session.
    pub(crate) fn start(session: Py<SessionCore>, reader: ItemReader) -> PyResult<Self> {
        let shared = Arc::<Shared>::default();
        let (here, core) = (Arc::clone(&shared), attach(|py| session.clone_ref(py)));
        let intake = std::thread::Builder::new()
            .name("remotemedia-intake".to_owned())
            .spawn(move || take_in(&here, &core, &reader))
            .map_err(|error| failure::no_thread("the service", &error))?;
        Ok(Self { shared, session, intake: Mutex::new(Some(intake)) })
    }

    fn end_intake(&self) {
        self.shared.state.lock().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(intake) = self.intake.lock().take() {
            // It submits items, and does not wait for them.
            intake.join().ok();
        }
    }
}

/// A service that could not be started is not closed: its session is, as it is dropped.
impl Drop for PyService {
    fn drop(&mut self) {
        self.end_intake();
    }
}

impl Service for PyService {
    fn call(&self, item: Value, reply: Reply) -> CallId {
        let mut state = self.shared.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        if state.is_closing {
            drop(state);
            reply(Err(closing()));
            return id;
        }
        state.orders.push_back(Order::Call { id, item, reply });
        drop(state);
        self.shared.changed.notify_one();
        id
    }

    fn abandon(&self, call: CallId) {
        let mut state = self.shared.state.lock();
        let is_it = |order: &Order| matches!(order, Order::Call { id, .. } if *id == call);
        if let Some(place) = state.orders.iter().position(is_it) {
            let order = state.orders.remove(place);
            drop(state);
            drop(order);
        } else if let Some(client) = state.begun.remove(&call) {
            state.orders.push_back(Order::Abandon(client));
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    fn metrics(&self) -> Option<Metrics> {
        self.session.get().session.metrics()
    }

    fn close(&self, timeout: Duration) -> Result<(), Failure> {
        self.end_intake();
        attached(|py| self.session.call_method1(py, "close_now", (timeout.as_secs_f64(),)).map(drop))
    }
}

fn closing() -> CallError {
    CallError {
        kind: CallErrorKind::Closed,
        type_name: "SessionClosedError".to_owned(),
        message: "the service is closing".to_owned(),
        node_id: None,
    }
}

/// The life of the thread that takes items in.
fn take_in(shared: &Arc<Shared>, session: &Py<SessionCore>, reader: &ItemReader) {
    prepare_thread();
    loop {
        let mut state = shared.state.lock();
        while state.orders.is_empty() && !state.is_closing {
            shared.changed.wait(&mut state);
        }
        let (orders, is_closing) = (std::mem::take(&mut state.orders), state.is_closing);
        drop(state);
        if is_closing {
            for order in orders {
                if let Order::Call { reply, .. } = order {
                    reply(Err(closing()));
                }
            }
            return;
        }
        attach(|py| {
            let core = session.bind(py).get();
            for order in orders {
                match order {
                    Order::Call { id, item, reply } => submit(py, shared, core, id, reader.read(py, &item), reply),
                    Order::Abandon(client) => {
                        failure::report(py, core.abandon(py, &Ticket { client, waiting: None }));
                    }
                }
            }
        });
    }
}

fn submit(
    py: Python<'_>,
    shared: &Arc<Shared>,
    core: &SessionCore,
    id: CallId,
    item: PyResult<Bound<'_, PyAny>>,
    reply: Reply,
) {
    let converted = item.and_then(|item| Ok((item.unbind(), CallerContext::current(py)?)));
    let (item, context) = match converted {
        Ok(converted) => converted,
        Err(error) => {
            let message =
                mismatch(py, &error).unwrap_or_else(|| format!("the item cannot be converted: {}", error.value(py)));
            let (kind, type_name) = (CallErrorKind::Item, type_name(py, &error));
            return reply(Err(CallError { kind, type_name, message, node_id: None }));
        }
    };
    let here = Arc::clone(shared);
    let client: Arc<dyn Client<Object>> = Arc::new(Call::new(Box::new(move |outputs, outcome| {
        here.state.lock().begun.remove(&id);
        reply(result(&outputs, outcome));
    })));
    // Before it begins: it may be done at once.
    shared.state.lock().begun.insert(id, Arc::clone(&client));
    let caller = Caller { client, context, is_urgent: true, own_index: None };
    core.session.submit_from(caller, Some(Object(item)), None);
}

/// What came of an item, converted where it is known.
fn result(outputs: &Outputs, outcome: Result<(), RunError<PyErr>>) -> Result<Vec<Value>, CallError> {
    attach(|py| {
        let converted = outcome.map_err(|error| failure::ended(py, error)).and_then(|()| {
            outputs.0.iter().map(|output| values::from_python(output.0.bind(py))).collect::<PyResult<Vec<_>>>()
        });
        converted.map_err(|error| described(py, error))
    })
}

fn described(py: Python<'_>, error: PyErr) -> CallError {
    let (type_name, text) = (type_name(py, &error), error.value(py).to_string());
    let described = py
        .import("remotemedia._cli.serving")
        .and_then(|serving| serving.call_method1("describe", (error.into_value(py),))?.extract());
    match described {
        Ok((kind, type_name, message, node_id)) => {
            let kind: String = kind;
            let kind = if kind == "closed" { CallErrorKind::Closed } else { CallErrorKind::Node };
            CallError { kind, type_name, message, node_id }
        }
        Err(_) => CallError { kind: CallErrorKind::Node, type_name, message: text, node_id: None },
    }
}

fn type_name(py: Python<'_>, error: &PyErr) -> String {
    error.get_type(py).name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string())
}
