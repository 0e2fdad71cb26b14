//! The opening of a session, which may be cancelled while a node is initialized.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_runtime::CancelFlag;

use crate::asyncio::bridge::Bridge;

/// What a session is opened with: the event loop of its coroutines, and the way to stop it before it is there.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct Opener {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) stop: CancelFlag,
}

#[pymethods]
impl Opener {
    #[new]
    #[pyo3(signature = (event_loop=None))]
    fn new(event_loop: Option<Py<PyAny>>) -> Self {
        Self { bridge: Bridge::new(event_loop), stop: CancelFlag::default() }
    }

    /// Cancel the coroutine that initializes a node, and those of nodes after it.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.stop.set();
        self.bridge.cancel(py)
    }
}
