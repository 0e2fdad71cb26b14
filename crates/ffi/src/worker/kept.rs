//! Outputs of a worker that the parent passes on to another one as they came.

use pyo3::prelude::*;
use remotemedia_runtime::worker::{Arrived, Message, View};

/// The byte that a pickle begins with: what it refers to may be something else in another worker.
const PICKLE: u8 = 0x80;

/// An item that was not unpacked. No node in this process receives it.
#[pyclass(module = "remotemedia._core", frozen)]
pub(super) struct KeptItem {
    body: View,
    buffers: Vec<View>,
}

/// Keep a message, unless it is a pickle.
pub(super) fn keep(py: Python<'_>, message: Arrived) -> Result<Py<PyAny>, Arrived> {
    if message.body.first().is_none_or(|&mark| mark == PICKLE) {
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
