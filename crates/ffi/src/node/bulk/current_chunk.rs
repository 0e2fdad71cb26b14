//! The items that compiled nodes are working on, for those who want them to stop.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use remotemedia_runtime::locks::Mutex;

/// The current chunk. Emptying the list ends the loop over it after the current item: that is how a run is cancelled
/// without a check an item. Only the loops over generators check for it.
#[derive(Clone, Default)]
pub(crate) struct CurrentChunk(Arc<Mutex<Chunk>>);

#[derive(Default)]
enum Chunk {
    #[default]
    None,
    UnderWay {
        items: Py<PyList>,
        /// The thread that works on it.
        thread: u64,
        /// What the kernel reads the items from, if the rest may be taken back.
        iterator: Option<Py<PyIterator>>,
        /// What was taken back.
        rest: Option<Py<PyList>>,
        /// The cell of the kernel whose contents end its loops over generators.
        stop: Option<Py<PyAny>>,
    },
    /// No more items are to be started.
    Refused,
}

impl CurrentChunk {
    /// Make a chunk the current one, or empty it if the run was cancelled meanwhile.
    pub(super) fn begin(&self, chunk: &Bound<'_, PyList>, thread: u64, stop: Option<Py<PyAny>>) -> PyResult<()> {
        let mut current = self.0.lock();
        if matches!(*current, Chunk::Refused) {
            drop(current);
            return chunk.call_method0("clear").map(drop);
        }
        *current = Chunk::UnderWay { items: chunk.clone().unbind(), thread, iterator: None, rest: None, stop };
        Ok(())
    }

    /// The kernel reads the items from here; those that it has not read may be taken back by [`CurrentChunk::pause`].
    pub(super) fn read_from(&self, reader: &Bound<'_, PyIterator>) {
        if let Chunk::UnderWay { iterator, .. } = &mut *self.0.lock() {
            *iterator = Some(reader.clone().unbind());
        }
    }

    /// The kernel has returned. Returns what was taken back.
    pub(super) fn end(&self) -> Option<Py<PyList>> {
        let mut current = self.0.lock();
        if matches!(*current, Chunk::Refused) {
            return None;
        }
        // The engine holds the list and the cell still, so no Python code runs here.
        match std::mem::take(&mut *current) {
            Chunk::UnderWay { rest, .. } => rest,
            Chunk::None | Chunk::Refused => None,
        }
    }

    /// Take back the items that have not been started: the chunk takes its time, and what is done is to go on.
    pub(crate) fn pause(&self, py: Python<'_>) -> PyResult<()> {
        let mut current = self.0.lock();
        let Chunk::UnderWay { items, iterator: Some(iterator), rest, .. } = &mut *current else { return Ok(()) };
        let items = items.bind(py);
        let unread: usize = iterator.bind(py).call_method0("__length_hint__")?.extract()?;
        let length = items.len();
        let read = length.saturating_sub(unread);
        if unread > 0 && rest.is_none() {
            *rest = Some(items.get_slice(read, length).unbind());
            items.del_slice(read, length)?;
        }
        Ok(())
    }

    /// Take the items away that have not been started in this chunk, if it `is_meant`. That is called with the thread that works on it,
    /// while no other chunk can begin.
    pub(crate) fn cut(&self, py: Python<'_>, is_meant: impl FnOnce(u64) -> bool) -> PyResult<()> {
        let items = match &*self.0.lock() {
            Chunk::UnderWay { items, thread, .. } if is_meant(*thread) => Some(items.clone_ref(py)),
            _ => None,
        };
        items.map_or(Ok(()), |items| items.call_method0(py, "clear").map(drop))
    }

    /// Take the items away that have not been started, in this chunk and in later ones.
    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let before = std::mem::replace(&mut *self.0.lock(), Chunk::Refused);
        match before {
            Chunk::UnderWay { items, stop, .. } => {
                if let Some(stop) = stop {
                    stop.bind(py).setattr("cell_contents", true)?;
                }
                items.bind(py).call_method0("clear").map(drop)
            }
            Chunk::None | Chunk::Refused => Ok(()),
        }
    }
}
