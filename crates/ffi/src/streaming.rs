//! The outputs of a node that gets the whole stream at once.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_runtime::{Outputs, Stream};

use crate::attach::attach;
use crate::bridge::Bridge;
use crate::object::Object;

/// What a streaming node makes out of what it has, up to the moment when it asks for its next item.
pub(crate) fn outputs(adapter: &Bound<'_, PyAny>, bridge: &Arc<Bridge>) -> Outputs<Object> {
    Outputs::Many(Box::new(StreamOutputs { adapter: adapter.clone().unbind(), bridge: Arc::clone(bridge) }))
}

struct StreamOutputs {
    adapter: Py<PyAny>,
    bridge: Arc<Bridge>,
}

impl Stream<Object> for StreamOutputs {
    fn next(&mut self) -> PyResult<Option<Object>> {
        attach(|py| {
            let next = self.adapter.bind(py).call_method0("next_output")?;
            let (is_output, output): (bool, Py<PyAny>) = self.bridge.wait(next)?.extract()?;
            Ok(is_output.then_some(Object(output)))
        })
    }
}
