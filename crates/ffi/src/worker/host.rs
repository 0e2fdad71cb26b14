//! The inside of a worker: makes the nodes that its parent sent, and serves them.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::worker::{Arrived, IsStill, ItemCodec, LeaveFork, Notes, Opened, WorkerHost, serve};
use remotemedia_runtime::{CancelFlag, Node, NodeSpec, Options, Plan, Policy, PolicyNode};

use crate::asyncio::bridge::Bridge;
use crate::attach::{attach, detach, try_attach};
use crate::convert::failure;
use crate::convert::object::Object;
use crate::node::callers::{Owner, Place};
use crate::node::lock::thread_id;
use crate::node::methods::forget_initialized;
use crate::node::python_node::PythonNode;
use crate::node::site::Site;
use crate::worker::codec::{PythonCodec, unpickle_own};
use crate::worker::setup;
use crate::worker::setup::{DescribedNode, Head};

/// Whether this process is a fork of a worker.
static IS_FORK: AtomicBool = AtomicBool::new(false);

/// Whether the nodes of this process work on items.
static IS_AT_WORK: AtomicBool = AtomicBool::new(false);

/// `_core.is_at_work`.
pub(crate) fn is_at_work() -> bool {
    IS_AT_WORK.load(Ordering::SeqCst)
}

/// What keeps the nodes of this process from being called, once it is set.
static STOP: OnceLock<CancelFlag> = OnceLock::new();

/// `_core.be_fork`: a node has forked, and this is the child. What it does in the node is its own affair; it must not go on as a second
/// worker.
pub(crate) fn be_fork() {
    IS_FORK.store(true, Ordering::Relaxed);
    if let Some(stop) = STOP.get() {
        stop.set();
    }
}

fn leave_fork(fault: Option<&PyErr>) {
    if IS_FORK.load(Ordering::Relaxed) {
        attach(|py| {
            let error = fault.map(|fault| fault.clone_ref(py).into_value(py));
            let left = py
                .import("remotemedia._workers.process")
                .and_then(|worker| worker.call_method1("leave_fork", (error,)));
            // It ends the process, unless the memory for that is missing.
            left.map_or_else(|_| std::process::abort(), drop);
        });
    }
}

/// `_core.serve_worker`: be a worker on the socket that is the standard input, until the parent says that it is over or is gone.
pub(crate) fn serve_parent(py: Python<'_>) -> PyResult<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // What the nodes read, or give to programs that they start, must not be the socket.
    let os = py.import("os")?;
    let nothing: i32 = os.call_method1("open", (os.getattr("devnull")?, os.getattr("O_RDONLY")?))?.extract()?;
    os.call_method1("dup2", (nothing, 0))?;
    os.call_method1("close", (nothing,))?;

    let stop = STOP.get_or_init(CancelFlag::default).clone();
    let mut worker_host = PythonWorkerHost { bridge: Bridge::new(None), stop, helpers: Arc::new(Helpers::new()) };
    let codec: Arc<dyn ItemCodec<Object>> = PythonCodec::of_worker();
    // Attached all the time but while it waits: every step for an item needs the interpreter.
    let served = serve(socket, &codec, &mut worker_host);
    let helpers = Arc::clone(&worker_host.helpers);
    detach(py, || helpers.finish());
    worker_host.bridge.close(py)?;
    served.map_err(|error| PyOSError::new_err(format!("the worker lost the connection to its parent: {error}")))
}

struct PythonWorkerHost {
    bridge: Arc<Bridge>,
    stop: CancelFlag,
    helpers: Arc<Helpers>,
}

/// Short-lived threads that enter the interpreter beside the thread of the nodes, so that the thread which starts them never waits for
/// a node that holds it.
///
/// *Invariant:* none of them is left when the interpreter ends, which would abort the process.
struct Helpers {
    /// Each thread has a copy, and `all_ended` ends with the last one; `None` once no more threads may start.
    running: Mutex<Option<SyncSender<()>>>,
    all_ended: Mutex<Receiver<()>>,
}

impl Helpers {
    fn new() -> Self {
        let (running, all_ended) = sync_channel(0);
        Self { running: Mutex::new(Some(running)), all_ended: Mutex::new(all_ended) }
    }

    /// Run `work` on a thread of its own; returns whether there is one.
    fn start(&self, name: &str, work: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static) -> bool {
        let Some(running) = self.running.lock().clone() else { return false };
        let life = move || {
            let _running = running;
            try_attach(|py| failure::report(py, work(py)));
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(life).is_ok()
    }

    /// Start no more threads, and wait for those that run.
    fn finish(&self) {
        self.running.lock().take();
        self.all_ended.lock().recv().ok();
    }
}

impl WorkerHost<Object> for PythonWorkerHost {
    fn open(&mut self, setup: Arrived, notes: Notes) -> PyResult<Opened<Object>> {
        attach(|py| {
            let Head { surroundings, described, end } = setup::read_head(py, &setup.body)?;
            let notes = Bound::new(py, NoteSender(notes))?;
            let ids: Vec<&String> = described.iter().map(|(id, ..)| id).collect();
            // Before the nodes, whose classes are imported by what the parent has in its path.
            py.import("remotemedia._workers.process")?.call_method1("set_up", (surroundings, notes, ids))?;
            let objects = unpickle_own(py, setup, end)?.cast_into::<PyList>()?;
            py.import("remotemedia._workers.process")?.call_method1("unpacked", (&objects,))?;
            self.make_nodes(&described, &objects)
        })
    }

    fn stop_flag(&self) -> CancelFlag {
        self.stop.clone()
    }

    fn cancel_calls(&self) -> Box<dyn Fn() + Send + Sync> {
        let helpers = Arc::clone(&self.helpers);
        Box::new(move || {
            helpers.start("remotemedia-break-off", |py| {
                py.import("remotemedia._workers.process")?.call_method0("cancel_calls").map(drop)
            });
        })
    }

    fn cancel_wait(&self) -> Box<dyn Fn(IsStill) + Send + Sync> {
        let (bridge, thread, helpers) = (Arc::clone(&self.bridge), thread_id(), Arc::clone(&self.helpers));
        Box::new(move |is_still| {
            let bridge = Arc::clone(&bridge);
            helpers.start("remotemedia-cancel", move |py| match bridge.awaited_by(py, thread)? {
                Some(awaited) if is_still() => awaited.call0().map(drop),
                _ => Ok(()),
            });
        })
    }

    fn be_at_work(&mut self, is_at_work: bool) {
        IS_AT_WORK.store(is_at_work, Ordering::SeqCst);
    }

    fn leave_fork(&self) -> LeaveFork<Object> {
        Arc::new(leave_fork)
    }

    fn stop_waiting(&self) -> Box<dyn Fn() + Send + Sync> {
        let (bridge, stop, helpers) = (Arc::clone(&self.bridge), self.stop.clone(), Arc::clone(&self.helpers));
        let is_interrupting = Arc::new(AtomicBool::new(false));
        Box::new(move || {
            if is_interrupting.swap(true, Ordering::SeqCst) {
                return;
            }
            let (bridge, stop, has_interrupted) = (Arc::clone(&bridge), stop.clone(), Arc::clone(&is_interrupting));
            let interrupt = move |py: Python<'_>| {
                has_interrupted.store(false, Ordering::SeqCst);
                bridge.interrupt_if(py, move || stop.is_set())
            };
            if !helpers.start("remotemedia-interrupt", interrupt) {
                is_interrupting.store(false, Ordering::SeqCst);
            }
        })
    }
}

impl PythonWorkerHost {
    fn make_nodes(&self, described: &[DescribedNode], objects: &Bound<'_, PyList>) -> PyResult<Opened<Object>> {
        let owner = Owner::new("worker");
        let mut specs: Vec<NodeSpec> = Vec::new();
        let mut nodes: Vec<Box<dyn Node<Object>>> = Vec::new();
        for ((id, node_type, options), object) in described.iter().zip(objects.iter()) {
            let options = options_of(options)?;
            // The copy of a node that was ready in the parent is not ready here.
            forget_initialized(&object);
            let node = PythonNode::new(
                &object,
                &options,
                Arc::new(Site { place: Place::new(&owner, Some(id)), bridge: Arc::clone(&self.bridge) }),
            )?;
            nodes.push(if options.has_policy() {
                Box::new(PolicyNode::new(Box::new(node), Policy::new(&options, None, self.stop.clone())))
            } else {
                Box::new(node)
            });
            let after = specs.last().map(|before: &NodeSpec| before.id.clone()).into_iter().collect();
            specs.push(NodeSpec {
                id: id.clone(),
                node_type: node_type.clone(),
                after,
                join: false,
                options: options.into(),
            });
        }
        let plan = Plan::new("worker", &specs).map_err(|error| failure::refused(&error))?;
        Ok((Arc::new(plan), nodes))
    }
}

fn options_of(text: &str) -> PyResult<Options> {
    let written = serde_json::from_str(text).map_err(|error| failure::PipelineError::new_err(error.to_string()))?;
    Options::from_json(&written).map_err(|problem| failure::PipelineError::new_err(problem.to_string()))
}

/// Sends log records to the parent.
#[pyclass(module = "remotemedia._core", frozen)]
struct NoteSender(Notes);

#[pymethods]
impl NoteSender {
    fn __call__(&self, py: Python<'_>, note: &[u8]) {
        detach(py, || self.0.send(note));
    }
}
