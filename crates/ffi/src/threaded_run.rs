//! A run of a pipeline on its own thread, which delivers the outcome to an event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Metrics, Placement, Plan, STACK_BYTES};

use crate::asyncio::context::{AwaitedGuard, CallerContext};
use crate::attach::{attach, detach};
use crate::convert::{failure, feed, json};
use crate::node::callers;
use crate::node::lock::thread_id;
use crate::run::{Control, Counting, ListSink, Prepared, SHORT_POLL_INTERVAL, execute, prepare};
use crate::{graph, hooks};

/// What `_core.start` is given besides the graph.
pub(crate) struct Order {
    pub(crate) input: Py<PyAny>,
    pub(crate) event_loop: Py<PyAny>,
    /// Called on the loop with `(outcome, metrics)` when all is over.
    pub(crate) deliver: Py<PyAny>,
    pub(crate) with_metrics: bool,
}

/// A run on a thread of its own.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct Call {
    control: Control,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: Arc<AtomicU64>,
}

#[pymethods]
impl Call {
    /// Ask the run to stop. It still cleans its nodes up and delivers its outcome.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.control.cancel(py)
    }

    /// Wait for the end of the thread, which has delivered its outcome already.
    fn join(&self, py: Python<'_>) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread was delivered as an error.
            detach(py, || drop(thread.join()));
        }
    }

    /// Wait for the end of the thread for at most this many seconds. Returns whether it has ended.
    fn ends_within(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
        loop {
            let has_ended = {
                let thread = self.thread.lock();
                thread.as_ref().is_none_or(JoinHandle::is_finished)
            };
            if has_ended || Instant::now() >= until {
                return Ok(has_ended);
            }
            detach(py, || std::thread::sleep(SHORT_POLL_INTERVAL));
            py.check_signals()?;
        }
    }

    /// The identity of the thread, as in `threading.get_ident()`; 0 before it has started.
    #[getter]
    fn thread_id(&self) -> u64 {
        self.thread_id.load(Ordering::Relaxed)
    }
}

/// `_core.start`: run on a thread of its own.
///
/// `outcome` is the list of outputs or an exception. Coroutines run on the event loop, nodes in the caller's context.
pub(crate) fn start(graph: &Bound<'_, PyAny>, order: Order) -> PyResult<Call> {
    let py = graph.py();
    let Order { input, event_loop, deliver, with_metrics } = order;
    let control = Control::new(Some(event_loop.clone_ref(py)));
    let outputs = PyList::empty(py);
    let plan = Arc::new(graph::plan_of(graph)?);
    let nodes = if plan.stages().iter().any(|stage| stage.placement == Placement::Process) {
        Nodes::Due { plan, graph: graph.clone().unbind(), with_metrics }
    } else {
        Nodes::Prepared(prepare(graph, plan, &control, Some(&outputs), &Counting::metrics(with_metrics))?)
    };
    let (context, awaited) = CallerContext::awaited_by(py, callers::current(py)?)?;
    let thread_id = Arc::new(AtomicU64::new(0));
    let run = Run { nodes, input, outputs: outputs.unbind(), control: control.clone(), context, _awaited: awaited };
    let ident = Arc::clone(&thread_id);
    let thread = std::thread::Builder::new()
        .name("remotemedia".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            attach(|py| {
                let outcome = run.run(py, &ident);
                deliver_outcome(py, &event_loop, deliver, outcome);
            });
        })
        .map_err(|error| failure::no_thread("the run", &error))?;
    Ok(Call { control, thread: Mutex::new(Some(thread)), thread_id })
}

/// What the thread of a [`Call`] works on.
struct Run {
    nodes: Nodes,
    input: Py<PyAny>,
    outputs: Py<PyList>,
    control: Control,
    context: CallerContext,
    _awaited: Option<AwaitedGuard>,
}

/// The nodes of a run.
enum Nodes {
    Prepared(Prepared),
    /// Some are to be pickled, for which no event loop should wait.
    Due {
        plan: Arc<Plan>,
        graph: Py<PyAny>,
        with_metrics: bool,
    },
}

impl Run {
    fn run(self, py: Python<'_>, ident: &AtomicU64) -> PyResult<(Py<PyList>, Option<Metrics>)> {
        ident.store(thread_id(), Ordering::Relaxed);
        hooks::install(py)?;
        self.context.clone().within(|| self.run_within(py))
    }

    fn run_within(self, py: Python<'_>) -> PyResult<(Py<PyList>, Option<Metrics>)> {
        let prepared = match self.nodes {
            Nodes::Prepared(prepared) => prepared,
            Nodes::Due { plan, graph, with_metrics } => {
                let counting = Counting::metrics(with_metrics);
                prepare(graph.bind(py), plan, &self.control, Some(self.outputs.bind(py)), &counting)?
            }
        };
        let mut feed = feed::feed_of(self.input.bind(py), &self.control.bridge)?;
        let mut sink = ListSink(self.outputs.clone_ref(py));
        let metrics = execute(py, prepared, &mut *feed, &mut sink, &self.control)?;
        Ok((self.outputs, metrics))
    }
}

fn deliver_outcome(
    py: Python<'_>,
    event_loop: &Py<PyAny>,
    deliver: Py<PyAny>,
    outcome: PyResult<(Py<PyList>, Option<Metrics>)>,
) {
    let outcome = outcome.and_then(|(outputs, metrics)| {
        let metrics = metrics.map(|metrics| json::metrics_to_python(py, &metrics)).transpose()?;
        Ok((outputs.into_any(), metrics.map(Bound::unbind)))
    });
    let (outcome, metrics) = outcome.unwrap_or_else(|error| (error.into_value(py).into_any(), None));
    // A closed loop refuses the outcome: then no task waits for it.
    drop(event_loop.call_method1(py, "call_soon_threadsafe", (deliver, outcome, metrics)));
}
