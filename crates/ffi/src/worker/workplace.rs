//! The inside of a worker: makes the nodes that its parent sent, and serves them.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::worker::{Arrived, Border, LeaveFork, Notes, Opened, Workplace, serve};
use remotemedia_runtime::{CancelFlag, Guarded, Node, NodeSpec, Options, Plan, Policy};

use super::border::{PythonBorder, unpickle_own};
use super::setup::{self, DescribedNode, Head};
use crate::attach::{attach, detach, try_attach};
use crate::bridge::Bridge;
use crate::failure;
use crate::node::{PythonNode, forget_initialized};
use crate::object::Object;

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
            let left = py.import("remotemedia._worker").and_then(|worker| worker.call_method1("leave_fork", (error,)));
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
    let mut workplace = PythonWorkplace { bridge: Bridge::new(None), stop, is_interrupting: Arc::default() };
    let border: Arc<dyn Border<Object>> = PythonBorder::of_worker();
    // Attached all the time but while it waits: every step for an item needs the interpreter.
    let served = serve(socket, &border, &mut workplace);
    workplace.bridge.close(py)?;
    served.map_err(|error| PyOSError::new_err(format!("the worker has lost its parent: {error}")))
}

struct PythonWorkplace {
    bridge: Arc<Bridge>,
    stop: CancelFlag,
    /// Whether a thread is about to cancel coroutines.
    is_interrupting: Arc<AtomicBool>,
}

impl Workplace<Object> for PythonWorkplace {
    fn open(&mut self, setup: Arrived, notes: Notes) -> PyResult<Opened<Object>> {
        attach(|py| {
            let Head { surroundings, described, end } = setup::read_head(py, &setup.body)?;
            let notes = Bound::new(py, NoteSender(notes))?;
            // Before the nodes, whose classes are imported by what the parent has in its path.
            py.import("remotemedia._worker")?.call_method1("set_up", (surroundings, notes))?;
            let objects = unpickle_own(py, setup, end)?.cast_into::<PyList>()?;
            py.import("remotemedia._worker")?.call_method1("unpacked", (&objects,))?;
            self.make_nodes(&described, &objects)
        })
    }

    fn stop_flag(&self) -> CancelFlag {
        self.stop.clone()
    }

    fn break_off(&self) -> Box<dyn Fn() + Send + Sync> {
        Box::new(|| {
            // Whoever asks must not wait for a node that holds the interpreter.
            let break_off = || {
                try_attach(|py| {
                    let broken = py.import("remotemedia._worker").and_then(|worker| worker.call_method0("break_off"));
                    if let Err(error) = broken {
                        error.write_unraisable(py, None);
                    }
                });
            };
            drop(std::thread::Builder::new().name("remotemedia-break-off".into()).spawn(break_off));
        })
    }

    fn be_at_work(&mut self, is_at_work: bool) {
        IS_AT_WORK.store(is_at_work, Ordering::SeqCst);
    }

    fn leave_fork(&self) -> LeaveFork<Object> {
        Arc::new(leave_fork)
    }

    fn stop_waiting(&self) -> Box<dyn Fn() + Send + Sync> {
        let (bridge, is_interrupting) = (Arc::clone(&self.bridge), Arc::clone(&self.is_interrupting));
        Box::new(move || {
            if is_interrupting.swap(true, Ordering::SeqCst) {
                return;
            }
            let (bridge, is_interrupting) = (Arc::clone(&bridge), Arc::clone(&is_interrupting));
            // Whoever asks must not wait for a node that holds the interpreter.
            let interrupt = move || {
                try_attach(|py| {
                    if let Err(error) = bridge.interrupt(py) {
                        error.write_unraisable(py, None);
                    }
                    drop(bridge);
                });
                is_interrupting.store(false, Ordering::SeqCst);
            };
            drop(std::thread::Builder::new().name("remotemedia-interrupt".into()).spawn(interrupt));
        })
    }
}

impl PythonWorkplace {
    fn make_nodes(&self, described: &[DescribedNode], objects: &Bound<'_, PyList>) -> PyResult<Opened<Object>> {
        let mut specs: Vec<NodeSpec> = Vec::new();
        let mut nodes: Vec<Box<dyn Node<Object>>> = Vec::new();
        for ((id, node_type, options), object) in described.iter().zip(objects.iter()) {
            let options = options_of(options)?;
            // The copy of a node that was ready in the parent is not ready here.
            forget_initialized(&object);
            let node = PythonNode::new(&object, &options, Arc::clone(&self.bridge))?;
            nodes.push(if options.has_policy() {
                Box::new(Guarded::new(Box::new(node), Policy::new(&options, None, self.stop.clone())))
            } else {
                Box::new(node)
            });
            let after = specs.last().map(|before: &NodeSpec| before.id.clone()).into_iter().collect();
            specs.push(NodeSpec { id: id.clone(), node_type: node_type.clone(), after, join: false, options });
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
