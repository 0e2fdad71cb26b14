//! Python objects as messages between processes: pickled, with large buffers beside the pickle.

use std::sync::Arc;

use memchr::memmem;
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyByteArray, PyBytes, PyDict, PyList};
use remotemedia_runtime::Phase;
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::worker::{Arrived, ExitCause, ItemCodec, Message, StdStream, View, WorkerExit};

use crate::attach::attach;
use crate::convert::failure;
use crate::convert::object::Object;
use crate::worker::buffers;
use crate::worker::buffers::{BufferTaker, LARGE, OwnBuffer, SharedBuffer};
use crate::worker::{arrays, kept, plain};

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static TENSOR_DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The first protocol with buffers beside the pickle.
const PROTOCOL: u8 = 5;

/// How this process and another one exchange Python objects.
pub(crate) struct PythonCodec {
    /// Whether the other one is the parent.
    is_in_worker: bool,
    /// What stands in a pickle that refers to things which only this process has.
    names_by_value: Mutex<Names>,
}

/// The names that there were when this many modules were imported.
#[derive(Clone, Default)]
struct Names(usize, Arc<[Py<PyBytes>]>);

impl PythonCodec {
    /// For a parent, towards its workers.
    pub(crate) fn of_parent() -> Arc<Self> {
        Arc::new(Self { is_in_worker: false, names_by_value: Mutex::default() })
    }

    /// For a worker, towards its parent.
    pub(crate) fn of_worker() -> Arc<Self> {
        Arc::new(Self { is_in_worker: true, names_by_value: Mutex::default() })
    }

    fn pickle<'py>(&self, item: &Bound<'py, PyAny>, taker: &Bound<'py, BufferTaker>) -> PyResult<Bound<'py, PyBytes>> {
        let py = item.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "buffer_callback"), taker)?;
        let dumps = if modules(py)?.contains(intern!(py, "torch"))? {
            TENSOR_DUMPS.import(py, "remotemedia._workers.pickling_tensors", "dumps")?
        } else {
            DUMPS.import(py, "pickle", "dumps")?
        };
        match dumps.call((item, PROTOCOL), Some(&options)) {
            Ok(pickled) => {
                let pickled = pickled.cast_into::<PyBytes>()?;
                if !self.has_name_by_value(&pickled)? {
                    return Ok(pickled);
                }
            }
            Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            // The slower way takes more of it.
            Err(error) if error.is_instance_of::<PyMemoryError>(py) => return Err(error),
            // What the C pickler cannot do, the slower way may.
            Err(_) => {}
        }
        drop(taker.get().take());
        let crossing = py.import("remotemedia._workers.pickling")?;
        Ok(crossing.call_method1("dump_item", (item, taker, self.is_in_worker))?.cast_into()?)
    }

    fn has_name_by_value(&self, pickled: &Bound<'_, PyBytes>) -> PyResult<bool> {
        let py = pickled.py();
        if self.is_in_worker {
            // What is called so in a worker may be something else in the parent by now.
            return pickled.contains(PyBytes::new(py, b"__main__"));
        }
        for name in &*self.names(py)?.1 {
            if pickled.contains(name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn names(&self, py: Python<'_>) -> PyResult<Names> {
        let count = modules(py)?.len();
        let known = self.names_by_value.lock().clone();
        if known.0 == count {
            return Ok(known);
        }
        let found: Vec<Py<PyBytes>> =
            py.import("remotemedia._workers.pickling")?.call_method0("names_by_value")?.extract()?;
        // Looking may have imported modules itself.
        let names = Names(modules(py)?.len(), found.into());
        *self.names_by_value.lock() = names.clone();
        Ok(names)
    }
}

/// The modules that are imported, by their names.
fn modules(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES
        .get_or_try_init(py, || PyResult::Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind()))?;
    Ok(modules.bind(py))
}

impl ItemCodec<Object> for PythonCodec {
    fn pack(&self, item: &Object, message: &mut Message<'_>) -> PyResult<()> {
        attach(|py| {
            let item = item.0.bind(py);
            if plain::write(item, message) || kept::write(item, message) || arrays::write(item, message)? {
                return Ok(());
            }
            let taker = Bound::new(py, BufferTaker::default())?;
            // A pickle begins with an opcode that does not mark plain values or arrays.
            message.write(self.pickle(item, &taker)?.as_bytes());
            buffers::add(py, &taker.get().take(), message);
            Ok(())
        })
    }

    fn unpack(&self, message: Arrived) -> PyResult<Object> {
        attach(|py| {
            if let Some(item) = plain::read(py, &message) {
                return Ok(Object(item?.unbind()));
            }
            if let Some(array) = arrays::read(py, &message)? {
                return Ok(Object(array));
            }
            let item = unpickle(py, message, 0).map_err(|error| refused(py, error))?;
            Ok(Object(item.unbind()))
        })
    }

    fn keep(&self, message: Arrived) -> Result<Object, Arrived> {
        attach(|py| {
            let has_own_names = |body: &[u8]| {
                let is_there = |name: &Py<PyBytes>| memmem::find(body, name.as_bytes(py)).is_some();
                self.names(py).map_or(true, |names| names.1.iter().any(is_there))
            };
            kept::keep(py, message, has_own_names).map(Object)
        })
    }

    fn unpack_own(&self, message: Arrived) -> PyResult<Object> {
        attach(|py| {
            if let Some(item) = plain::read(py, &message) {
                return Ok(Object(item?.unbind()));
            }
            if let Some(array) = arrays::read(py, &message)? {
                return Ok(Object(array.call_method0(py, intern!(py, "copy"))?));
            }
            Ok(Object(unpickle_own(py, message, 0)?.unbind()))
        })
    }

    fn no_memory(&self, bytes: usize) -> PyErr {
        let place = if self.is_in_worker { "in the worker" } else { "in this process" };
        PyMemoryError::new_err(format!("Not enough memory {place} to transfer {bytes} bytes"))
    }

    fn pack_fault(&self, fault: &PyErr) -> Vec<u8> {
        attach(|py| {
            // As a value that has its traceback.
            let error = fault.clone_ref(py).into_value(py);
            let packed = py
                .import("remotemedia._workers.pickling_errors")
                .and_then(|errors| errors.call_method1("pack_error", (error,))?.extract::<Vec<u8>>());
            // Usually out of memory: then nothing more can be reported.
            packed.unwrap_or_default()
        })
    }

    fn unpack_fault(&self, node_id: &str, phase: Phase, bytes: &[u8]) -> PyErr {
        attach(|py| {
            let arguments = (PyBytes::new(py, bytes), node_id, phase.name());
            failure::made_by(py, "remotemedia._workers.pickling_errors", "located_error", arguments)
        })
    }

    fn lost(&self, loss: &WorkerExit) -> PyErr {
        attach(|py| {
            let located = describe_loss(py, loss).and_then(|facts| {
                py.import("remotemedia._errors")?.call_method(
                    "lost_error",
                    (&loss.node_id, loss.phase.name()),
                    Some(&facts),
                )
            });
            located.map_or_else(|error| error, PyErr::from_value)
        })
    }

    fn write_line(&self, node_ids: &[String], stream: StdStream, line: &str) {
        let stream = match stream {
            StdStream::Out => "stdout",
            StdStream::Err => "stderr",
        };
        attach(|py| call_log(py, "write_line", (node_ids, stream, line)));
    }

    fn noted(&self, node_ids: &[String], note: &[u8]) {
        attach(|py| call_log(py, "noted", (node_ids, PyBytes::new(py, note))));
    }

    fn log_exit(&self, _node_ids: &[String], loss: &WorkerExit) {
        attach(|py| match describe_loss(py, loss) {
            Ok(facts) => call_log(py, "log_loss", (&loss.node_id, loss.process, loss.item_index, facts)),
            Err(error) => error.write_unraisable(py, None),
        });
    }

    fn log_restart(&self, node_ids: &[String], process: u32, former: u32) {
        attach(|py| call_log(py, "log_restart", (node_ids, process, former)));
    }
}

/// The object that the pickle holds which begins at `start` in a message, to be kept and changed.
pub(crate) fn unpickle_own(py: Python<'_>, message: Arrived, start: usize) -> PyResult<Bound<'_, PyAny>> {
    let own = |view: View| match view.into_own() {
        Ok(bytes) => Ok(Bound::new(py, OwnBuffer(bytes))?.into_any()),
        Err(view) => Ok(PyByteArray::new(py, &view).into_any()),
    };
    let buffers = message.buffers.into_iter().map(own).collect::<PyResult<Vec<_>>>()?;
    unpickle_with(py, message.body, start, buffers)
}

/// The object that the pickle holds which begins at `start` in a message. Its buffers are read in place.
pub(crate) fn unpickle(py: Python<'_>, message: Arrived, start: usize) -> PyResult<Bound<'_, PyAny>> {
    let buffers = message.buffers.into_iter();
    let buffers = buffers.map(|view| Ok(Bound::new(py, SharedBuffer { view, start: 0 })?.into_any()));
    let buffers = buffers.collect::<PyResult<Vec<_>>>()?;
    unpickle_with(py, message.body, start, buffers)
}

fn unpickle_with<'py>(
    py: Python<'py>,
    body: View,
    start: usize,
    buffers: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let loads = LOADS.import(py, "pickle", "loads")?;
    let pickled = if body.len() < LARGE {
        PyBytes::new(py, &body[start..]).into_any()
    } else {
        Bound::new(py, SharedBuffer { view: body, start })?.into_any()
    };
    if buffers.is_empty() {
        return loads.call1((pickled,));
    }
    let options = [(intern!(py, "buffers"), PyList::new(py, buffers)?)].into_py_dict(py)?;
    loads.call((pickled,), Some(&options))
}

fn refused(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error;
    }
    failure::made_by(py, "remotemedia._workers.pickling", "refuse_arrived", (error.into_value(py),))
}

fn describe_loss<'py>(py: Python<'py>, loss: &WorkerExit) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    match &loss.cause {
        ExitCause::NotStarted(reason) => facts.set_item("not_started", reason)?,
        ExitCause::Exited(code) => facts.set_item("exit_code", code)?,
        ExitCause::Killed(signal) => facts.set_item("signal_number", signal)?,
        ExitCause::Unknown => facts.set_item("is_unknown", true)?,
        ExitCause::Abandoned => {}
        ExitCause::TimedOut(timeout) => facts.set_item("timeout", timeout.as_secs_f64())?,
    }
    facts.set_item("stderr", &loss.stderr)?;
    facts.set_item("restarts", loss.restarts)?;
    facts.set_item("is_final", loss.is_final)?;
    Ok(facts)
}

/// Call a function of `remotemedia._workers.log_forwarding`, which writes to handlers and streams of the user that may fail.
fn call_log<'py>(py: Python<'py>, name: &str, arguments: impl pyo3::call::PyCallArgs<'py>) {
    let called = py.import("remotemedia._workers.log_forwarding").and_then(|log| log.call_method1(name, arguments));
    failure::report(py, called);
}
