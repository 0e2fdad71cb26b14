//! The items and outputs of one client of a network service.
//!
//! Items are put in by the intake thread. Outputs are converted on the threads of the nodes, and wait as values, so that the threads of the
//! network need no interpreter.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use remotemedia_commands::{Admitted, CallError, CallErrorKind, ItemStream, StreamNext};
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Admission, Caller, Client, Next, Outbox, Overflow, Payload, RunError, Value};

use super::intake::{Intake, Job};
use super::outputs::{described, refused_item, sized, value_of};
use crate::asyncio::context::CallerContext;
use crate::attach::attach;
use crate::convert::failure;
use crate::convert::items::ItemReader;
use crate::convert::object::Object;
use crate::session::core::{SessionCore, Ticket};

/// The outputs of a client of its own nodes that wait to be sent: the nodes wait for room.
const OWN_CAPACITY: usize = 64;

/// Outputs of nodes that others use, too, may not wait for one client. They are kept up to this size in bytes, and then it is left.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// A converted output.
struct Sent {
    value: Value,
    bytes: usize,
}

impl Payload for Sent {
    type Fault = CallError;
    type Context = ();

    fn duplicate(&self) -> Self {
        Self { value: self.value.clone(), bytes: self.bytes }
    }

    fn duplicate_fault(fault: &CallError) -> CallError {
        fault.clone()
    }

    fn join(branches: Vec<(&str, Vec<Self>)>) -> Result<Self, CallError> {
        let bytes = branches.iter().flat_map(|(_, outputs)| outputs).map(|output| output.bytes).sum();
        let list = |outputs: Vec<Self>| Value::List(outputs.into_iter().map(|output| output.value).collect());
        let entries = branches.into_iter().map(|(id, outputs)| (id.to_owned(), list(outputs)));
        Ok(Self { value: Value::Map(entries.collect()), bytes })
    }
}

/// Receives the outputs of the items of one client, from the last stage.
struct StreamClient {
    outbox: Outbox<Sent>,
    /// The size of the outputs that wait.
    kept_bytes: AtomicUsize,
    under_way: AtomicU64,
    /// What the output of an item failed with that has no form in which it could be sent.
    broken: Mutex<Option<CallError>>,
    /// Others use the nodes, too.
    is_shared: bool,
    /// Too many outputs wait: the client gets no more of them.
    is_cut_off: AtomicBool,
    changed: Arc<dyn Fn() + Send + Sync>,
    context: OnceLock<CallerContext>,
}

impl StreamClient {
    fn new(is_shared: bool, changed: &Arc<dyn Fn() + Send + Sync>) -> Self {
        let changed = Arc::clone(changed);
        let notify = Arc::clone(&changed);
        let outbox = Outbox::new(OWN_CAPACITY, Some(Box::new(move || notify())));
        if is_shared {
            outbox.set_overflow(Overflow::Keep);
        }
        Self {
            outbox,
            kept_bytes: AtomicUsize::new(0),
            under_way: AtomicU64::new(0),
            broken: Mutex::default(),
            is_shared,
            is_cut_off: AtomicBool::new(false),
            changed,
            context: OnceLock::new(),
        }
    }

    fn context(&self, py: Python<'_>) -> PyResult<CallerContext> {
        if let Some(context) = self.context.get() {
            return Ok(context.clone());
        }
        let context = CallerContext::current(py)?;
        Ok(self.context.get_or_init(|| context).clone())
    }

    fn ended(&self, items: u64, outcome: Result<(), RunError<PyErr>>) {
        self.count_ends(items);
        let broken = self.broken.lock().take();
        let outcome = match outcome {
            Ok(()) => broken.map_or(Ok(()), |error| Err(RunError::Sink(error))),
            Err(RunError::Interrupted) => Err(RunError::Interrupted),
            Err(RunError::Cancelled) => Err(RunError::Cancelled),
            Err(RunError::Closed) => Err(RunError::Closed),
            Err(error) => Err(RunError::Sink(attach(|py| described(py, failure::ended(py, error))))),
        };
        self.outbox.chunk_done(items, outcome);
    }

    /// So many inputs have ended. The end of input is the last of them, and no item.
    fn count_ends(&self, inputs: u64) {
        let less = |items: u64| Some(items.saturating_sub(inputs));
        self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    fn next(&self) -> StreamNext {
        if self.is_cut_off.load(Ordering::Acquire) {
            return StreamNext::Failed(CallError {
                kind: CallErrorKind::Client,
                type_name: "SlowClientError".to_owned(),
                message: format!("the client left outputs of more than {} MiB waiting", MAX_KEPT_BYTES >> 20),
                node_id: None,
                traceback: None,
            });
        }
        match self.outbox.next(std::time::Duration::ZERO) {
            Next::Output(Sent { value, bytes }) => {
                self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
                StreamNext::Output(value)
            }
            Next::Nothing => StreamNext::Nothing,
            Next::End => StreamNext::End,
            Next::Failed(RunError::Sink(error)) => StreamNext::Failed(error),
            Next::Failed(_) => StreamNext::Failed(CallError::closing()),
        }
    }
}

impl Client<Object> for StreamClient {
    fn output(&self, output: Object) {
        if self.is_cut_off.load(Ordering::Acquire) {
            return;
        }
        let value = match attach(|py| value_of(py, &output).map_err(|error| described(py, error))) {
            Ok(value) => value,
            Err(error) => {
                self.broken.lock().get_or_insert(error);
                return;
            }
        };
        let bytes = sized(&value);
        if self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_KEPT_BYTES && self.is_shared {
            self.is_cut_off.store(true, Ordering::Release);
            self.outbox.forget();
            return (self.changed)();
        }
        Client::output(&self.outbox, Sent { value, bytes });
    }

    fn room(&self) -> usize {
        self.outbox.room()
    }

    fn fails(&self, generation: u64) {
        self.outbox.fails(generation);
    }

    fn generation(&self) -> u64 {
        self.outbox.generation()
    }

    fn done(&self, outcome: Result<(), RunError<PyErr>>) {
        self.ended(1, outcome);
    }

    fn chunk_done(&self, items: u64, outcome: Result<(), RunError<PyErr>>) {
        self.ended(items, outcome);
    }

    fn interrupted(&self, count: u64) {
        self.count_ends(count);
        self.outbox.interrupted(count);
    }

    fn forget(&self) {
        self.outbox.forget();
        self.kept_bytes.store(0, Ordering::Relaxed);
    }

    fn is_left(&self) -> bool {
        self.outbox.is_left()
    }

    fn keeps_outputs(&self) -> bool {
        true
    }
}

/// What the intake and the network know of a stream.
struct StreamState {
    client: Mutex<Arc<StreamClient>>,
    is_shared: bool,
    changed: Arc<dyn Fn() + Send + Sync>,
    is_ended: AtomicBool,
    reader: ItemReader,
}

impl StreamState {
    fn client(&self) -> Arc<StreamClient> {
        Arc::clone(&self.client.lock())
    }

    fn new_client(is_shared: bool, changed: &Arc<dyn Fn() + Send + Sync>) -> Arc<StreamClient> {
        Arc::new(StreamClient::new(is_shared, changed))
    }

    /// Put an item in, on the intake thread.
    fn put(&self, py: Python<'_>, core: &SessionCore, item: &Value, admitted: Admitted) {
        let client = self.client();
        let converted = self.reader.read(py, item).and_then(|item| Ok((item.unbind(), client.context(py)?)));
        let (item, context) = match converted {
            Ok(converted) => converted,
            Err(error) => return admitted(Err(refused_item(py, &error))),
        };
        client.outbox.expect_input();
        client.under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Arc::new(Mutex::new(Some(admitted)));
        let later = Arc::clone(&admitted);
        let report = move |is_in: bool| {
            if let Some(admitted) = later.lock().take() {
                admitted(if is_in { Ok(()) } else { Err(CallError::closing()) });
            }
        };
        let caller = Caller { client: client as Arc<dyn Client<Object>>, context, is_urgent: false, own_index: None };
        let admission = core.session.submit_from(caller, Some(Object(item)), Some(Box::new(report)));
        let is_in = match admission {
            Admission::Now => true,
            Admission::Never => false,
            Admission::Later => return,
        };
        let admitted = admitted.lock().take();
        if let Some(admitted) = admitted {
            admitted(if is_in { Ok(()) } else { Err(CallError::closing()) });
        }
    }

    /// End the input, on the intake thread.
    fn end(&self, py: Python<'_>, core: &SessionCore) {
        self.is_ended.store(true, Ordering::Relaxed);
        let client = self.client();
        match client.context(py) {
            Ok(context) => {
                client.outbox.expect_input();
                let caller = Caller {
                    client: Arc::clone(&client) as Arc<dyn Client<Object>>,
                    context,
                    is_urgent: false,
                    own_index: None,
                };
                core.session.submit_from(caller, None, None);
            }
            Err(error) => error.write_unraisable(py, None),
        }
        client.outbox.end();
    }

    /// Drop what is in progress, on the intake thread. In nodes that others use, only what this client has put in.
    fn interrupt(self: &Arc<Self>, py: Python<'_>, core: &Py<SessionCore>, done: Box<dyn FnOnce(u64) + Send>) {
        if self.is_shared {
            let new = Self::new_client(true, &self.changed);
            let old = std::mem::replace(&mut *self.client.lock(), new);
            let dropped = old.under_way.load(Ordering::Relaxed);
            leave(py, core.get(), old);
            if self.is_ended.load(Ordering::Relaxed) {
                self.end(py, core.get());
            }
            return done(dropped);
        }
        // It waits for the nodes, and others' items come in meanwhile.
        let (core, client) = (core.clone_ref(py), self.client());
        let interrupt = move || {
            let before = client.under_way.load(Ordering::Relaxed);
            attach(|py| {
                let dropped = core.get().drop_all(py, None, None);
                client.forget();
                done(dropped.unwrap_or_else(|error| {
                    error.write_unraisable(py, None);
                    before
                }));
            });
        };
        if std::thread::Builder::new().name("remotemedia-interrupt".to_owned()).spawn(interrupt).is_err() {
            failure::report(py, Err::<(), _>(failure::no_thread("an interruption", &std::io::Error::last_os_error())));
        }
    }
}

/// Drop what a client has put in.
fn leave(py: Python<'_>, core: &SessionCore, client: Arc<StreamClient>) {
    client.outbox.abandon();
    failure::report(py, core.abandon(py, &Ticket { client, waiting: None }));
}

/// A stream, as the network has it.
pub(super) struct PyStream {
    state: Arc<StreamState>,
    intake: Arc<Intake>,
}

impl PyStream {
    pub(super) fn new(intake: Arc<Intake>, is_shared: bool, changed: Box<dyn Fn() + Send + Sync>) -> Self {
        let changed: Arc<dyn Fn() + Send + Sync> = changed.into();
        let client = Mutex::new(StreamState::new_client(is_shared, &changed));
        let state = Arc::new(StreamState {
            client,
            is_shared,
            changed,
            is_ended: AtomicBool::new(false),
            reader: intake.reader.clone(),
        });
        Self { state, intake }
    }
}

/// What a stream is asked for.
enum Request {
    Put { item: Value, admitted: Admitted },
    End,
    Interrupt { done: Box<dyn FnOnce(u64) + Send> },
    Leave,
}

struct StreamJob {
    stream: Arc<StreamState>,
    request: Request,
}

impl Job for StreamJob {
    fn carry_out(self: Box<Self>, py: Python<'_>, session: &Py<SessionCore>) {
        let core = session.get();
        match self.request {
            Request::Put { item, admitted } => self.stream.put(py, core, &item, admitted),
            Request::End => self.stream.end(py, core),
            Request::Interrupt { done } => self.stream.interrupt(py, session, done),
            Request::Leave => leave(py, core, self.stream.client()),
        }
    }

    fn refuse(self: Box<Self>) {
        match self.request {
            Request::Put { admitted, .. } => admitted(Err(CallError::closing())),
            // The stream itself says that the service has closed.
            Request::End => self.stream.client().outbox.close(),
            Request::Interrupt { done } => done(0),
            Request::Leave => {}
        }
    }
}

impl PyStream {
    fn ask(&self, request: Request) {
        self.intake.do_job(StreamJob { stream: Arc::clone(&self.state), request });
    }
}

impl ItemStream for PyStream {
    fn put(&self, item: Value, admitted: Admitted) {
        self.ask(Request::Put { item, admitted });
    }

    fn end(&self) {
        self.ask(Request::End);
    }

    fn next(&self) -> StreamNext {
        self.state.client().next()
    }

    fn load(&self) -> usize {
        self.state.client().outbox.load()
    }

    fn interrupt(&self, done: Box<dyn FnOnce(u64) + Send>) {
        self.ask(Request::Interrupt { done });
    }
}

impl Drop for PyStream {
    fn drop(&mut self) {
        self.ask(Request::Leave);
    }
}
