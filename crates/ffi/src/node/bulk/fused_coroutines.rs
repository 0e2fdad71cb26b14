//! Neighbouring coroutine nodes, through which an item crosses to the event loop once: see `remotemedia._compiled.crossings`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::{BulkEnd, Fused, FusedOutcome, Fusible};

use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::crossing;
use crate::node::callers::Place;
use crate::node::python_node::PythonNode;
use crate::node::site::Site;

impl Fusible<Object> for PythonNode {
    fn part(&self) -> Object {
        attach(|py| Object(self.object.clone_ref(py)))
    }

    fn fuse(&self, parts: Vec<Object>, ids: Vec<String>) -> Box<dyn Fused<Object>> {
        let place = Place::new(&self.site.place.owner, None);
        let nodes = parts.into_iter().map(|part| part.0).collect();
        Box::new(Coroutines { nodes, ids, place, site: Arc::clone(&self.site), crossings: None })
    }
}

struct Coroutines {
    nodes: Vec<Py<PyAny>>,
    ids: Vec<String>,
    /// Any of the nodes.
    place: Arc<Place>,
    site: Arc<Site>,
    /// The compiled nodes.
    crossings: Option<Py<PyAny>>,
}

impl Coroutines {
    fn cross(&mut self, item: &Bound<'_, PyAny>) -> PyResult<Option<FusedOutcome<Object>>> {
        let py = item.py();
        if self.crossings.is_none() {
            let module = py.import("remotemedia._compiled.crossings")?;
            let nodes = PyList::new(py, &self.nodes)?;
            self.crossings = module.call_method1("build", (nodes, py.None(), &self.ids))?.extract()?;
        }
        let Some(crossings) = &self.crossings else { return Ok(None) };
        let call = crossings.bind(py).call_method1("item", (self.site.bridge.get(py)?, item))?;
        if let Err(error) = crossing::wait(&call, &self.place, || Ok(())) {
            return Ok(Some(FusedOutcome::Fault(call.call_method0("node")?.extract()?, error)));
        }
        let Some(failed) = crossing::failure(&call, 1, || Ok(Vec::new()))? else {
            let output = call.getattr("output")?;
            return Ok(Some(FusedOutcome::Output((!output.is_none()).then(|| Object(output.unbind())))));
        };
        Ok(match failed.end {
            BulkEnd::Unfinished { node, output, .. } => Some(FusedOutcome::Returned(node, output)),
            BulkEnd::Fault(node, fault) => Some(FusedOutcome::Fault(node, fault)),
            _ => None,
        })
    }
}

impl Fused<Object> for Coroutines {
    fn process(&mut self, item: Object) -> FusedOutcome<Object> {
        attach(|py| match self.cross(item.0.bind(py)) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => FusedOutcome::Refused(item),
            Err(error) => FusedOutcome::Fault(0, error),
        })
    }
}
