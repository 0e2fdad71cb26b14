//! A chain of plain Python nodes as one Python function that takes a chunk of items: see `remotemedia._compiled.chain`.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use remotemedia_runtime::{Bulk, BulkEnd, BulkOutcome, Sink};

use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::callers::{Level, Place};
use crate::node::outputs::{Kind, may_be_lazy};

/// The current chunk. Emptying the list ends the loop over it after the current item: that is how a run is cancelled
/// without a check an item.
#[derive(Clone, Default)]
pub(crate) struct CurrentChunk(Arc<Mutex<Chunk>>);

#[derive(Default)]
enum Chunk {
    #[default]
    None,
    UnderWay(Py<PyList>),
    /// No more items are to be started.
    Refused,
}

impl CurrentChunk {
    /// Make a chunk the current one, or empty it if the run was cancelled meanwhile.
    fn begin(&self, chunk: &Bound<'_, PyList>) -> PyResult<()> {
        let mut current = self.0.lock();
        if matches!(*current, Chunk::Refused) {
            drop(current);
            return chunk.call_method0("clear").map(drop);
        }
        *current = Chunk::UnderWay(chunk.clone().unbind());
        Ok(())
    }

    fn end(&self) {
        let mut current = self.0.lock();
        if matches!(*current, Chunk::UnderWay(_)) {
            // The engine holds the list still, so no Python code runs here.
            *current = Chunk::None;
        }
    }

    /// Take the items away that have not been started, in this chunk and in later ones.
    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let before = std::mem::replace(&mut *self.0.lock(), Chunk::Refused);
        match before {
            Chunk::UnderWay(chunk) => chunk.bind(py).call_method0("clear").map(drop),
            Chunk::None | Chunk::Refused => Ok(()),
        }
    }
}

/// The compiled chain.
struct Kernel {
    function: Py<PyAny>,
    node_of_line: Py<PyAny>,
}

/// The bulk way through a chain of Python nodes.
pub(crate) struct Chain {
    nodes: Vec<Py<PyAny>>,
    place: Arc<Place>,
    kernel: Option<Kernel>,
    current: CurrentChunk,
    /// The list that collects the outputs of the whole run, if one does: the chain then appends to it directly.
    collected: Option<Py<PyList>>,
}

impl Chain {
    pub(crate) fn new(
        nodes: Vec<Py<PyAny>>,
        current: CurrentChunk,
        collected: Option<Py<PyList>>,
        place: Arc<Place>,
    ) -> Self {
        Self { nodes, place, kernel: None, current, collected }
    }

    fn compile(&self, py: Python<'_>) -> PyResult<Option<Kernel>> {
        let nodes = PyList::new(py, &self.nodes)?;
        let built = py.import("remotemedia._compiled.chain")?.call_method1("build", (nodes,))?;
        if built.is_none() {
            return Ok(None);
        }
        let (function, node_of_line) = built.extract()?;
        Ok(Some(Kernel { function, node_of_line }))
    }

    fn run_chunk(&self, py: Python<'_>, chunk: &Bound<'_, PyList>, sink: &mut dyn Sink<Object>) -> BulkOutcome<Object> {
        let kernel = self.kernel.as_ref().expect("the engine asks whether there is a kernel first");
        let length = chunk.len();
        let outputs = self.collected.as_ref().map_or_else(|| PyList::empty(py), |list| list.bind(py).clone());
        let items = match chunk.try_iter() {
            Ok(items) => items,
            Err(error) => return BulkOutcome { taken: 0, end: BulkEnd::Fault(0, error) },
        };
        let start = outputs.len();
        let outcome = kernel.function.bind(py).call1((&items, &outputs));
        let accepted = drop_empty(&outputs, start).and_then(|()| match self.collected {
            Some(_) => Ok(()),
            None => outputs.iter().try_for_each(|output| sink.accept(Object(output.unbind()))),
        });
        if let Err(error) = accepted {
            return BulkOutcome { taken: length, end: BulkEnd::SinkFault(error) };
        }
        match outcome {
            Ok(_) => BulkOutcome { taken: length, end: BulkEnd::Done },
            Err(error) => self
                .explain(py, error, &items, length)
                .unwrap_or_else(|error| BulkOutcome { taken: length, end: BulkEnd::Fault(0, error) }),
        }
    }

    /// Find out which node the chunk ended in, and on which item.
    fn explain(
        &self,
        py: Python<'_>,
        error: PyErr,
        items: &Bound<'_, PyIterator>,
        length: usize,
    ) -> PyResult<BulkOutcome<Object>> {
        let module = py.import("remotemedia._compiled.chain")?;
        let kernel = self.kernel.as_ref().expect("only a kernel raises here");
        let left: usize = items.call_method0("__length_hint__")?.extract()?;
        let taken = length.saturating_sub(left);
        // As a value the error carries its traceback, from which `locate` reads the node.
        let error = error.into_value(py);
        let node = module.call_method1("locate", (&error, &kernel.node_of_line))?.extract()?;
        let error = error.into_bound(py);
        if !error.get_type().is(&module.getattr("LazyResultError")?) {
            return Ok(BulkOutcome { taken, end: BulkEnd::Fault(node, PyErr::from_value(error.into_any())) });
        }
        let output = Object(error.getattr("args")?.get_item(0)?.unbind());
        let rest = items.clone().map(|item| item.map(|item| Object(item.unbind()))).collect::<PyResult<Vec<_>>>()?;
        Ok(BulkOutcome { taken, end: BulkEnd::Unfinished { node, output, rest } })
    }
}

/// Whether `is_sought` is true of the address of an item from `start` on. Borrows the items: counting references would
/// cost as much as a small node.
#[allow(unsafe_code, reason = "PyO3 has no way to look at the items of a list without taking references")]
fn has(list: &Bound<'_, PyList>, start: usize, mut is_sought: impl FnMut(*mut pyo3::ffi::PyObject) -> bool) -> bool {
    (start.cast_signed()..list.len().cast_signed()).any(|index| {
        // SAFETY: the index is within the list, which keeps its length: this thread is attached and runs no Python code.
        is_sought(unsafe { pyo3::ffi::PyList_GET_ITEM(list.as_ptr(), index) })
    })
}

/// Whether an item is a generator or coroutine, which a node may pass on and a kernel would not notice.
#[allow(unsafe_code, reason = "the items are borrowed, see `has`")]
fn has_lazy_item(chunk: &Bound<'_, PyList>) -> PyResult<bool> {
    let mut last = std::ptr::null_mut();
    let may_be_lazy = has(chunk, 0, |item| {
        // SAFETY: an item of a list is an object, and every object has a type.
        let kind = unsafe { pyo3::ffi::Py_TYPE(item) };
        // Most items are of one type, which need not be looked at again.
        kind != std::mem::replace(&mut last, kind) && may_be_lazy(kind)
    });
    if !may_be_lazy {
        return Ok(false);
    }
    for item in chunk {
        if Kind::of(&item)? != Kind::Plain {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Remove the empty outputs from `start` on, where the last node returned `None`.
fn drop_empty(outputs: &Bound<'_, PyList>, start: usize) -> PyResult<()> {
    let none = outputs.py().None();
    if !has(outputs, start, |output| output == none.as_ptr()) {
        return Ok(());
    }
    let kept: Vec<_> = outputs.iter().skip(start).filter(|output| !output.is_none()).collect();
    outputs.set_slice(start, outputs.len(), PyList::new(outputs.py(), kept)?.as_any())
}

impl Bulk<Object> for Chain {
    fn is_possible(&mut self) -> bool {
        self.kernel = attach(|py| {
            self.compile(py).unwrap_or_else(|error| {
                // Without a kernel the nodes are called one by one: the same outputs, only slower.
                error.write_unraisable(py, None);
                None
            })
        });
        self.kernel.is_some()
    }

    fn run(&mut self, chunk: Object, sink: &mut dyn Sink<Object>) -> BulkOutcome<Object> {
        let _inside = Level::node(&self.place).enter();
        attach(|py| {
            let chunk = match chunk.0.into_bound(py).cast_into::<PyList>() {
                Ok(chunk) => chunk,
                Err(error) => return BulkOutcome { taken: 0, end: BulkEnd::Fault(0, error.into()) },
            };
            match has_lazy_item(&chunk) {
                Ok(true) => return BulkOutcome { taken: 0, end: BulkEnd::Refused(Object(chunk.into_any().unbind())) },
                Ok(false) => {}
                Err(error) => return BulkOutcome { taken: 0, end: BulkEnd::Fault(0, error) },
            }
            if let Err(error) = self.current.begin(&chunk) {
                return BulkOutcome { taken: 0, end: BulkEnd::Fault(0, error) };
            }
            let outcome = self.run_chunk(py, &chunk, sink);
            self.current.end();
            outcome
        })
    }
}
