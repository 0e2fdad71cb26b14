//! Python nodes in worker processes: both ends of what crosses between them and the parent.

mod arrays;
mod buffers;
mod codec;
mod host;
mod kept;
mod plain;
mod setup;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_runtime::worker::{ItemCodec, WorkerSpec, WriteSetup, remote_nodes};
use remotemedia_runtime::{CancelFlag, Node, Options, longest_call};
use serde_json::{Map, Value};

pub(crate) use self::codec::PythonCodec;
pub(crate) use self::host::{be_fork, is_at_work, serve_parent};
use crate::convert::object::Object;
use crate::node::methods::runs_on_loop;

/// The options of a node that its worker applies. The parent applies the others.
const SEEN_TO_IN_WORKER: [&str; 5] = ["concurrency", "batch", "retries", "retry_delay", "timeout"];

/// A worker should end a coroutine in time itself. If it does not, because the coroutine blocks its event loop, the worker is ended.
const GRACE: Duration = Duration::from_secs(1);

/// A node that is to run in a worker.
pub(crate) struct Placed<'py> {
    pub(crate) object: Bound<'py, PyAny>,
    /// Whether the object is not the node but makes it.
    pub(crate) is_factory: bool,
    pub(crate) id: String,
    pub(crate) node_type: String,
    /// Its options, as a manifest has them.
    pub(crate) written: Map<String, Value>,
}

impl<'py> Placed<'py> {
    fn make(&self) -> PyResult<Bound<'py, PyAny>> {
        if self.is_factory { self.object.call0() } else { Ok(self.object.clone()) }
    }
}

/// The parent's side of the workers of a stage: for each worker a node for each of those that run in it.
///
/// If the stage `passes_on` its outputs, only another worker receives them. The nodes are pickled here, so that what cannot be sent is refused before anything starts.
pub(crate) fn remote_nodes_for(
    py: Python<'_>,
    stage: &Options,
    nodes: &[Placed<'_>],
    (with_metrics, passes_on): (bool, bool),
    cancel: &CancelFlag,
) -> PyResult<Vec<Vec<Box<dyn Node<Object>>>>> {
    let mut command: Vec<OsString> = py.import("remotemedia._workers.process")?.call_method0("command")?.extract()?;
    let arguments = command.split_off(1);
    let program = command.pop().unwrap_or_default();
    let codec: Arc<dyn ItemCodec<Object>> = PythonCodec::of_parent();
    let has_factory = nodes.iter().any(|node| node.is_factory);
    let mut copy = Copy::of(py, nodes, stage)?;
    let mut workers = Vec::with_capacity(stage.replicas);
    for replica in 0..stage.replicas {
        if has_factory && replica > 0 {
            copy = Copy::of(py, nodes, stage)?;
        }
        let spec = WorkerSpec {
            node_ids: nodes.iter().map(|node| node.id.clone()).collect(),
            program: program.clone(),
            arguments: arguments.clone(),
            setup: Arc::clone(&copy.setup),
            options: stage.clone(),
            cancel: cancel.clone(),
            timeout: copy.timeout,
            with_metrics,
            passes_on,
        };
        workers.push(remote_nodes(spec, Arc::clone(&codec)).map_err(pyo3::exceptions::PyOSError::new_err)?);
    }
    Ok(workers)
}

/// The nodes of a stage, written down.
struct Copy {
    setup: WriteSetup<Object>,
    timeout: Option<Duration>,
}

impl Copy {
    fn of(py: Python<'_>, nodes: &[Placed<'_>], stage: &Options) -> PyResult<Self> {
        let objects = nodes.iter().map(Placed::make).collect::<PyResult<Vec<_>>>()?;
        let described = nodes.iter().map(|node| {
            let seen_to = node.written.iter().filter(|(name, _)| SEEN_TO_IN_WORKER.contains(&name.as_str()));
            let seen_to: Map<_, _> = seen_to.map(|(name, value)| (name.clone(), value.clone())).collect();
            (node.id.clone(), node.node_type.clone(), Value::Object(seen_to).to_string())
        });
        Ok(Self {
            setup: setup::write_setup(py, described.collect(), &objects)?,
            timeout: timeout_of(stage, &objects)?,
        })
    }
}

/// How long an item may be in a worker before that is ended.
fn timeout_of(options: &Options, objects: &[Bound<'_, PyAny>]) -> PyResult<Option<Duration>> {
    let Some(timeout) = options.timeout else { return Ok(None) };
    let longest = longest_call(options, timeout);
    let [object] = objects else { return Ok(Some(longest)) };
    Ok(Some(if runs_on_loop(object)? { longest + GRACE } else { longest }))
}
