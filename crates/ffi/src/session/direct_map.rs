//! A stream through an all-inline session, on the thread that asks for its outputs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Bulk, Pace};

use crate::attach::prepare_thread;
use crate::convert::feed::are_there;
use crate::convert::object::Object;
use crate::node::bulk::chain::Chain;
use crate::node::bulk::coroutine_chain::{AnyChain, CoroutineChain};
use crate::node::bulk::current_chunk::CurrentChunk;
use crate::node::outputs::may_be_lazy;
use crate::session::call::Outputs;
use crate::session::core::SessionCore;

/// The maximum number of items taken at once: as many as a queue holds.
const LARGEST_CHUNK: usize = 64;

/// A chunk should take no longer: its first output waits for its last.
const CHUNK_TIME: Duration = Duration::from_micros(500);

/// After this many items that are taken one by one, the nodes are compiled.
const ITEMS_BEFORE_COMPILING: u32 = 32;

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
    /// Items that were read before an interruption, and had not begun.
    left: Option<Py<PyList>>,
    way: Way,
}

/// How items are taken through.
enum Way {
    /// One by one, so many so far; then by a kernel, if the nodes may have one.
    Singly(u32, Option<Chain>),
    /// One by one by a kernel.
    Compiled(Chain),
    /// A few at once, by a kernel once the pace is known.
    Chunks {
        pace: Pace,
        chain: Option<Box<dyn Bulk<Object>>>,
        /// Whether they cross to an event loop. Then a chunk that fails still holds the items that have not begun.
        crosses: bool,
    },
}

#[pymethods]
impl DirectMap {
    #[new]
    fn new(core: &Bound<'_, SessionCore>, items: &Bound<'_, PyAny>) -> PyResult<Self> {
        let way = if are_there(items) { chunks(core)? } else { Way::Singly(0, chain_of(core)) };
        let items = Some(items.try_iter()?.unbind());
        let state = State { items, ready: VecDeque::new(), failed: None, left: None, way };
        Ok(Self { core: core.clone().unbind(), state: Mutex::new(state) })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Take no more; items that were read and outputs that were not taken are dropped.
    fn close(&self) -> PyResult<()> {
        let Some(mut state) = self.state.try_lock() else { return Err(is_taken()) };
        let (items, ready, failed) = (state.items.take(), std::mem::take(&mut state.ready), state.failed.take());
        let way = std::mem::replace(&mut state.way, Way::Singly(0, None));
        let left = state.left.take();
        drop(state);
        // What they refer to may run code when it is released.
        drop((items, ready, failed, left, way));
        Ok(())
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        prepare_thread();
        let Some(mut state) = self.state.try_lock() else {
            return Err(is_taken());
        };
        let core = self.core.get();
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
            if let Some(output) = state.advance(py, core) {
                return Ok(Some(output.unbind()));
            }
        }
    }
}

fn is_taken() -> PyErr {
    PyValueError::new_err("another thread is already iterating over this stream")
}

/// The compiled nodes, if they may be called without the engine.
fn chain_of(core: &Bound<'_, SessionCore>) -> Option<Chain> {
    let (py, core) = (core.py(), core.get());
    let objects = core.chain.as_ref()?.iter().map(|object| object.clone_ref(py)).collect();
    Some(Chain::new(objects, core.session.plan(), CurrentChunk::default(), None, core.place_of_chain()))
}

fn chunks(core: &Bound<'_, SessionCore>) -> PyResult<Way> {
    let Some(functions) = chain_of(core) else {
        return Ok(Way::Chunks { pace: Pace::new(LARGEST_CHUNK, CHUNK_TIME), chain: None, crosses: false });
    };
    let (py, core) = (core.py(), core.get());
    let objects = core.chain.iter().flatten().map(|object| object.clone_ref(py)).collect();
    let on_loop = (core.place_of_chain(), Arc::clone(&core.bridge));
    let coroutines = CoroutineChain::new(objects, core.session.plan(), on_loop, CurrentChunk::default(), None);
    let mut chain = AnyChain::new(functions, coroutines);
    let crosses = chain.crosses()?;
    let new_pace = if crosses { Pace::growing } else { Pace::new };
    Ok(Way::Chunks { pace: new_pace(LARGEST_CHUNK, CHUNK_TIME), chain: Some(Box::new(chain)), crosses })
}

impl State {
    /// Take one more item, or a few, as far as they go. Returns the output if it is the only one, and next.
    fn advance<'py>(&mut self, py: Python<'py>, core: &SessionCore) -> Option<Bound<'py, PyAny>> {
        let mut output = None;
        let outcome = match &self.way {
            Way::Compiled(_) => self.take_compiled(py, core).map(|only| output = only),
            Way::Chunks { pace, chain: Some(_), .. } => match pace.chunk() {
                Some(size) => self.take_chunk(py, core, size),
                None => self.take_one(py, core),
            },
            Way::Chunks { .. } | Way::Singly(..) => self.take_one(py, core),
        };
        if let Err(error) = outcome.and(core.work_on_left(py)) {
            self.failed = Some(error);
        }
        output
    }

    /// The next item; there are none after `None`.
    fn next_item<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(items) = &self.items else { return Ok(None) };
        let item = items.bind(py).clone().next().transpose()?;
        if item.is_none() {
            self.items = None;
        }
        Ok(item)
    }

    fn take_one(&mut self, py: Python<'_>, core: &SessionCore) -> PyResult<()> {
        let item = self.next_item(py)?;
        let outcome = self.take_directly(py, core, item.map(|item| Object(item.unbind())));
        if let Way::Chunks { pace, .. } = &mut self.way {
            pace.passed(1);
        }
        self.begin_compiled(py);
        outcome
    }

    /// Take an item through the engine, or flush the nodes.
    fn take_directly(&mut self, py: Python<'_>, core: &SessionCore, item: Option<Object>) -> PyResult<()> {
        let mut outputs = Outputs::default();
        let outcome = core.directly_in_stream(py, item, |item| core.session.direct(item, &mut outputs));
        core.session.count_direct_outputs(outputs.0.len() as u64);
        self.ready.extend(outputs.0);
        outcome.map(drop)
    }

    /// Compile the nodes after a few items.
    fn begin_compiled(&mut self, py: Python<'_>) {
        let Way::Singly(count, chain @ Some(_)) = &mut self.way else { return };
        *count += 1;
        if *count >= ITEMS_BEFORE_COMPILING
            && let Some(mut chain) = chain.take()
            && chain.compile_for_single_items(py)
        {
            self.way = Way::Compiled(chain);
        }
    }

    fn take_compiled<'py>(&mut self, py: Python<'py>, core: &SessionCore) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = self.next_item(py)?;
        let (Some(item), Way::Compiled(chain)) = (&item, &self.way) else {
            // What the kernel holds of the last item is released with it.
            self.way = Way::Singly(0, None);
            return self.take_directly(py, core, item.map(|item| Object(item.unbind()))).map(|()| None);
        };
        if may_be_lazy(item.as_borrowed()) {
            return self.take_directly(py, core, Some(Object(item.clone().unbind()))).map(|()| None);
        }
        let (mut output, mut goes_on) = (None, true);
        let mut outputs = Outputs::default();
        let outcome = core.directly_in_stream(py, None, |_| {
            let mut send = || match chain.send(item) {
                Ok(only) => {
                    output = only;
                    None
                }
                Err(left) => {
                    goes_on = false;
                    Some(left)
                }
            };
            core.session.direct_item(&mut send, &mut outputs)
        });
        if !goes_on {
            self.ready.extend(outputs.0);
            // The node returned a generator or coroutine, and may do so again.
            self.way = Way::Singly(0, None);
        }
        outcome.map(|_| output)
    }

    fn take_chunk(&mut self, py: Python<'_>, core: &SessionCore, size: usize) -> PyResult<()> {
        let Some(items) = &self.items else { return Ok(()) };
        let chunk = self.left.take().map_or_else(|| PyList::empty(py), |left| left.into_bound(py));
        for item in items.bind(py).clone().take(size.saturating_sub(chunk.len())) {
            chunk.append(item?)?;
        }
        let count = chunk.len();
        if count == 0 {
            return self.take_one(py, core);
        }
        let mut outputs = Outputs::default();
        let Way::Chunks { pace, chain, crosses } = &mut self.way else { return Ok(()) };
        let items = Some(Object(chunk.clone().into_any().unbind()));
        let outcome = core.directly_in_stream(py, items, |items| core.session.direct_chunk(items, chain, &mut outputs));
        self.ready.extend(outputs.0);
        pace.passed(count as u64);
        let is_whole = outcome?;
        // Without a chain, the engine has taken the rest of the chunk, item by item.
        if !is_whole && *crosses && chain.is_some() {
            self.left = Some(chunk.unbind());
        }
        Ok(())
    }
}
