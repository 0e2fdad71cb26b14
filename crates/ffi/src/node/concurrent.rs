//! Items of a Python node that are in flight together: their coroutines run on the event loop.

use std::sync::Arc;

use pyo3::prelude::*;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Concurrent, Done, EndEarly, Outputs};

use crate::asyncio::context::BegunCall;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::callers::Level;
use crate::node::outputs;
use crate::node::outputs::Kind;
use crate::node::python_node::PythonNode;
use crate::node::site::Site;

impl Concurrent<Object> for PythonNode {
    fn start(&mut self, item: Object, _item_index: Option<u64>, done: Done<Object>) -> Option<EndEarly> {
        let _inside = Level::node(&self.site.place).enter();
        attach(|py| match self.begin(item.0.into_bound(py)) {
            Ok((returned, timeout_secs)) if Kind::of(&returned).is_ok_and(|kind| kind == Kind::Coroutine) => {
                self.start_awaiting(returned, timeout_secs, done)
            }
            Ok((returned, timeout_secs)) => {
                done(outputs::outputs(returned, &self.site, timeout_secs));
                None
            }
            Err(error) => {
                done(Err(error));
                None
            }
        })
    }
}

impl PythonNode {
    /// Call `process`, or what tries it again, with an item that is in flight with others. An async generator runs to its end there.
    ///
    /// Returns the time limit too that is left to keep.
    fn begin<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Option<f64>)> {
        let py = item.py();
        if let Some(retrying) = &self.retrying {
            return Ok((retrying.bind(py).call1((item,))?, None));
        }
        let returned = self.call(item)?;
        if Kind::of(&returned)? == Kind::AsyncGenerator {
            let collected = py.import("remotemedia._asyncio.retries")?.getattr("collected")?;
            return Ok((collected.call1((returned, self.timeout_secs))?, None));
        }
        Ok((returned, self.timeout_secs))
    }

    /// Begin to await a coroutine. Returns what cancels it.
    fn start_awaiting(
        &self,
        returned: Bound<'_, PyAny>,
        timeout_secs: Option<f64>,
        done: Done<Object>,
    ) -> Option<EndEarly> {
        let py = returned.py();
        let begun = BegunCall::new(py, &self.site.place).and_then(|(context, call)| {
            let callback = DoneCallback { done: Mutex::new(Some((call, done))), site: Arc::clone(&self.site) };
            Ok((context, Bound::new(py, callback)?))
        });
        let (context, callback) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                error.write_unraisable(py, None);
                return None;
            }
        };
        match self.site.bridge.start(returned, callback.clone().into_any(), timeout_secs, &context) {
            Ok(cancel) => Some(end_early(cancel)),
            Err(error) => {
                callback.get().finish(Err(error));
                None
            }
        }
    }
}

/// Cancels a coroutine that was begun.
fn end_early(cancel: Py<PyAny>) -> EndEarly {
    Box::new(move || {
        attach(|py| {
            if let Err(error) = cancel.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    })
}

/// Called on the event loop when a coroutine of [`Concurrent::start`] has ended.
#[pyclass(module = "remotemedia._core", frozen)]
struct DoneCallback {
    done: Mutex<Option<(BegunCall, Done<Object>)>>,
    site: Arc<Site>,
}

#[pymethods]
impl DoneCallback {
    fn __call__(&self, value: Bound<'_, PyAny>, error: Bound<'_, PyAny>) {
        if let Some(mailbox) = self.site.bridge.mailbox() {
            mailbox.expect(value.py());
        }
        self.finish(if error.is_none() {
            outputs::outputs_of_started(value, &self.site)
        } else {
            Err(PyErr::from_value(error))
        });
    }
}

impl DoneCallback {
    fn finish(&self, result: PyResult<Outputs<Object>>) {
        let done = self.done.lock().take();
        if let Some((call, done)) = done {
            drop(call);
            done(result);
        }
    }
}
