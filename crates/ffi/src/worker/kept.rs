//! Outputs of a worker that the parent passes on to another one as they came.

use memchr::memmem;
use pyo3::prelude::*;
use remotemedia_runtime::worker::{Arrived, Message, View};

/// The byte that a pickle begins with.
const PICKLE: u8 = 0x80;

/// What occurs in a pickle that was not made by the C pickler alone: it refers to classes of the parent, or defines what it refers to.
const OWN_WAYS: [&[u8]; 2] = [b"remotemedia._workers", b"cloudpickle"];

/// An item that was not unpacked. No node in this process receives it.
#[pyclass(module = "remotemedia._core", frozen)]
pub(super) struct KeptItem {
    body: View,
    buffers: Vec<View>,
}

/// Keep a message, unless it is a pickle with names that may be something else in another worker.
pub(super) fn keep(
    py: Python<'_>,
    message: Arrived,
    has_own_names: impl FnOnce(&[u8]) -> bool,
) -> Result<Py<PyAny>, Arrived> {
    let is_same_elsewhere = match message.body.first() {
        None => false,
        Some(&PICKLE) => {
            let body = &*message.body;
            !OWN_WAYS.iter().any(|name| memmem::find(body, name).is_some()) && !has_own_names(body)
        }
        Some(_) => true,
    };
    if !is_same_elsewhere {
        return Err(message);
    }
    let (body, buffers) = (message.body.clone(), message.buffers.clone());
    // Without memory for it, there is also none for what it stands for, and that is reported.
    Py::new(py, KeptItem { body, buffers }).map(Py::into_any).map_err(|_| message)
}

/// Write an item as it came, if it was kept.
pub(super) fn write(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> bool {
    let Ok(item) = item.cast_exact::<KeptItem>() else { return false };
    let KeptItem { body, buffers } = item.get();
    message.pass_on(body, buffers);
    true
}
