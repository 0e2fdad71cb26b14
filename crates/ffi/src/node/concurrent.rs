//! Items of a Python node that are in flight together: their coroutines run on the event loop.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Concurrent, Done, EndEarly, EndPack, Outputs, PackDone, Payload, start_pack_singly};

use crate::asyncio::context::{BegunCall, CallerContext};
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

    fn start_pack(
        &mut self,
        context: &CallerContext,
        items: Vec<(u64, Object)>,
        done: &Arc<dyn PackDone<Object>>,
    ) -> EndPack {
        if self.is_fusible {
            let _inside = Level::node(&self.site.place).enter();
            return self.start_awaiting_pack(items, done);
        }
        start_pack_singly(self, context, items, done)
    }

    fn queues_packs(&self) -> bool {
        self.is_fusible
    }
}

impl PythonNode {
    /// Begin to await `process` of several items in a few tasks.
    fn start_awaiting_pack(&self, items: Vec<(u64, Object)>, done: &Arc<dyn PackDone<Object>>) -> EndPack {
        let count = items.len();
        let begun = attach(|py| {
            let (context, call) = BegunCall::new(py, &self.site.place)?;
            let client = PackClient { _call: call, done: Arc::clone(done), site: Arc::clone(&self.site) };
            let items = PyList::new(py, items.into_iter().map(|(_, item)| item.0))?;
            let arguments = (items, Bound::new(py, client)?, context.object(py));
            self.packs(py)?.call_method1("start", arguments).map(Bound::unbind)
        });
        match begun {
            Ok(pack) => Box::new(move |places| {
                attach(|py| {
                    if let Err(error) = pack.call_method1(py, "cancel_between", (places.start, places.end)) {
                        error.write_unraisable(py, None);
                    }
                });
            }),
            Err(error) => {
                let result = |_| Err(Object::duplicate_fault(&error));
                done.done(0, (0..count).map(result).collect());
                Box::new(|_| ())
            }
        }
    }

    /// The `remotemedia._asyncio.packs.Packs` of the node.
    fn packs<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let packs = self.packs.get_or_try_init(py, || {
            let process = self.object.bind(py).getattr("process")?;
            let class = py.import("remotemedia._asyncio.packs")?.getattr("Packs")?;
            class.call1((self.site.bridge.get(py)?, process, self.concurrency)).map(Bound::unbind)
        })?;
        Ok(packs.bind(py))
    }

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

/// Is notified of the items of [`Concurrent::start_pack`], on the event loop.
#[pyclass(module = "remotemedia._core", frozen)]
struct PackClient {
    _call: BegunCall,
    done: Arc<dyn PackDone<Object>>,
    site: Arc<Site>,
}

#[pymethods]
impl PackClient {
    fn begin(&self, place: usize) {
        self.done.begins(place);
    }

    fn done(&self, place: usize, value: Bound<'_, PyAny>, failure: Bound<'_, PyAny>) {
        let result = if failure.is_none() {
            outputs::outputs_of_started(value, &self.site)
        } else {
            Err(PyErr::from_value(failure))
        };
        self.done.done(place, vec![result]);
    }
}
