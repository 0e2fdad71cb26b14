//! An open pipeline for Python: what `remotemedia.sessions` puts its two session types on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Caller, Client, Closed, InlinePlan, Observer, Outbox, Session, SessionSettings, Stall};

use crate::asyncio::bridge::Bridge;
use crate::asyncio::context::CallerContext;
use crate::asyncio::mailbox::{Mailbox, call_unraisable, deliver, output_notifier};
use crate::attach::{attach, detach, prepare_thread};
use crate::convert::object::Object;
use crate::convert::{failure, json, log};
use crate::graph;
use crate::node::callers;
use crate::node::callers::Owner;
use crate::node::waits::{Target, Waiting};
use crate::session::call::{Call, Outputs, report_result};
use crate::session::opener::Opener;
use crate::session::steps::CallSteps;

/// A call that did not return: node, item, phase, thread.
type AbandonedCall = (String, Option<u64>, &'static str, u64);

/// How often a waiting thread checks for Ctrl-C.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// An open pipeline. Its nodes are initialized when it is made.
#[pyclass(module = "remotemedia._core", subclass, frozen)]
pub(crate) struct SessionCore {
    pub(crate) session: Session<Object>,
    /// The node objects of an all-inline plan without policies and observers, which can take several items at once.
    pub(crate) chain: Option<Vec<Py<PyAny>>>,
    pub(crate) bridge: Arc<Bridge>,
    /// The mailbox of the event loop that opened the session, for calls and streams; `None` without a loop.
    pub(crate) mailbox: Option<Arc<Mailbox>>,
    is_direct: bool,
    /// The id of the node that makes the items, if one does.
    source: Option<String>,
    /// Reports what nodes do at the items of single calls, if that is observed.
    pub(crate) steps: Option<Arc<CallSteps>>,
    /// The stream of `put` and iteration.
    pub(crate) outbox: Arc<Outbox<Object>>,
    pub(super) owner: Arc<Owner>,
    /// This process is a fork of the one that has opened it.
    pub(super) is_left: AtomicBool,
}

#[pymethods]
impl SessionCore {
    #[new]
    #[pyo3(signature = (graph, settings, opener, on_output=None))]
    fn new(
        graph: &Bound<'_, PyAny>,
        settings: &Bound<'_, PyDict>,
        opener: &Opener,
        on_output: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        prepare_thread();
        let py = graph.py();
        let (bridge, stop) = (Arc::clone(&opener.bridge), opener.stop.clone());
        let with_metrics: bool = setting(settings, "enable_metrics")?;
        let plan = Arc::new(graph::plan_of(graph)?);
        let owner = Owner::new(plan.name());
        let surroundings =
            graph::Surroundings { owner: &owner, bridge: &bridge, stop: &stop, with_metrics, budget: None };
        let described = graph::describe(graph, &plan, &surroundings)?;
        let queue_size: usize = setting(settings, "queue_size")?;
        let stall_warning: Option<f64> = setting(settings, "stall_warning")?;
        let has_own_thread: bool = setting(settings, "has_own_thread")?;
        // The calls of an event loop come from threads of ours.
        let has_thread = bridge.mailbox().is_some() || has_own_thread;
        let observes_calls: bool = setting(settings, "observes_calls")?;
        let log = log::observer(py)?;
        let steps = observes_calls.then(|| CallSteps::new(log.clone()));
        let settings = SessionSettings {
            with_metrics,
            observer: steps.clone().map(|steps| steps as Arc<dyn Observer>).or(log),
            reporter: Some(Arc::new(log::LoggingReporter)),
            queue_size,
            stall_warning: stall_warning.map(Duration::from_secs_f64),
            stop: stop.clone(),
            stop_waiting: Some(bridge.stopper()),
            inline: if has_thread { InlinePlan::OnThread } else { InlinePlan::OnCallers },
        };
        let is_unwatched = !settings.with_metrics && settings.observer.is_none();
        let chain = (plan.is_direct() && described.are_plain() && is_unwatched).then(|| described.objects(py));
        let locks = described.locks();
        let session = match Session::open(plan, described.into_replicas(), &settings, &locks) {
            Ok(session) => session,
            Err(error) => {
                bridge.close(py)?;
                return Err(failure::failed(py, error));
            }
        };
        owner.counts_calls_by(session.call_counter());
        let mailbox = bridge.mailbox().cloned();
        // A source's items come from a thread of its own.
        let is_direct = session.is_direct() && !session.has_source() && !has_own_thread;
        let source = session.has_source().then(|| session.plan().nodes()[0].id.clone());
        let notify = on_output.map(|on_output| output_notifier(on_output, mailbox.as_ref()));
        let outbox = outbox_of(&session, queue_size, notify);
        let is_left = AtomicBool::new(false);
        Ok(Self { session, chain, bridge, mailbox, is_direct, source, steps, outbox, owner, is_left })
    }

    /// Refuse items for a pipeline that makes its own.
    pub(super) fn check_takes_items(&self) -> PyResult<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let pipeline = self.session.plan().name();
        Err(failure::PipelineError::new_err(format!(
            "Pipeline '{pipeline}' starts with a source, node '{source}', and takes no items; iterate over the session instead"
        )))
    }

    /// Take one item through and return its outputs: none, the one, or a list.
    fn call(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyAny>> {
        prepare_thread();
        if !self.is_direct {
            return if self.session.is_one_worker() {
                self.call_worker(py, item)
            } else {
                self.call_by_queue(py, item)
            };
        }
        let mut outputs = Outputs::default();
        let outcome = self.take_directly(py, Some(Object(item)), &mut outputs);
        outcome.and(self.work_on_left(py))?;
        outputs.shape(py)
    }

    /// Refuse what would wait for ever for the node that asks for it.
    pub(crate) fn check_outside(&self, py: Python<'_>, word: &str) -> PyResult<()> {
        self.begin_wait(py, word).map(drop)
    }

    /// The same for a longer wait: the caller keeps the returned value until the wait ends. `None` if no node waits.
    pub(crate) fn begin_wait(&self, py: Python<'_>, word: &str) -> PyResult<Option<Waiting>> {
        let frames = callers::current(py)?;
        if frames.is_empty() {
            return Ok(None);
        }
        let target = Target::Session(Arc::clone(&self.owner));
        Waiting::begin(frames, target).map(Some).map_err(|cycle| cycle.refusal(&self.owner, word))
    }

    /// Whether calls run on the caller's own thread.
    #[getter]
    fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// How many items can be in flight at once.
    #[getter]
    fn capacity(&self) -> usize {
        self.session.capacity()
    }

    /// Begin with an item; `done(outputs, error)` is called on the event loop when it is through.
    fn start_call(&self, py: Python<'_>, item: Py<PyAny>, done: Py<PyAny>) -> PyResult<Ticket> {
        prepare_thread();
        let mailbox = self.mailbox.clone();
        let waiting = self.begin_wait(py, "call")?.map(Arc::new);
        let (context, awaited) = CallerContext::awaited_by(py, callers::current(py)?)?;
        let until_then = (waiting.clone(), awaited);
        let client: Arc<dyn Client<Object>> = Arc::new(Call::new(Box::new(move |outputs, outcome| {
            drop(until_then);
            deliver(mailbox.as_ref(), move |py| report_result(py, &done, outputs, outcome));
        })));
        let caller = Caller { client: Arc::clone(&client), context, is_urgent: true, own_index: None };
        self.session.submit_from(caller, Some(Object(item)), None);
        Ok(Ticket { client, waiting })
    }

    /// This call is no longer waited for. Returns whether a node still works on it, and may have to be interrupted again.
    pub(crate) fn abandon(&self, py: Python<'_>, ticket: &Ticket) -> PyResult<bool> {
        let at_work = detach(py, || self.session.abandon(&ticket.client));
        for at_work in &at_work {
            let is_there = |thread| thread == at_work.thread() && self.session.is_still(at_work);
            self.bridge.cut_chunks(py, &is_there)?;
            let Some(awaited) = self.bridge.awaited_by(py, at_work.thread())? else { continue };
            // Otherwise the thread has gone on to something else meanwhile, which it may wait for now.
            if self.session.is_still(at_work) {
                awaited.call0()?;
            }
        }
        Ok(!at_work.is_empty())
    }

    /// Look again whether the call of a node can end.
    fn check_ticket(&self, ticket: &Ticket) -> PyResult<()> {
        ticket.waiting.as_ref().map_or(Ok(()), |waiting| self.check_wait(waiting, "call"))
    }

    /// Whether it takes no more items: it is closed, or a call that cannot be stopped has ended it.
    #[getter]
    fn has_ended(&self) -> bool {
        self.session.has_ended()
    }

    /// Let the source run, into the stream of iteration.
    fn start_source(&self, py: Python<'_>) -> PyResult<()> {
        let context = CallerContext::current(py)?;
        self.outbox.expect_input();
        let client: Arc<dyn Client<Object>> = self.outbox.clone();
        let outbox = Arc::clone(&self.outbox);
        detach(py, || self.session.start_source(client, context, Box::new(move || outbox.expect_input())));
        self.outbox.end();
        Ok(())
    }

    /// Drop what is queued and in progress; returns the number of inputs. Ctrl-C, or `stop`, ends the wait for what is running.
    ///
    /// `is_silent` is called with the number before all other callbacks.
    #[pyo3(signature = (stop=None, is_silent=None))]
    pub(crate) fn drop_all(
        &self,
        py: Python<'_>,
        stop: Option<&Bound<'_, PyAny>>,
        is_silent: Option<Py<PyAny>>,
    ) -> PyResult<u64> {
        prepare_thread();
        let _waiting = self.begin_wait(py, "interrupt")?;
        let stop = stop.map(|stop| stop.clone().unbind());
        let ended = Mutex::new(None);
        let is_cancelled = || {
            let is_stopped = |py: Python<'_>| match &stop {
                Some(stop) => stop.call_method0(py, "is_set")?.extract::<bool>(py),
                None => Ok(false),
            };
            let outcome = attach(|py| py.check_signals().and_then(|()| is_stopped(py)));
            outcome.unwrap_or_else(|error| {
                *ended.lock() = Some(error);
                true
            })
        };
        let notify_first = |dropped| {
            if let (Some(mailbox), Some(is_silent)) = (&self.mailbox, is_silent) {
                mailbox.post_first(move |py| call_unraisable(py, &is_silent, (dropped,)));
            }
        };
        let stop_waiting = || or_unraisable(|py| self.bridge.interrupt(py));
        let dropped = detach(py, || self.session.interrupt_unless(&stop_waiting, &is_cancelled, notify_first));
        ended.into_inner().map_or(Ok(dropped), Err)
    }

    /// Wait until all that went in has come out, or until `stop`, a `threading.Event`, is set. `make_room` is called now and then, for
    /// outputs that are not taken.
    #[pyo3(signature = (stop=None, *, make_room))]
    fn wait_until_drained(
        &self,
        py: Python<'_>,
        stop: Option<&Bound<'_, PyAny>>,
        make_room: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        prepare_thread();
        let waiting = self.begin_wait(py, "drain")?;
        let mut drain = self.session.begin_drain();
        let drained = loop {
            if let Err(error) = make_room.call0() {
                break Err(error);
            }
            if let Err(order) = self.work_here(py, &|| true) {
                break Err(order);
            }
            if detach(py, || self.session.is_drained(&mut drain, POLL_INTERVAL)) {
                break Ok(());
            }
            let is_stopped = stop.map_or(Ok(false), |stop| stop.call_method0("is_set")?.extract::<bool>());
            match py.check_signals().and(is_stopped) {
                Ok(false) => {
                    if let Some(waiting) = &waiting
                        && let Err(error) = self.check_wait(waiting, "drain")
                    {
                        break Err(error);
                    }
                }
                outcome => break outcome.map(drop),
            }
        };
        self.session.end_drain();
        drained
    }

    /// In a fork of the process that has opened this: the session is closed here, and stays the other one's.
    fn leave_to_parent(slf: &Bound<'_, Self>) {
        slf.get().session.leave_to_parent();
        slf.get().is_left.store(true, Ordering::Relaxed);
        // Its end would be that of threads and workers which are not this process's.
        std::mem::forget(slf.clone().unbind());
    }

    /// The metrics so far, if they are collected.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let metrics = detach(py, || self.session.metrics());
        metrics.map(|metrics| json::metrics_to_python(py, &metrics)).transpose()
    }

    /// When the session closes, the calls in progress in workers are cancelled, by `KeyboardInterrupt` in them.
    fn cancel_calls(&self) {
        self.session.cancel_calls();
    }

    /// Stop and clean up within `timeout` seconds. Returns the calls that were abandoned because they did not return.
    fn shut_down(&self, py: Python<'_>, timeout: f64) -> PyResult<Vec<AbandonedCall>> {
        prepare_thread();
        self.outbox.close();
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX.min(Duration::from_secs(1 << 30)));
        // Not an interrupt: a thread may be about to wait for a coroutine, which nothing would cancel any more.
        let Closed { cleanups, abandoned, .. } =
            detach(py, || self.session.close(timeout, &|| or_unraisable(|py| self.bridge.cancel(py))));
        if abandoned.is_empty() {
            self.bridge.close(py)?;
        }
        if !cleanups.is_empty() {
            let cleanups = cleanups.into_iter().map(|failure| failure::node_error(py, failure)).collect();
            return Err(failure::combine(py, None, cleanups)?);
        }
        Ok(abandoned
            .into_iter()
            .map(|Stall { node_id, item_index, phase, thread, .. }| (node_id, item_index, phase.name(), thread))
            .collect())
    }
}

/// Names a call that is in progress.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct Ticket {
    pub(crate) client: Arc<dyn Client<Object>>,
    /// Where a node waits for it.
    pub(crate) waiting: Option<Arc<Waiting>>,
}

#[pymethods]
impl Ticket {
    /// Whether a node waits for it, so that it might wait for itself.
    #[getter]
    fn is_of_node(&self) -> bool {
        self.waiting.is_some()
    }
}

/// Looks whether a wait can end: when it begins, and again as it goes on.
#[derive(Default)]
pub(crate) struct WaitCheck {
    has_begun: bool,
    /// Where a node waits.
    waiting: Option<Waiting>,
}

impl WaitCheck {
    pub(crate) fn check(&mut self, core: &SessionCore, py: Python<'_>, word: &str) -> PyResult<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.waiting = core.begin_wait(py, word)?;
        } else if let Some(waiting) = &self.waiting {
            core.check_wait(waiting, word)?;
        }
        Ok(())
    }
}

/// The queue of the outputs of a stream.
pub(crate) fn outbox_of(
    session: &Session<Object>,
    capacity: usize,
    notify: Option<Box<dyn Fn() + Send + Sync>>,
) -> Arc<Outbox<Object>> {
    let outbox = Outbox::new(capacity, notify);
    // Where nodes run on the calling threads, the producer of outputs may be their consumer.
    Arc::new(if session.is_on_callers() { outbox.waiting_unless(session.on_callers()) } else { outbox })
}

/// Run a function; pass its error to `sys.unraisablehook`.
fn or_unraisable(work: impl FnOnce(Python<'_>) -> PyResult<()>) {
    attach(|py| {
        if let Err(error) = work(py) {
            error.write_unraisable(py, None);
        }
    });
}

fn setting<'py, T: FromPyObjectOwned<'py>>(settings: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    let value = settings.get_item(name)?.ok_or_else(|| pyo3::exceptions::PyKeyError::new_err(name.to_owned()))?;
    value.extract().map_err(Into::into)
}
