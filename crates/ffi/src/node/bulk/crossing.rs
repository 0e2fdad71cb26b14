//! Calls of whole stages on an event loop: see `remotemedia._compiled.crossings`.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use remotemedia_runtime::{BulkEnd, BulkOutcome};

use crate::asyncio::context::CallerContext;
use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::shape::in_progress;
use crate::node::callers;
use crate::node::callers::{Frame, Level, Place};

/// Wait for a call of a stage at `place`. `take_outputs` is called whenever there may be outputs, the last time when it has ended.
pub(super) fn wait(
    call: &Bound<'_, PyAny>,
    place: &Arc<Place>,
    mut take_outputs: impl FnMut() -> PyResult<()>,
) -> PyResult<()> {
    let py = call.py();
    let _inside = Level::node(place).enter();
    let frame = frame_of(call, place);
    let frames = callers::with_own(callers::current(py)?, &frame.0);
    let (context, _awaited) = CallerContext::awaited_by(py, frames)?;
    let mut go = || -> PyResult<()> {
        call.call_method1(intern!(py, "begin"), (context.object(py),))?;
        loop {
            let has_ended = call.call_method0(intern!(py, "wait"))?.is_truthy()?;
            take_outputs()?;
            if has_ended {
                return Ok(());
            }
        }
    };
    let waited = go().or_else(|error| {
        // The nodes must not be at work any more when this returns.
        call.call_method0(intern!(py, "cancel"))?;
        Err(error)
    });
    call.call_method0(intern!(py, "end"))?;
    waited?;
    call.call_method0(intern!(py, "check")).map(drop)
}

/// How a call ended in which a node failed, or returned a value that only the engine understands; `None` if no node did.
/// `rest` returns the items after the current one.
pub(super) fn failure(
    call: &Bound<'_, PyAny>,
    taken: usize,
    rest: impl FnOnce() -> PyResult<Vec<Object>>,
) -> PyResult<Option<BulkOutcome<Object>>> {
    let py = call.py();
    let error = call.getattr(intern!(py, "error"))?;
    if error.is_none() {
        return Ok(None);
    }
    // It may refer to this call by its traceback.
    call.setattr(intern!(py, "error"), py.None())?;
    let found = call.getattr(intern!(py, "found"))?;
    let node = usize::try_from(found.getattr("node")?.extract::<isize>()?).unwrap_or(0);
    let lazy = py.import("remotemedia._compiled.kernels")?.getattr("LazyResultError")?;
    if error.get_type().is(&lazy) {
        let output = Object(error.getattr("args")?.get_item(0)?.unbind());
        let left = in_progress(&found.getattr("in_progress")?)?;
        let end = BulkEnd::Unfinished { node, output, rest: rest()? };
        return Ok(Some(BulkOutcome { left, ..BulkOutcome::new(taken, end) }));
    }
    let closed: Vec<(usize, Bound<'_, PyAny>)> = call.getattr("closed")?.extract()?;
    let closed = closed.into_iter().map(|(node, error)| (node, PyErr::from_value(error))).collect();
    let end = BulkEnd::Fault(node, PyErr::from_value(error));
    Ok(Some(BulkOutcome { closed, ..BulkOutcome::new(taken, end) }))
}

/// The call is over when this is dropped.
struct Ended(Arc<Frame>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn frame_of(call: &Bound<'_, PyAny>, place: &Arc<Place>) -> Ended {
    let call = call.clone().unbind();
    let node_id = move || attach(|py| call.call_method0(py, intern!(py, "node_id")).ok()?.extract(py).ok());
    Ended(Frame::begin_stage(place, Arc::new(node_id)))
}
