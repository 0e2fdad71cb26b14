//! A run of a pipeline for Python, on the calling thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::{
    Bulk, CLOSE_TIMEOUT, Caller, CancelFlag, ChunkedStream, Client, DEFAULT_QUEUE_SIZE, ErrorBudget, Failure, Fed,
    Feed, InlinePlan, Metrics, Next, Outbox, Payload, Plan, RunError, Session, SessionSettings, Sink,
};

use crate::asyncio::bridge::Bridge;
use crate::asyncio::context::CallerContext;
use crate::attach::{attach, detach, prepare_thread};
use crate::convert::object::Object;
use crate::convert::{failure, feed, json, log};
use crate::graph;
use crate::graph::{Described, place_of_chain};
use crate::node::bulk::chain::Chain;
use crate::node::bulk::coroutine_chain::{AnyChain, CoroutineChain};
use crate::node::bulk::current_chunk::CurrentChunk;
use crate::node::callers;
use crate::node::callers::Owner;

/// The maximum number of inputs of a run that are in flight: enough to keep every stage of a long pipeline busy.
const IN_FLIGHT: usize = 1024;

/// How often a run checks for a cancellation and for signals.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a run waits for input before it looks for outputs again.
pub(crate) const SHORT_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What any thread needs to stop a run.
#[derive(Clone)]
pub(crate) struct Control {
    flag: CancelFlag,
    chunk: CurrentChunk,
    pub(crate) bridge: Arc<Bridge>,
}

impl Control {
    pub(crate) fn new(event_loop: Option<Py<PyAny>>) -> Self {
        Self { flag: CancelFlag::default(), chunk: CurrentChunk::default(), bridge: Bridge::new(event_loop) }
    }

    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.flag.set();
        self.chunk.clear(py)?;
        self.bridge.cancel(py)
    }
}

/// What a run counts.
#[derive(Clone, Default)]
pub(crate) struct Counting {
    pub(crate) with_metrics: bool,
    /// The items that fail without ending the run.
    pub(crate) budget: Option<Arc<ErrorBudget<Object>>>,
}

impl Counting {
    pub(crate) fn metrics(with_metrics: bool) -> Self {
        Self { with_metrics, budget: None }
    }
}

/// A plan with its nodes, ready to be opened.
pub(crate) struct Prepared {
    owner: Arc<Owner>,
    plan: Arc<Plan>,
    described: Described,
    settings: SessionSettings<Object>,
    /// A faster way through all nodes at once.
    bulk: Option<Box<dyn Bulk<Object>>>,
}

pub(crate) fn prepare(
    graph: &Bound<'_, PyAny>,
    plan: Arc<Plan>,
    control: &Control,
    collected: Option<&Bound<'_, PyList>>,
    counting: &Counting,
) -> PyResult<Prepared> {
    prepare_thread();
    let py = graph.py();
    let Counting { with_metrics, budget } = counting;
    let (with_metrics, budget) = (*with_metrics, budget.as_ref());
    let owner = Owner::new(plan.name());
    let (bridge, stop) = (&control.bridge, &control.flag);
    let surroundings = graph::Surroundings { owner: &owner, bridge, stop, with_metrics, budget };
    let described = graph::describe(graph, &plan, &surroundings)?;
    let bulk = (plan.is_direct() && described.are_plain()).then(|| {
        let collected = collected.map(|list| list.clone().unbind());
        let (place, chunk) = (place_of_chain(&plan, &owner), &control.chunk);
        let copied = collected.as_ref().map(|list: &Py<PyList>| list.clone_ref(py));
        let on_loop = (Arc::clone(&place), Arc::clone(bridge));
        let coroutines = CoroutineChain::new(described.objects(py), &plan, on_loop, chunk.clone(), copied);
        let functions = Chain::new(described.objects(py), &plan, chunk.clone(), collected, place);
        Box::new(AnyChain::new(functions, coroutines)) as _
    });
    let settings = SessionSettings {
        with_metrics,
        observer: log::observer(py)?,
        reporter: Some(Arc::new(log::LoggingReporter)),
        stop: control.flag.clone(),
        stop_waiting: (!plan.is_direct()).then(|| control.bridge.stopper()),
        inline: if plan.is_direct() { InlinePlan::InRun } else { InlinePlan::OnThread },
        ..SessionSettings::default()
    };
    Ok(Prepared { owner, plan, described, settings, bulk })
}

/// Run a resolved `Graph` on this thread, handing each output to `sink`. Coroutines run on a loop of the run's own.
pub fn run_blocking(
    _py: Python<'_>,
    graph: &Bound<'_, PyAny>,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
    with_metrics: bool,
) -> PyResult<Option<Metrics>> {
    run_counting(graph, &Arc::new(graph::plan_of(graph)?), feed, sink, &Counting::metrics(with_metrics))
}

/// The same for callers that count failed items.
pub(crate) fn run_counting(
    graph: &Bound<'_, PyAny>,
    plan: &Arc<Plan>,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
    counting: &Counting,
) -> PyResult<Option<Metrics>> {
    let control = Control::new(None);
    let prepared = prepare(graph, Arc::clone(plan), &control, None, counting)?;
    execute(graph.py(), prepared, feed, sink, &control)
}

/// `_core.run`: run on this thread and collect the outputs.
pub(crate) fn run<'py>(
    graph: &Bound<'py, PyAny>,
    input: &Bound<'py, PyAny>,
    with_metrics: bool,
) -> PyResult<(Bound<'py, PyList>, Option<Bound<'py, PyAny>>)> {
    let py = graph.py();
    let control = Control::new(None);
    let outputs = PyList::empty(py);
    let prepared =
        prepare(graph, Arc::new(graph::plan_of(graph)?), &control, Some(&outputs), &Counting::metrics(with_metrics))?;
    let mut feed = feed::feed_of(input, &control.bridge)?;
    let metrics = execute(py, prepared, &mut *feed, &mut ListSink(outputs.clone().unbind()), &control)?;
    Ok((outputs, metrics.map(|metrics| json::metrics_to_python(py, &metrics)).transpose()?))
}

pub(crate) fn execute(
    py: Python<'_>,
    prepared: Prepared,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
    control: &Control,
) -> PyResult<Option<Metrics>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if prepared.plan.is_direct() {
            on_this_thread(prepared, feed, sink)
        } else {
            on_threads(py, prepared, feed, sink, control)
        }
    }));
    let closed = control.bridge.close(py);
    let metrics = match outcome {
        Ok(outcome) => outcome.map_err(|failure| failure::failed(py, failure))?,
        Err(panic) => return Err(failure::panicked(&*panic)),
    };
    closed.map(|()| metrics)
}

/// Run an all-inline plan.
fn on_this_thread(
    prepared: Prepared,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
) -> Result<Option<Metrics>, Failure<PyErr>> {
    let Prepared { plan, described, settings, bulk, .. } = prepared;
    let locks = described.locks();
    let session = Session::open(plan, described.into_replicas(), &settings, &locks)?;
    let outcome = session.run(feed, sink, bulk);
    session.close(CLOSE_TIMEOUT, &|| {}).after(outcome)
}

/// Run a plan that needs threads or time limits.
fn on_threads(
    py: Python<'_>,
    prepared: Prepared,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
    control: &Control,
) -> Result<Option<Metrics>, Failure<PyErr>> {
    let Prepared { owner, plan, described, settings, .. } = prepared;
    let locks = described.locks();
    let session = Session::open(plan, described.into_replicas(), &settings, &locks)?;
    owner.counts_calls_by(session.call_counter());
    let outcome = feed_session(py, &session, feed, sink, control);
    if let Err(error) = &outcome
        && (control.flag.is_set() || is_order_to_stop(error))
    {
        session.cancel_calls();
    }
    let stop_waiting = || drop(attach(|py| control.bridge.cancel(py)));
    let began = Instant::now();
    let closed = detach(py, || session.close(CLOSE_TIMEOUT, &stop_waiting));
    for stall in &closed.abandoned {
        log::report_abandoned(stall, began.elapsed().min(CLOSE_TIMEOUT));
    }
    closed.after(outcome)
}

/// Whether a run ends on request, such as Ctrl-C.
fn is_order_to_stop(error: &RunError<PyErr>) -> bool {
    match error {
        RunError::Cancelled | RunError::Interrupt(_) => true,
        RunError::Feed(fault) | RunError::Sink(fault) => Object::is_interrupt(fault),
        _ => false,
    }
}

fn feed_session(
    py: Python<'_>,
    session: &Session<Object>,
    feed: &mut dyn Feed<Object>,
    sink: &mut dyn Sink<Object>,
    control: &Control,
) -> Result<(), RunError<PyErr>> {
    let outbox = Arc::new(Outbox::new(DEFAULT_QUEUE_SIZE, None));
    let awaited = callers::current(py).and_then(|frames| CallerContext::awaited_by(py, frames));
    let (context, _awaited) = awaited.map_err(RunError::Feed)?;
    let mut inputs = Inputs {
        session,
        outbox: &outbox,
        context: &context,
        chunks: ChunkedStream::new(session, feed.are_there()),
        given: 0,
    };
    let shows_progress = feed.shows_progress();
    let mut is_ended = session.has_source();
    if is_ended {
        let client: Arc<dyn Client<Object>> = outbox.clone();
        let (expecting, context) = (Arc::clone(&outbox), context.clone());
        outbox.expect_input();
        detach(py, || session.start_source(client, context, Box::new(move || expecting.expect_input())));
        outbox.end();
    }
    let mut outputs = Vec::new();
    loop {
        if control.flag.is_set() {
            return Err(RunError::Cancelled);
        }
        if shows_progress {
            feed.note_done(inputs.given.saturating_sub(outbox.load() as u64));
        }
        let mut goes_on = false;
        if !is_ended {
            match inputs.bring(feed).map_err(RunError::Feed)? {
                Brought::Some => goes_on = true,
                Brought::None => {}
                Brought::End => is_ended = true,
            }
        }
        let timeout = if goes_on { Duration::ZERO } else { POLL_INTERVAL };
        match detach(py, || outbox.next_ready(timeout, &mut outputs)) {
            Next::Output(first) => {
                sink.accept(first).map_err(RunError::Sink)?;
                outputs.drain(..).try_for_each(|output| sink.accept(output)).map_err(RunError::Sink)?;
            }
            Next::Nothing if goes_on => {}
            Next::Nothing => {
                control.bridge.pause_chunks(py).map_err(RunError::Feed)?;
                detach(py, || session.hand_on_chunks());
            }
            Next::End => return Ok(()),
            Next::Failed(error) => return Err(error),
        }
        // After an output too: they may come faster than this thread ever waits.
        py.check_signals().map_err(RunError::Feed)?;
    }
}

/// The inputs of a run on their way into its session.
struct Inputs<'a> {
    session: &'a Session<Object>,
    outbox: &'a Arc<Outbox<Object>>,
    context: &'a CallerContext,
    /// `None` if the stages take items one by one.
    chunks: Option<ChunkedStream>,
    given: u64,
}

/// What came of looking for inputs.
enum Brought {
    /// There may be more.
    Some,
    /// There is no room for more.
    None,
    End,
}

impl Inputs<'_> {
    /// Put in what comes next, if there is room.
    fn bring(&mut self, feed: &mut dyn Feed<Object>) -> PyResult<Brought> {
        let load = self.outbox.load();
        if let Some(chunks) = &self.chunks {
            let limit = self.session.capacity();
            let room = chunks.room(self.session, load, limit, false);
            if room == 0 || load >= limit {
                return Ok(Brought::None);
            }
            if feed.are_there()
                && let Some(chunk) = feed.next_ready(room)
            {
                let items = Object::unpack(chunk?);
                return Ok(if items.is_empty() { self.end() } else { self.put(items) });
            }
        } else if load >= IN_FLIGHT {
            return Ok(Brought::None);
        }
        // An input that is slow to come must not hold back the outputs of those before it.
        Ok(match feed.next_within(SHORT_POLL_INTERVAL)? {
            Fed::Item(item) => self.put(vec![item]),
            Fed::Nothing => Brought::Some,
            Fed::End => self.end(),
        })
    }

    fn put(&mut self, items: Vec<Object>) -> Brought {
        self.given += items.len() as u64;
        let left = match &mut self.chunks {
            Some(chunks) => chunks.put(self.session, items, self.outbox, self.context.clone(), None).err(),
            None => Some(items),
        };
        // These wait for room.
        left.into_iter().flatten().for_each(|item| self.submit(Some(item)));
        Brought::Some
    }

    fn end(&mut self) -> Brought {
        // The end of input is on its way like an item.
        self.given += 1;
        self.submit(None);
        self.outbox.end();
        Brought::End
    }

    fn submit(&self, item: Option<Object>) {
        self.outbox.expect_input();
        let (client, context) = (self.outbox.clone(), self.context.clone());
        self.session.submit_from(Caller { client, context, is_urgent: false, own_index: None }, item, None);
    }
}

/// Collects outputs in a list.
pub(crate) struct ListSink(pub(crate) Py<PyList>);

impl Sink<Object> for ListSink {
    fn accept(&mut self, output: Object) -> PyResult<()> {
        attach(|py| self.0.bind(py).append(output.0))
    }
}
