//! The items of a stream on their way into a session: many at once where they are all there, or wait.

use std::collections::VecDeque;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use remotemedia_runtime::ChunkedStream;
use remotemedia_runtime::locks::Mutex;

use crate::attach::prepare_thread;
use crate::convert::feed::are_there;
use crate::convert::object::Object;
use crate::session::stream::OutputStream;

/// What `feed` returns.
const GOES_ON: u8 = 0;
const WAITS: u8 = 3;
const IS_ENDED: u8 = 1;
const IS_REFUSED: u8 = 2;

/// Reads items, and puts them into a session.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct StreamFeed {
    stream: Py<OutputStream>,
    /// The most items in progress and outputs that were not taken.
    limit: usize,
    state: Mutex<State>,
}

struct State {
    items: Py<PyIterator>,
    /// Items that were read, and for which there was no room.
    left: VecDeque<Object>,
    /// `None` if the nodes take items one by one.
    chunks: Option<ChunkedStream>,
}

#[pymethods]
impl StreamFeed {
    #[new]
    fn new(stream: &Bound<'_, OutputStream>, items: &Bound<'_, PyAny>, limit: usize) -> PyResult<Self> {
        let chunks = ChunkedStream::new(&stream.get().core.get().session, are_there(items));
        let state = State { items: items.try_iter()?.unbind(), left: VecDeque::new(), chunks };
        Ok(Self { stream: stream.clone().unbind(), limit, state: Mutex::new(state) })
    }

    /// Read items and put them in. Returns 3 when the next output is to be waited for, because it is ready or there is no room; 0 if more
    /// can be put in; 1 if the items have ended; 2 if the session has closed.
    fn feed(&self, py: Python<'_>) -> PyResult<u8> {
        prepare_thread();
        let stream = self.stream.get();
        let Some(mut state) = self.state.try_lock() else {
            return Err(PyValueError::new_err("another thread is already iterating over this stream"));
        };
        let mut has_begun = false;
        loop {
            let load = stream.outbox.load();
            if load >= self.limit || stream.outbox.is_held_up() || stream.outbox.is_ready() {
                return Ok(WAITS);
            }
            let session = &stream.core.get().session;
            let room = state.chunks.as_ref().map(|chunks| chunks.room(session, load, self.limit, has_begun));
            if room == Some(0) {
                return Ok(WAITS);
            }
            has_begun = true;
            state.read(py, room.unwrap_or(1))?;
            if state.left.is_empty() {
                return Ok(IS_ENDED);
            }
            if state.put(stream) {
                continue;
            }
            // It waits for room, or the nodes run on this thread.
            let is_refused = state.left.pop_front().is_some_and(|item| !stream.offer(item));
            return Ok(if is_refused { IS_REFUSED } else { GOES_ON });
        }
    }
}

impl State {
    /// Read items until so many are there.
    fn read(&mut self, py: Python<'_>, count: usize) -> PyResult<()> {
        while self.left.len() < count {
            match self.items.bind(py).clone().next() {
                Some(item) => self.left.push_back(Object(item?.unbind())),
                None => break,
            }
        }
        Ok(())
    }

    /// Put in what was read; returns whether there was room.
    fn put(&mut self, stream: &OutputStream) -> bool {
        let Some(chunks) = &mut self.chunks else { return false };
        let items: Vec<Object> = self.left.drain(..).collect();
        let count = items.len() as u64;
        let own_index = stream.next_own_index();
        match chunks.put(&stream.core.get().session, items, &stream.outbox, stream.context(), own_index) {
            Ok(()) => {
                stream.own_index(count);
                true
            }
            Err(items) => {
                self.left.extend(items);
                false
            }
        }
    }
}
