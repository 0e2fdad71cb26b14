//! The items of a chunk as an iterator that ends early when the chunk has taken its time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyList;

/// How long nodes may run on an event loop before its other tasks get a turn, and outputs wait for those after them.
const CHUNK_TIME: Duration = Duration::from_millis(1);

/// The items of a chunk, for a kernel on an event loop. Emptying the list ends it, too.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct ChunkItems {
    list: Py<PyList>,
    taken: AtomicUsize,
    made: Instant,
    /// When its time is over, in nanoseconds since it was made.
    until: AtomicU64,
}

impl ChunkItems {
    pub(crate) fn new(list: Py<PyList>) -> Self {
        Self { list, taken: AtomicUsize::new(0), made: Instant::now(), until: AtomicU64::new(0) }
    }

    /// How many items were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[pymethods]
impl ChunkItems {
    /// Whether its time is over.
    fn is_due(&self) -> bool {
        self.nanos() > self.until.load(Ordering::Relaxed)
    }

    /// Give it as much time again.
    fn renew(&self) {
        #[allow(clippy::cast_possible_truncation, reason = "it is a millisecond")]
        let until = self.nanos() + CHUNK_TIME.as_nanos() as u64;
        self.until.store(until, Ordering::Relaxed);
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let index = self.taken();
        if index == 0 {
            // The loop may have had other things to do before.
            self.renew();
        } else if self.is_due() {
            return None;
        }
        let list = self.list.bind(py);
        let item = if index < list.len() { list.get_item(index).ok()? } else { return None };
        self.taken.store(index + 1, Ordering::Relaxed);
        Some(item.unbind())
    }
}
