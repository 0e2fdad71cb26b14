//! `def` nodes as one Python function that takes a chunk of items: see `remotemedia._compiled.kernels`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyList};
use remotemedia_runtime::{Bulk, BulkEnd, BulkOutcome, Plan, Sink};

use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::current_chunk::CurrentChunk;
use crate::node::bulk::shape::{Shape, in_progress};
use crate::node::bulk::timing::Timing;
use crate::node::callers::{Level, Place};
use crate::node::lock::thread_id;
use crate::node::outputs::{Kind, may_be_lazy};

/// The compiled nodes.
struct Kernel {
    /// The object that `failures.find` needs.
    whole: Py<PyAny>,
    function: Py<PyAny>,
    stop: Option<Py<PyAny>>,
    leaves_none: bool,
    relies_on_items: bool,
    /// Measures the calls of its nodes.
    timing: Option<Timing>,
}

impl Kernel {
    fn compile(
        py: Python<'_>,
        builder: &str,
        nodes: &[Py<PyAny>],
        shape: &Shape,
        timing: Option<Timing>,
    ) -> PyResult<Option<Self>> {
        let module = py.import("remotemedia._compiled.kernels")?;
        let nodes = PyList::new(py, nodes)?;
        let timers = PyList::new(py, timing.iter().flat_map(|timing| timing.functions(py)))?;
        let kernel = module.call_method1(builder, (nodes, shape.connections(py)?, &shape.ids, timers))?;
        if kernel.is_none() {
            return Ok(None);
        }
        let source = kernel.getattr("source")?;
        Ok(Some(Self {
            function: kernel.getattr("function")?.unbind(),
            stop: kernel.getattr("stop")?.extract()?,
            leaves_none: source.getattr("leaves_none")?.extract()?,
            relies_on_items: source.getattr("relies_on_items")?.extract()?,
            whole: kernel.unbind(),
            timing,
        }))
    }
}

/// The bulk way through Python nodes.
pub(crate) struct Chain {
    nodes: Vec<Py<PyAny>>,
    shape: Shape,
    place: Arc<Place>,
    kernel: Option<Kernel>,
    /// For single items.
    sent: Option<(Kernel, Py<PyIterator>)>,
    current: CurrentChunk,
    /// The list that collects the outputs of the whole run, if one does: the kernel then appends to it directly.
    collected: Option<Py<PyList>>,
    /// Whether the sink is to know from which item each output is.
    gives_positions: bool,
}

impl Chain {
    pub(crate) fn new(
        nodes: Vec<Py<PyAny>>,
        plan: &Plan,
        current: CurrentChunk,
        collected: Option<Py<PyList>>,
        place: Arc<Place>,
    ) -> Self {
        let shape = Shape::of(plan);
        Self { nodes, shape, place, kernel: None, sent: None, current, collected, gives_positions: false }
    }

    /// Nodes in a line, whose sink is to know from which item each output is.
    pub(crate) fn with_positions(
        nodes: Vec<Py<PyAny>>,
        ids: Vec<String>,
        current: CurrentChunk,
        place: Arc<Place>,
    ) -> Self {
        let shape = Shape::line(ids);
        Self { nodes, shape, place, kernel: None, sent: None, current, collected: None, gives_positions: true }
    }

    fn compile(&self, py: Python<'_>, is_measured: bool) -> PyResult<Option<Kernel>> {
        let timing = is_measured.then(|| Timing::new(py, self.nodes.len())).transpose()?;
        let builder = if self.gives_positions { "build_aligned" } else { "build" };
        let kernel = Kernel::compile(py, builder, &self.nodes, &self.shape, timing)?;
        // The outputs of a generator can be too many to hold them back until a chunk ends.
        Ok(kernel.filter(|kernel| kernel.stop.is_none() || self.collected.is_some()))
    }

    /// Whether single items can be taken through by [`Chain::send`], which is compiled now.
    pub(crate) fn compile_for_single_items(&mut self, py: Python<'_>) -> bool {
        let compiled = || {
            let kernel = Kernel::compile(py, "build_sent", &self.nodes, &self.shape, None)?;
            let Some(kernel) = kernel else { return Ok(None) };
            let mut generator = kernel.function.bind(py).call0()?.cast_into::<PyIterator>()?;
            generator.next().transpose()?;
            PyResult::Ok(Some((kernel, generator.unbind())))
        };
        self.sent = compiled().unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            None
        });
        self.sent.is_some()
    }

    /// Take one item through, which must not be lazy. Returns its output, if it has one. Ends with an error.
    pub(crate) fn send<'py>(
        &self,
        item: &Bound<'py, PyAny>,
    ) -> Result<Option<Bound<'py, PyAny>>, Box<BulkOutcome<Object>>> {
        let py = item.py();
        let _inside = Level::node(&self.place).enter();
        let (kernel, generator) = self.sent.as_ref().expect("the caller asks whether there is a kernel first");
        match generator.bind(py).send(item) {
            Ok(PySendResult::Next(output) | PySendResult::Return(output)) => Ok((!output.is_none()).then_some(output)),
            Err(error) => Err(Box::new(
                explain(py, kernel, error, None).unwrap_or_else(|error| BulkOutcome::new(1, BulkEnd::Fault(0, error))),
            )),
        }
    }

    fn run_chunk(
        &self,
        py: Python<'_>,
        kernel: &Kernel,
        chunk: &Bound<'_, PyList>,
        sink: &mut dyn Sink<Object>,
    ) -> BulkOutcome<Object> {
        let length = chunk.len();
        let outputs = self.collected.as_ref().map_or_else(|| PyList::empty(py), |list| list.bind(py).clone());
        let items = match chunk.try_iter() {
            Ok(items) => items,
            Err(error) => return BulkOutcome::new(0, BulkEnd::Fault(0, error)),
        };
        if self.gives_positions {
            self.current.read_from(&items);
        }
        let start = outputs.len();
        if let Some(timing) = &kernel.timing {
            timing.node(0).start();
        }
        let outcome = kernel.function.bind(py).call1((&items, &outputs));
        let is_aligned = self.gives_positions;
        // Items may have been taken back.
        let length = if is_aligned { chunk.len() } else { length };
        let dropped = if kernel.leaves_none && !is_aligned { drop_empty(&outputs, start) } else { Ok(()) };
        let accepted = dropped.and_then(|()| match self.collected {
            Some(_) => Ok(()),
            None if is_aligned => {
                outputs.iter().enumerate().filter(|(_, output)| !output.is_none()).try_for_each(|(position, output)| {
                    sink.begin_item(position);
                    sink.accept(Object(output.unbind()))
                })
            }
            None => outputs.iter().try_for_each(|output| sink.accept(Object(output.unbind()))),
        });
        if let Err(error) = accepted {
            return BulkOutcome::new(length, BulkEnd::SinkFault(error));
        }
        let mut outcome = match outcome {
            Ok(_) => BulkOutcome::new(length, BulkEnd::Done),
            Err(error) => explain(py, kernel, error, Some((&items, length)))
                .unwrap_or_else(|error| BulkOutcome::new(length, BulkEnd::Fault(0, error))),
        };
        if self.collected.is_some() {
            outcome.past_sink = (outputs.len() - start) as u64;
        }
        if let Some(timing) = &kernel.timing {
            measure_last(timing, &mut outcome);
            outcome.calls = timing.take();
        }
        outcome
    }
}

/// Measure the call that ended a chunk early.
fn measure_last(timing: &Timing, outcome: &mut BulkOutcome<Object>) {
    match outcome.end {
        // The kernel does not see the end of a call that fails.
        BulkEnd::Fault(node, _) => timing.node(node).note(false),
        BulkEnd::Unfinished { node, .. } => outcome.left.took = timing.node(node).take_back(),
        _ => {}
    }
}

/// Find out which node a chunk of this many items or a single item ended in, and what was in progress.
fn explain(
    py: Python<'_>,
    kernel: &Kernel,
    error: PyErr,
    chunk: Option<(&Bound<'_, PyIterator>, usize)>,
) -> PyResult<BulkOutcome<Object>> {
    let module = py.import("remotemedia._compiled.kernels")?;
    let taken = match chunk {
        Some((items, length)) => length.saturating_sub(items.call_method0("__length_hint__")?.extract()?),
        None => 1,
    };
    // As a value the error carries its traceback, from which `find` reads what was going on.
    let error = error.into_value(py);
    let found = py.import("remotemedia._compiled.failures")?.call_method1("find", (&error, &kernel.whole))?;
    // An interrupt may have come between the nodes.
    let node = usize::try_from(found.getattr("node")?.extract::<isize>()?).unwrap_or(0);
    let left = in_progress(&found.getattr("in_progress")?)?;
    let error = error.into_bound(py);
    let kind = error.get_type();
    let end = if kind.is(&module.getattr("StoppedError")?) {
        BulkEnd::Stopped
    } else if kind.is(&module.getattr("LazyResultError")?) {
        let output = Object(error.getattr("args")?.get_item(0)?.unbind());
        let rest = chunk.into_iter().flat_map(|(items, _)| items.clone());
        let rest = rest.map(|item| item.map(|item| Object(item.unbind()))).collect::<PyResult<Vec<_>>>()?;
        BulkEnd::Unfinished { node, output, rest }
    } else {
        BulkEnd::Fault(node, PyErr::from_value(error.into_any()))
    };
    Ok(BulkOutcome { left, ..BulkOutcome::new(taken, end) })
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
        // SAFETY: an item of a list is an object, which the list holds.
        let item = unsafe { Borrowed::from_ptr(chunk.py(), item) };
        let kind = item.get_type_ptr();
        // Most items are of one type, which need not be looked at again.
        kind != std::mem::replace(&mut last, kind) && may_be_lazy(item)
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
    fn is_possible(&mut self, is_measured: bool) -> bool {
        if self.kernel.is_none() {
            self.kernel = attach(|py| {
                self.compile(py, is_measured).unwrap_or_else(|error| {
                    // Without a kernel the nodes are called one by one: the same outputs, only slower.
                    error.write_unraisable(py, None);
                    None
                })
            });
        }
        self.kernel.is_some()
    }

    fn run(&mut self, chunk: Object, sink: &mut dyn Sink<Object>) -> BulkOutcome<Object> {
        let _inside = Level::node(&self.place).enter();
        attach(|py| {
            let kernel = self.kernel.as_ref().expect("the engine asks whether there is a kernel first");
            let chunk = match chunk.0.into_bound(py).cast_into::<PyList>() {
                Ok(chunk) => chunk,
                Err(error) => return BulkOutcome::new(0, BulkEnd::Fault(0, error.into())),
            };
            let is_refused = if kernel.relies_on_items { has_lazy_item(&chunk) } else { Ok(false) };
            match is_refused {
                Ok(true) => return BulkOutcome::new(0, BulkEnd::Refused(Object(chunk.into_any().unbind()))),
                Ok(false) => {}
                Err(error) => return BulkOutcome::new(0, BulkEnd::Fault(0, error)),
            }
            if let Err(error) =
                self.current.begin(&chunk, thread_id(), kernel.stop.as_ref().map(|stop| stop.clone_ref(py)))
            {
                return BulkOutcome::new(0, BulkEnd::Fault(0, error));
            }
            let mut outcome = self.run_chunk(py, kernel, &chunk, sink);
            if let Some(rest) = self.current.end().map(|rest| rest.into_bound(py)) {
                match &mut outcome.end {
                    BulkEnd::Done => outcome.end = BulkEnd::Paused(Object(rest.into_any().unbind())),
                    BulkEnd::Unfinished { rest: left, .. } => {
                        left.extend(rest.iter().map(|item| Object(item.unbind())));
                    }
                    // What comes after a failure is not taken.
                    _ => {}
                }
            }
            outcome
        })
    }
}
