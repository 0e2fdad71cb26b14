//! Sessions under test: clients that wait with an end, nodes that wait for a sign.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use remotemedia_runtime::locks::{Condvar, Mutex};
use remotemedia_runtime::{
    Admission, Client, Closed, Failure, Next, Options, Outbox, Placement, RunError, Session, SessionSettings,
};

use super::{Fault, Item, Pipe};

/// Longer than anything here takes: what has not come by then never comes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

impl Pipe {
    /// An open session, with short queues.
    pub(crate) fn open(self) -> Session<Item> {
        self.try_open().expect("the nodes initialize")
    }

    pub(crate) fn try_open(self) -> Result<Session<Item>, Failure<Fault>> {
        let settings = session_settings(&self);
        self.open_with(&settings)
    }

    pub(crate) fn open_with(self, settings: &SessionSettings<Item>) -> Result<Session<Item>, Failure<Fault>> {
        let (plan, nodes, _) = self.replicated();
        Session::open(plan, nodes, settings, &|_, _| None)
    }

    /// Settings that a test changes before it opens the session.
    pub(crate) fn session_settings(&self) -> SessionSettings<Item> {
        session_settings(self)
    }
}

fn session_settings(pipe: &Pipe) -> SessionSettings<Item> {
    SessionSettings {
        with_metrics: pipe.settings.with_metrics,
        observer: pipe.settings.observer.clone(),
        reporter: None,
        queue_size: 2,
        stall_warning: None,
        stop: pipe.settings.cancel.clone(),
        ..SessionSettings::default()
    }
}

/// The options of a stage on a thread of its own.
pub(crate) fn thread() -> Options {
    Options { placement: Placement::Thread, ..Options::default() }
}

/// The options of a node that are written like this in a manifest.
pub(crate) fn options(json: &serde_json::Value) -> Options {
    Options::from_json(json.as_object().expect("options are an object")).expect("the options are good")
}

/// What the tests do with a session.
pub(crate) trait SessionUse {
    /// Put an item in as one who waits for its outputs.
    fn call(&self, number: i64) -> Call;

    /// Put an item in for this client.
    fn put(&self, outbox: &Arc<Outbox<Item>>, item: Option<i64>) -> Put;

    /// Close within the time that everything good takes.
    fn shut(&self) -> Closed<Fault>;
}

impl SessionUse for Session<Item> {
    fn call(&self, number: i64) -> Call {
        let call = Arc::new(Caller::default());
        let client: Arc<dyn Client<Item>> = call.clone();
        self.submit(Some(Item::Number(number)), Arc::clone(&client), true, None);
        Call { caller: call, client }
    }

    fn put(&self, outbox: &Arc<Outbox<Item>>, item: Option<i64>) -> Put {
        outbox.expect_input();
        let (sender, admitted) = sync_channel(1);
        let client: Arc<dyn Client<Item>> = outbox.clone();
        let notify = Box::new(move |is_in| {
            // The test may not care any more.
            sender.send(is_in).ok();
        });
        let admission = self.submit(item.map(Item::Number), client, false, Some(notify));
        Put { admission: Cell::new(admission), admitted }
    }

    fn shut(&self) -> Closed<Fault> {
        let closed = self.close(TIMEOUT, &|| {});
        assert!(closed.abandoned.is_empty(), "abandoned: {:?}", closed.abandoned);
        closed
    }
}

/// An item on its way in.
pub(crate) struct Put {
    admission: Cell<Admission>,
    admitted: Receiver<bool>,
}

impl Put {
    /// Wait until it is in; `false` if it never will be.
    pub(crate) fn is_in(&self) -> bool {
        if self.is_waiting() {
            self.note(self.admitted.recv_timeout(TIMEOUT).expect("an input is let in or refused"));
        }
        self.admission.get() == Admission::Now
    }

    /// Whether it still waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        if self.admission.get() == Admission::Later {
            self.admitted.try_iter().for_each(|is_in| self.note(is_in));
        }
        self.admission.get() == Admission::Later
    }

    fn note(&self, is_in: bool) {
        self.admission.set(if is_in { Admission::Now } else { Admission::Never });
    }
}

/// A call in progress.
pub(crate) struct Call {
    caller: Arc<Caller>,
    pub(crate) client: Arc<dyn Client<Item>>,
}

type CallResult = Result<Vec<Item>, RunError<Fault>>;

impl Call {
    /// The outputs, or the error.
    pub(crate) fn result(&self) -> CallResult {
        let mut state = self.caller.state.lock();
        let deadline = Instant::now() + TIMEOUT;
        while state.ends.is_empty() {
            assert!(Instant::now() < deadline, "a call ends");
            self.caller.has_ended.wait_for(&mut state, TIMEOUT);
        }
        assert_eq!(state.ends.len(), 1, "a call ends once");
        let outputs = std::mem::take(&mut state.outputs);
        match &state.ends[0] {
            Ok(()) => Ok(outputs),
            Err(_) => state.ends.pop().expect("it has one").map(|()| outputs),
        }
    }

    /// The outputs of a call that nothing happens to.
    pub(crate) fn outputs(&self) -> Vec<Item> {
        self.result().expect("the call is good")
    }

    pub(crate) fn is_done(&self) -> bool {
        !self.caller.state.lock().ends.is_empty()
    }
}

#[derive(Default)]
struct Caller {
    state: Mutex<CallState>,
    has_ended: Condvar,
}

#[derive(Default)]
struct CallState {
    outputs: Vec<Item>,
    ends: Vec<Result<(), RunError<Fault>>>,
}

impl Client<Item> for Caller {
    fn output(&self, output: Item) {
        let mut state = self.state.lock();
        assert!(state.ends.is_empty(), "no output after the end");
        state.outputs.push(output);
    }

    fn done(&self, outcome: Result<(), RunError<Fault>>) {
        self.state.lock().ends.push(outcome);
        self.has_ended.notify_all();
    }

    fn forget(&self) {
        self.state.lock().outputs.clear();
    }
}

/// All outputs of a stream of these numbers, its end and all, and the error that it ended with.
pub(crate) fn stream(session: &Session<Item>, input: &[i64]) -> (Vec<Item>, Option<RunError<Fault>>) {
    let outbox = Arc::new(Outbox::new(2, None));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in input {
                session.put(&outbox, Some(*number)).is_in();
            }
            session.put(&outbox, None);
            outbox.end();
        });
        let mut outputs = Vec::new();
        let mut error = None;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match outbox.next(TIMEOUT) {
                Next::Output(output) => outputs.push(output),
                Next::Failed(failed) => error = error.or(Some(failed)),
                Next::End => return (outputs, error),
                Next::Nothing => assert!(Instant::now() < deadline, "a stream comes to its end"),
            }
        }
    })
}

/// Holds those who pass until it is opened, and counts them.
#[derive(Clone, Default)]
pub(crate) struct Valve(Arc<(Mutex<ValveState>, Condvar)>);

#[derive(Default)]
struct ValveState {
    arrived: usize,
    may_pass: usize,
}

impl Valve {
    /// Come to the valve and wait until this one may pass.
    pub(crate) fn pass(&self) {
        let mut state = self.0.0.lock();
        state.arrived += 1;
        let place = state.arrived;
        self.0.1.notify_all();
        let waited = self.0.1.wait_while_for(&mut state, |state| state.may_pass < place, TIMEOUT);
        assert!(!waited, "the valve is opened");
    }

    /// Wait until so many have come in all.
    pub(crate) fn wait_for(&self, count: usize) {
        let mut state = self.0.0.lock();
        let waited = self.0.1.wait_while_for(&mut state, |state| state.arrived < count, TIMEOUT);
        assert!(!waited, "{count} arrive");
    }

    /// How many have come.
    pub(crate) fn arrived(&self) -> usize {
        self.0.0.lock().arrived
    }

    /// Let so many more pass.
    pub(crate) fn let_pass(&self, count: usize) {
        let mut state = self.0.0.lock();
        state.may_pass = state.may_pass.saturating_add(count);
        self.0.1.notify_all();
    }

    pub(crate) fn open(&self) {
        self.let_pass(usize::MAX);
    }
}
