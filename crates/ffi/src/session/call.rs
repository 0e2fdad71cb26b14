//! One call of a session: its outputs, and the callback that receives them.

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Client, RunError, Sink};

use crate::asyncio::mailbox::call_unraisable;
use crate::convert::failure;
use crate::convert::object::Object;

/// The outputs of one call.
#[derive(Default)]
pub(crate) struct Outputs(pub(crate) Vec<Object>);

impl Outputs {
    /// Nothing, the one output, or a list of several.
    pub(crate) fn shape(mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.0.len() {
            0 => Ok(py.None()),
            1 => Ok(self.0.remove(0).0),
            _ => Ok(PyList::new(py, self.0.into_iter().map(|output| output.0))?.into_any().unbind()),
        }
    }
}

impl Sink<Object> for Outputs {
    fn accept(&mut self, output: Object) -> PyResult<()> {
        self.0.push(output);
        Ok(())
    }
}

pub(crate) type OnDone = Box<dyn FnOnce(Outputs, Result<(), RunError<PyErr>>) + Send>;

/// One call by the queue: collects the outputs of its input, and calls `on_done` when it has all of them.
pub(crate) struct Call {
    outputs: Mutex<Outputs>,
    on_done: Mutex<Option<OnDone>>,
}

impl Call {
    pub(crate) fn new(on_done: OnDone) -> Self {
        Self { outputs: Mutex::default(), on_done: Mutex::new(Some(on_done)) }
    }
}

impl Client<Object> for Call {
    fn output(&self, output: Object) {
        self.outputs.lock().0.push(output);
    }

    fn done(&self, outcome: Result<(), RunError<PyErr>>) {
        let on_done = self.on_done.lock().take();
        let outputs = std::mem::take(&mut *self.outputs.lock());
        if let Some(on_done) = on_done {
            on_done(outputs, outcome);
        }
    }

    fn forget(&self) {}
}

/// Call `done(outputs, error)`.
pub(crate) fn report_result(py: Python<'_>, done: &Py<PyAny>, outputs: Outputs, outcome: Result<(), RunError<PyErr>>) {
    let result = outcome.map_err(|error| failure::ended(py, error)).and_then(|()| outputs.shape(py));
    match result {
        Ok(result) => call_unraisable(py, done, (result, py.None())),
        Err(error) => call_unraisable(py, done, (py.None(), error.into_value(py))),
    }
}
