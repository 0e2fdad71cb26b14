//! The thread that takes in what comes from threads without Python: all that waits, while the interpreter is attached once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use pyo3::prelude::*;
use remotemedia_commands::{CallError, CallId, OnStep, Reply};
use remotemedia_runtime::locks::{Condvar, Mutex};
use remotemedia_runtime::{Caller, Client, RunError, Value};

use super::outputs::{described, refused_item, value_of};
use crate::asyncio::context::CallerContext;
use crate::attach::{attach, prepare_thread};
use crate::convert::failure;
use crate::convert::items::ItemReader;
use crate::convert::object::Object;
use crate::session::call::{Call, Outputs};
use crate::session::core::{SessionCore, Ticket};

/// What is to be done with a session.
enum Order {
    Call(CallOrder),
    Abandon(Arc<dyn Client<Object>>),
    Job(Box<dyn Job>),
}

/// An item, and who waits for its outputs.
struct CallOrder {
    id: CallId,
    item: Value,
    on_step: Option<OnStep>,
    reply: Reply,
}

/// Anything else that needs the interpreter.
pub(super) trait Job: Send {
    fn carry_out(self: Box<Self>, py: Python<'_>, session: &Py<SessionCore>);

    /// The service is closing.
    fn refuse(self: Box<Self>);
}

/// Orders on their way to the thread that carries them out.
pub(super) struct Intake {
    pub(super) reader: ItemReader,
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

impl Intake {
    pub(super) fn new(reader: ItemReader) -> Self {
        Self { reader, state: Mutex::default(), changed: Condvar::default() }
    }

    /// Start the thread for the orders of a session.
    pub(super) fn start(self: &Arc<Self>, session: Py<SessionCore>) -> PyResult<JoinHandle<()>> {
        let here = Arc::clone(self);
        std::thread::Builder::new()
            .name("remotemedia-intake".to_owned())
            .spawn(move || here.carry_out_all(&session))
            .map_err(|error| failure::no_thread("the service", &error))
    }

    /// Give an order; it is refused if the service is closing.
    fn order(&self, order: Order) {
        let mut state = self.state.lock();
        if state.is_closing {
            drop(state);
            return refuse(order);
        }
        state.orders.push_back(order);
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn do_job(&self, job: impl Job + 'static) {
        self.order(Order::Job(Box::new(job)));
    }

    pub(super) fn call(&self, item: Value, on_step: Option<OnStep>, reply: Reply) -> CallId {
        let id = {
            let mut state = self.state.lock();
            state.last_id += 1;
            state.last_id
        };
        self.order(Order::Call(CallOrder { id, item, on_step, reply }));
        id
    }

    pub(super) fn abandon(&self, call: CallId) {
        let mut state = self.state.lock();
        let is_it = |order: &Order| matches!(order, Order::Call(CallOrder { id, .. }) if *id == call);
        if let Some(place) = state.orders.iter().position(is_it) {
            let order = state.orders.remove(place);
            drop(state);
            drop(order);
        } else if let Some(client) = state.begun.remove(&call) {
            drop(state);
            self.order(Order::Abandon(client));
        }
    }

    /// Take no more orders. Those that wait are refused.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_one();
    }

    /// The life of the thread.
    fn carry_out_all(self: &Arc<Self>, session: &Py<SessionCore>) {
        prepare_thread();
        loop {
            let mut state = self.state.lock();
            while state.orders.is_empty() && !state.is_closing {
                self.changed.wait(&mut state);
            }
            let (orders, is_closing) = (std::mem::take(&mut state.orders), state.is_closing);
            drop(state);
            if is_closing {
                return orders.into_iter().for_each(refuse);
            }
            attach(|py| orders.into_iter().for_each(|order| self.carry_out(py, session, order)));
        }
    }

    fn carry_out(self: &Arc<Self>, py: Python<'_>, session: &Py<SessionCore>, order: Order) {
        let core = session.get();
        match order {
            Order::Call(call) => self.submit(py, core, call),
            Order::Abandon(client) => {
                failure::report(py, core.abandon(py, &Ticket { client, waiting: None }));
            }
            Order::Job(job) => job.carry_out(py, session),
        }
    }

    fn submit(self: &Arc<Self>, py: Python<'_>, core: &SessionCore, order: CallOrder) {
        let CallOrder { id, item, on_step, reply } = order;
        let converted = self.reader.read(py, &item).and_then(|item| Ok((item.unbind(), CallerContext::current(py)?)));
        let (item, context) = match converted {
            Ok(converted) => converted,
            Err(error) => return reply(Err(refused_item(py, &error))),
        };
        let here = Arc::clone(self);
        let call = Call::new(Box::new(move |outputs, outcome| {
            here.state.lock().begun.remove(&id);
            reply(result(&outputs, outcome));
        }));
        let client: Arc<dyn Client<Object>> = match (&core.steps, on_step) {
            (Some(steps), Some(on_step)) => Arc::new(steps.observe(call, on_step)),
            _ => Arc::new(call),
        };
        // Before it begins: it may be done at once.
        self.state.lock().begun.insert(id, Arc::clone(&client));
        let caller = Caller { client, context, is_urgent: true, own_index: None };
        core.session.submit_from(caller, Some(Object(item)), None);
    }
}

fn refuse(order: Order) {
    match order {
        Order::Call(CallOrder { reply, .. }) => reply(Err(CallError::closing())),
        Order::Job(job) => job.refuse(),
        Order::Abandon(_) => {}
    }
}

/// What came of an item, converted where it is known.
fn result(outputs: &Outputs, outcome: Result<(), RunError<PyErr>>) -> Result<Vec<Value>, CallError> {
    attach(|py| {
        let converted = outcome
            .map_err(|error| failure::ended(py, error))
            .and_then(|()| outputs.0.iter().map(|output| value_of(py, output)).collect::<PyResult<Vec<_>>>());
        converted.map_err(|error| described(py, error))
    })
}
