//! A stream through an all-inline session, on the thread that asks for its outputs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyRange, PyTuple};
use remotemedia_runtime::{Bulk, BulkEnd, InProgress, NodeFailure, Payload, Phase};

use crate::attach::prepare_thread;
use crate::convert::failure;
use crate::convert::object::Object;
use crate::node::chain::{Chain, CurrentChunk};
use crate::session::call::Outputs;
use crate::session::core::{SessionCore, WaitCheck};

/// The maximum number of items taken at once: as many as a queue holds.
const LARGEST_CHUNK: usize = 64;

/// A chunk should take no longer: its first output waits for its last.
const CHUNK_TIME: Duration = Duration::from_micros(500);

/// Outputs on demand. Items that are all there already (of a list, tuple or range) are taken a few at once if they are fast.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct DirectMap {
    core: Py<SessionCore>,
    state: Mutex<State>,
}

struct State {
    /// `None` after the end.
    items: Option<Py<PyIterator>>,
    ready: VecDeque<Object>,
    /// Raised when the outputs before it have been taken.
    failed: Option<PyErr>,
    chain: Option<Chain>,
    is_compiled: bool,
    chunk: usize,
}

#[pymethods]
impl DirectMap {
    #[new]
    fn new(core: &Bound<'_, SessionCore>, items: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = core.py();
        let is_there = items.is_exact_instance_of::<PyList>()
            || items.is_exact_instance_of::<PyTuple>()
            || items.is_exact_instance_of::<PyRange>();
        let objects = core.get().chain.as_ref().filter(|_| is_there);
        let chain = objects.map(|objects| {
            let objects = objects.iter().map(|object| object.clone_ref(py)).collect();
            let plan = core.get().session.plan();
            Chain::new(objects, plan, CurrentChunk::default(), None, core.get().place_of_chain())
        });
        let items = Some(items.try_iter()?.unbind());
        let state = State { items, ready: VecDeque::new(), failed: None, chain, is_compiled: false, chunk: 1 };
        Ok(Self { core: core.clone().unbind(), state: Mutex::new(state) })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Take no more; items that were read and outputs that were not taken are dropped.
    fn close(&self) -> PyResult<()> {
        let Some(mut state) = self.state.try_lock() else { return Err(is_taken()) };
        let (items, ready, failed) = (state.items.take(), std::mem::take(&mut state.ready), state.failed.take());
        drop(state);
        // What they refer to may run code when it is released.
        drop((items, ready, failed));
        Ok(())
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        prepare_thread();
        let Some(mut state) = self.state.try_lock() else {
            return Err(is_taken());
        };
        loop {
            if let Some(output) = state.ready.pop_front() {
                return Ok(Some(output.0));
            }
            if let Some(error) = state.failed.take() {
                state.items = None;
                return Err(error);
            }
            if state.items.is_none() {
                return Ok(None);
            }
            state.advance(py, self.core.get());
        }
    }
}

fn is_taken() -> PyErr {
    PyValueError::new_err("another thread is already iterating over this stream")
}

impl State {
    /// Take one more item, or a few, as far as they go.
    fn advance(&mut self, py: Python<'_>, core: &SessionCore) {
        let outcome =
            if self.chunk >= 2 && self.chain.is_some() { self.take_chunk(py, core) } else { self.take_one(py, core) };
        if let Err(error) = outcome.and(core.work_on_left(py)) {
            self.failed = Some(error);
        }
    }

    fn take_one(&mut self, py: Python<'_>, core: &SessionCore) -> PyResult<()> {
        let Some(items) = &self.items else { return Ok(()) };
        let item = items.bind(py).clone().next().transpose()?.map(|item| Object(item.unbind()));
        if item.is_none() {
            self.items = None;
        }
        let started = self.chain.is_some().then(Instant::now);
        let mut outputs = Outputs::default();
        let outcome = core.take_directly(py, item, &mut outputs);
        self.ready.extend(outputs.0);
        if let Some(started) = started {
            self.adapt(started.elapsed());
        }
        outcome
    }

    fn take_chunk(&mut self, py: Python<'_>, core: &SessionCore) -> PyResult<()> {
        let (Some(items), Some(chain)) = (&self.items, &mut self.chain) else { return Ok(()) };
        if !self.is_compiled && !chain.is_possible() {
            self.chain = None;
            return Ok(());
        }
        self.is_compiled = true;
        let started = Instant::now();
        let chunk = PyList::empty(py);
        for item in items.bind(py).clone().take(self.chunk) {
            chunk.append(item?)?;
        }
        if chunk.is_empty() {
            return self.take_one(py, core);
        }
        let mut outputs = Outputs::default();
        let mut outcome = None;
        let mut chunk = Some(Object(chunk.into_any().unbind()));
        let mut wait_check = WaitCheck::default();
        while !core.session.direct_with(&mut || {
            outcome = chunk.take().map(|chunk| chain.run(chunk, &mut outputs));
        }) {
            core.wait_until_free(py, &mut wait_check)?;
        }
        self.ready.extend(std::mem::take(&mut outputs.0));
        let Some(outcome) = outcome else { return Ok(()) };
        let first = core.session.count_direct(outcome.taken as u64);
        match outcome.end {
            BulkEnd::Done => self.adapt(started.elapsed()),
            BulkEnd::SinkFault(error) => return Err(error),
            BulkEnd::Fault(node, fault) => {
                let node_id = core.session.plan().nodes()[node].id.clone();
                let item_index = Some(first + (outcome.taken as u64).saturating_sub(1));
                let failed = NodeFailure { node_id, item_index, phase: Phase::Process, fault };
                return Err(failure::node_error(py, failed));
            }
            BulkEnd::Refused(chunk) => {
                self.chain = None;
                let mut outputs = Outputs::default();
                let mut outcome = Ok(());
                for item in Object::unpack(chunk)? {
                    outcome = outcome.and_then(|()| core.take_directly(py, Some(item), &mut outputs));
                }
                self.ready.extend(outputs.0);
                return outcome;
            }
            BulkEnd::Unfinished { node, output, rest } => {
                self.chain = None;
                self.finish_singly(py, core, (node, output, outcome.left), rest)?;
            }
            BulkEnd::Stopped => {}
        }
        Ok(())
    }

    /// A node returned a generator or coroutine: continue item by item.
    fn finish_singly(
        &mut self,
        py: Python<'_>,
        core: &SessionCore,
        unfinished: (usize, Object, InProgress<Object>),
        rest: Vec<Object>,
    ) -> PyResult<()> {
        let mut outputs = Outputs::default();
        let mut outcome = core.resume_directly(py, unfinished, &mut outputs);
        for item in rest {
            outcome = outcome.and_then(|()| core.take_directly(py, Some(item), &mut outputs));
        }
        self.ready.extend(outputs.0);
        outcome
    }

    /// Take more at once while that is quick, and fewer when it is not.
    fn adapt(&mut self, took: Duration) {
        self.chunk = if took > CHUNK_TIME { self.chunk / 4 } else { self.chunk * 2 }.clamp(1, LARGEST_CHUNK);
    }
}
