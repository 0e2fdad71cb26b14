//! The outputs of a node that gets the whole stream at once.

use std::sync::Arc;

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use remotemedia_runtime::{Outputs, Stream};

use crate::attach::attach;
use crate::convert::log;
use crate::convert::object::Object;
use crate::node::callers;
use crate::node::callers::{Frame, Level};
use crate::node::site::Site;

/// Give a streaming node an item, or the end. Its outputs are what it makes up to the moment when it asks for its next item.
pub(crate) fn give<'py>(
    adapter: &Bound<'py, PyAny>,
    method: &str,
    arguments: impl PyCallArgs<'py>,
    site: &Arc<Site>,
) -> PyResult<Outputs<Object>> {
    // It is at work from here to its last output, also between our calls.
    let outputs =
        StreamOutputs { call: Frame::begin(&site.place), adapter: adapter.clone().unbind(), site: Arc::clone(site) };
    outputs.wait(adapter.call_method1(method, arguments)?)?;
    Ok(Outputs::Many(Box::new(outputs)))
}

struct StreamOutputs {
    adapter: Py<PyAny>,
    site: Arc<Site>,
    call: Arc<Frame>,
}

impl StreamOutputs {
    fn wait<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let frames = callers::with_own(callers::current(awaitable.py())?, &self.call);
        self.site.bridge.wait_for(frames, awaitable)
    }

    /// What the node holds of the item must not come out with another one.
    fn restart(&self, py: Python<'_>) -> PyResult<()> {
        self.site.bridge.wait_to_the_end(self.adapter.bind(py).call_method0("restart")?).map(drop)
    }
}

impl Stream<Object> for StreamOutputs {
    fn next(&mut self) -> PyResult<Option<Object>> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| {
            let next = self.adapter.bind(py).call_method0("next_output").and_then(|next| self.wait(next));
            let next = match next {
                Ok(next) => next,
                Err(error) => {
                    // A wait that was cancelled has left the node at work.
                    if let Err(second) = self.restart(py) {
                        log::log_ignored_error(&second);
                    }
                    return Err(error);
                }
            };
            let (is_output, output): (bool, Py<PyAny>) = next.extract()?;
            Ok(is_output.then_some(Object(output)))
        })
    }

    fn close(&mut self) -> PyResult<()> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| self.restart(py))
    }
}

impl Drop for StreamOutputs {
    fn drop(&mut self) {
        self.call.end();
    }
}
