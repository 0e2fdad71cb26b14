//! What a kernel is compiled from besides the nodes, and what is in progress in one that has ended early.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use remotemedia_runtime::{InProgress, Pending, Plan};

use crate::convert::object::Object;

/// How the nodes of a plan are named and connected.
pub(super) struct Shape {
    pub(super) ids: Vec<String>,
    /// The nodes before each, and whether it joins their outputs; `None` for a chain.
    connections: Option<(Vec<Vec<usize>>, Vec<bool>)>,
}

impl Shape {
    /// Nodes in a line.
    pub(super) fn line(ids: Vec<String>) -> Self {
        Self { ids, connections: None }
    }

    pub(super) fn of(plan: &Plan) -> Self {
        let nodes = plan.nodes();
        let connections = || {
            let after = nodes.iter().map(|node| node.upstreams.clone()).collect();
            (after, nodes.iter().map(|node| node.join).collect())
        };
        Self {
            ids: nodes.iter().map(|node| node.id.clone()).collect(),
            connections: (!plan.is_chain()).then(connections),
        }
    }

    pub(super) fn connections<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((after, joins)) = &self.connections else { return Ok(None) };
        let after = after.iter().map(|upstreams| PyTuple::new(py, upstreams)).collect::<PyResult<Vec<_>>>()?;
        let module = py.import("remotemedia._compiled.layout")?;
        module.call_method1("Connections", (PyTuple::new(py, after)?, PyTuple::new(py, joins)?)).map(Some)
    }
}

/// What `find` returned of an item.
pub(super) fn in_progress(found: &Bound<'_, PyAny>) -> PyResult<InProgress<Object>> {
    let work: Vec<(String, isize, usize, Py<PyAny>)> = found.getattr("work")?.extract()?;
    let work = work.into_iter().map(|(kind, from, node, object)| match kind.as_str() {
        "stream" => Pending::Outputs { node, returned: Object(object) },
        "item" => Pending::Item { from: usize::try_from(from).ok(), to: node, item: Object(object) },
        _ => Pending::Passed { node, item: Object(object) },
    });
    let arrived: Vec<(isize, usize, Vec<Py<PyAny>>)> = found.getattr("arrived")?.extract()?;
    let arrived = arrived
        .into_iter()
        .map(|(gate, node, items)| (usize::try_from(gate).ok(), node, items.into_iter().map(Object).collect()));
    Ok(InProgress {
        work: work.collect(),
        arrived: arrived.collect(),
        entered: found.getattr("entered")?.extract()?,
        open_gates: found.getattr("open_gates")?.extract()?,
        took: Duration::ZERO,
    })
}
