//! An open pipeline of Python nodes, for the items of a network service.
//!
//! Items come from threads without Python. One thread takes all that wait, converts them while the interpreter is attached once, and
//! submits them to a session, whose nodes have threads of their own. Outputs are converted where they are made.

mod intake;
mod outputs;
mod stream;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::prelude::*;
use remotemedia_commands::{CallId, Failure, ItemStream, OnStep, Reply, Service, ServiceMaker};
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Metrics, Value};

use crate::command_failure::attached;
use crate::convert::items::ItemReader;
use crate::session::core::SessionCore;
use intake::Intake;
use stream::PyStream;

/// What a service is for.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServiceUse {
    /// It has several clients.
    pub(crate) is_shared: bool,
    /// Steps of nodes are reported to calls.
    pub(crate) observes_steps: bool,
}

/// An open pipeline with its intake.
pub(crate) struct PyService {
    intake: Arc<Intake>,
    session: Py<SessionCore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_shared: bool,
}

impl PyService {
    fn end_intake(&self) {
        self.intake.close();
        if let Some(thread) = self.thread.lock().take() {
            // It submits items, and does not wait for them.
            thread.join().ok();
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
    fn call(&self, item: Value, on_step: Option<OnStep>, reply: Reply) -> CallId {
        self.intake.call(item, on_step, reply)
    }

    fn abandon(&self, call: CallId) {
        self.intake.abandon(call);
    }

    fn open_stream(&self, changed: Box<dyn Fn() + Send + Sync>) -> Box<dyn ItemStream> {
        Box::new(PyStream::new(Arc::clone(&self.intake), self.is_shared, changed))
    }

    fn metrics(&self) -> Option<Metrics> {
        self.session.get().session.metrics()
    }

    fn queues(&self) -> Vec<(usize, usize, usize)> {
        self.session.get().session.queues()
    }

    fn close(&self, timeout: Duration) -> Result<(), Failure> {
        self.end_intake();
        attached(|py| self.session.call_method1(py, "close_now", (timeout.as_secs_f64(),)).map(drop))
    }
}

/// Makes services of a graph.
pub(crate) struct PyServiceMaker {
    graph: Py<PyAny>,
    /// Makes the openers of sessions; without it, they have event loops of their own.
    new_opener: Option<Py<PyAny>>,
    reader: ItemReader,
    has_own_nodes: bool,
}

impl PyServiceMaker {
    pub(crate) fn of(py: Python<'_>, graph: &Bound<'_, PyAny>, new_opener: Option<Py<PyAny>>) -> PyResult<Self> {
        let has_own_nodes =
            py.import("remotemedia._cli.serving")?.call_method1("has_own_nodes", (graph,))?.extract()?;
        Ok(Self { graph: graph.clone().unbind(), new_opener, reader: ItemReader::of(graph)?, has_own_nodes })
    }

    /// Initialize the nodes.
    pub(crate) fn open(&self, py: Python<'_>, service_use: ServiceUse) -> PyResult<Arc<dyn Service>> {
        let ServiceUse { is_shared, observes_steps } = service_use;
        let arguments = (self.graph.bind(py), observes_steps, self.new_opener.as_ref());
        let session = py.import("remotemedia._cli.serving")?.call_method1("open_service", arguments)?;
        let session: Py<SessionCore> = session.cast_into()?.unbind();
        let intake = Arc::new(Intake::new(self.reader.clone()));
        let thread = Mutex::new(Some(intake.start(session.clone_ref(py))?));
        Ok(Arc::new(PyService { intake, session, thread, is_shared }))
    }
}

impl ServiceMaker for PyServiceMaker {
    fn has_own_nodes(&self) -> bool {
        self.has_own_nodes
    }

    fn make(&self) -> Result<Arc<dyn Service>, Failure> {
        attached(|py| self.open(py, ServiceUse::default()))
    }
}
