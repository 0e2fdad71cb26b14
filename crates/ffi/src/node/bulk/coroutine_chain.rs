//! Async nodes as one coroutine that takes a chunk of items: see `remotemedia._compiled.crossings`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::{Bulk, BulkEnd, BulkOutcome, Payload, Plan, Sink};

use crate::asyncio::bridge::Bridge;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::chain::Chain;
use crate::node::bulk::chunk_items::ChunkItems;
use crate::node::bulk::crossing;
use crate::node::bulk::current_chunk::CurrentChunk;
use crate::node::bulk::shape::Shape;
use crate::node::callers::Place;
use crate::node::lock::thread_id;
use crate::node::methods::is_async;

/// The bulk way through the nodes of a run, of whichever kind they are when they have been initialized.
pub(crate) struct AnyChain {
    plain: Chain,
    coroutines: CoroutineChain,
}

impl AnyChain {
    pub(crate) fn new(plain: Chain, coroutines: CoroutineChain) -> Self {
        Self { plain, coroutines }
    }
}

impl Bulk<Object> for AnyChain {
    fn crosses(&mut self) -> PyResult<bool> {
        self.coroutines.crosses()
    }

    fn is_possible(&mut self, is_measured: bool) -> bool {
        self.coroutines.is_possible(is_measured) || self.plain.is_possible(is_measured)
    }

    fn run(&mut self, chunk: Object, sink: &mut dyn Sink<Object>) -> BulkOutcome<Object> {
        if self.coroutines.crossings.is_some() { self.coroutines.run(chunk, sink) } else { self.plain.run(chunk, sink) }
    }
}

/// The bulk way through nodes on an event loop.
pub(crate) struct CoroutineChain {
    nodes: Vec<Py<PyAny>>,
    shape: Shape,
    place: Arc<Place>,
    bridge: Arc<Bridge>,
    current: CurrentChunk,
    /// The list that collects the outputs of the whole run, if one does.
    collected: Option<Py<PyList>>,
    /// The compiled nodes.
    crossings: Option<Py<PyAny>>,
}

impl CoroutineChain {
    pub(crate) fn new(
        nodes: Vec<Py<PyAny>>,
        plan: &Plan,
        (place, bridge): (Arc<Place>, Arc<Bridge>),
        current: CurrentChunk,
        collected: Option<Py<PyList>>,
    ) -> Self {
        Self { nodes, shape: Shape::of(plan), place, bridge, current, collected, crossings: None }
    }

    fn compile(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        // Most nodes are not async, and nothing else needs to be known of them.
        let mut are_async = self.nodes.iter().map(|node| is_async(node.bind(py)));
        if !are_async.try_fold(false, |is_any, is_async| PyResult::Ok(is_any || is_async?))? {
            return Ok(None);
        }
        let module = py.import("remotemedia._compiled.crossings")?;
        let nodes = PyList::new(py, &self.nodes)?;
        let crossings = module.call_method1("build", (nodes, self.shape.connections(py)?, &self.shape.ids))?;
        Ok((!crossings.is_none()).then(|| crossings.unbind()))
    }

    fn cross(&self, chunk: &Bound<'_, PyList>, sink: &mut dyn Sink<Object>) -> PyResult<BulkOutcome<Object>> {
        let py = chunk.py();
        let crossings = self.crossings.as_ref().expect("the engine asks whether there is a way first").bind(py);
        let items = Bound::new(py, ChunkItems::new(chunk.clone().unbind()))?;
        let outputs = PyList::empty(py);
        let call = crossings.call_method1("chunk", (self.bridge.get(py)?, &items, &outputs))?;
        let mut past_sink = 0;
        let mut sink_fault = None;
        let mut hand_on = || match &self.collected {
            Some(collected) => {
                past_sink += outputs.len() as u64;
                move_to(collected.bind(py), &outputs)
            }
            None => take(&outputs)?.iter().try_for_each(|output| sink.accept(Object(output.unbind()))),
        };
        let waited = crossing::wait(&call, &self.place, || {
            hand_on().inspect_err(|error| sink_fault = Some(error.clone_ref(py)))
        });
        let taken = items.get().taken();
        let outcome = match (sink_fault, waited) {
            (Some(fault), _) => BulkOutcome::new(taken, BulkEnd::SinkFault(fault)),
            (None, Err(error)) => {
                hand_on()?;
                let node = call.call_method0("node")?.extract()?;
                chunk.del_slice(0, taken.min(chunk.len()))?;
                BulkOutcome::new(taken, BulkEnd::Fault(node, error))
            }
            (None, Ok(())) => {
                let rest = || rest_of(chunk, taken).iter().map(|item| Ok(Object(item.unbind()))).collect();
                let failed = crossing::failure(&call, taken, rest)?;
                chunk.del_slice(0, taken.min(chunk.len()))?;
                failed.unwrap_or_else(|| ended(chunk, taken))
            }
        };
        Ok(BulkOutcome { past_sink, ..outcome })
    }
}

/// The end of a chunk in which nothing failed, and of which this is left.
fn ended(rest: &Bound<'_, PyList>, taken: usize) -> BulkOutcome<Object> {
    // A cancellation may have emptied the chunk.
    let end = if rest.is_empty() { BulkEnd::Done } else { BulkEnd::Paused(Object(rest.clone().into_any().unbind())) };
    BulkOutcome::new(taken, end)
}

fn rest_of<'py>(chunk: &Bound<'py, PyList>, taken: usize) -> Bound<'py, PyList> {
    chunk.get_slice(taken.min(chunk.len()), chunk.len())
}

/// Take all outputs out of a list. The loop appends to it only while this thread is not attached.
fn take<'py>(outputs: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let taken = outputs.get_slice(0, outputs.len());
    outputs.set_slice(0, outputs.len(), PyList::empty(outputs.py()).as_any())?;
    Ok(taken)
}

fn move_to(collected: &Bound<'_, PyList>, outputs: &Bound<'_, PyList>) -> PyResult<()> {
    collected.set_slice(collected.len(), collected.len(), take(outputs)?.as_any())
}

impl Bulk<Object> for CoroutineChain {
    fn crosses(&mut self) -> PyResult<bool> {
        match attach(|py| self.compile(py)) {
            Ok(crossings) => self.crossings = crossings,
            Err(error) if Object::is_interrupt(&error) => return Err(error),
            // The nodes are called one by one then: the same outputs, only slower.
            Err(error) => attach(|py| error.write_unraisable(py, None)),
        }
        Ok(self.crossings.is_some())
    }

    fn is_possible(&mut self, _is_measured: bool) -> bool {
        self.crossings.is_some()
    }

    fn run(&mut self, chunk: Object, sink: &mut dyn Sink<Object>) -> BulkOutcome<Object> {
        attach(|py| {
            let chunk = match chunk.0.into_bound(py).cast_into::<PyList>() {
                Ok(chunk) => chunk,
                Err(error) => return BulkOutcome::new(0, BulkEnd::Fault(0, error.into())),
            };
            if chunk.is_empty() {
                return BulkOutcome::new(0, BulkEnd::Done);
            }
            let outcome = self.current.begin(&chunk, thread_id(), None).and_then(|()| self.cross(&chunk, sink));
            drop(self.current.end());
            outcome.unwrap_or_else(|error| BulkOutcome::new(0, BulkEnd::Fault(0, error)))
        })
    }
}
