//! The outputs of a node that gets the whole stream at once.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_runtime::{Outputs, Stream};

use crate::attach::attach;
use crate::bridge::Bridge;
use crate::log;
use crate::object::Object;

/// What a streaming node makes out of what it has, up to the moment when it asks for its next item.
pub(crate) fn outputs(adapter: &Bound<'_, PyAny>, bridge: &Arc<Bridge>) -> Outputs<Object> {
    Outputs::Many(Box::new(StreamOutputs { adapter: adapter.clone().unbind(), bridge: Arc::clone(bridge) }))
}

struct StreamOutputs {
    adapter: Py<PyAny>,
    bridge: Arc<Bridge>,
}

impl StreamOutputs {
    /// What the node holds of the item must not come out with another one.
    fn restart(&self, py: Python<'_>) -> PyResult<()> {
        self.bridge.wait_to_the_end(self.adapter.bind(py).call_method0("restart")?).map(drop)
    }
}

impl Stream<Object> for StreamOutputs {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| {
            let next = self.adapter.bind(py).call_method0("next_output").and_then(|next| self.bridge.wait(next));
            let next = match next {
                Ok(next) => next,
                Err(error) => {
                    // A wait that was cancelled has left the node at work.
                    if let Err(second) = self.restart(py) {
                        log::set_aside(&second);
                    }
                    return Err(error);
                }
            };
            let (is_output, output): (bool, Py<PyAny>) = next.extract()?;
            Ok(is_output.then_some(Object(output)))
        })
    }

    fn close(&mut self) -> PyResult<()> {
        attach(|py| self.restart(py))
    }
}
