//! A checked manifest for the Python package, which makes the objects that it names.

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pythonize::pythonize;
use remotemedia_runtime::{Manifest, ManifestNode, PlanOrder};

use crate::attach::detach;
use crate::convert::failure;

/// A manifest whose nodes are asked for one by one, so that a large one is never there twice.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct ParsedManifest(Manifest);

/// How the nodes of a checked manifest depend on each other.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct ManifestOrder(pub(crate) Arc<PlanOrder>);

/// Id, type, arguments, options, and whether its inputs are joined.
type NodeFields<'py> = (&'py str, &'py str, Bound<'py, PyAny>, Bound<'py, PyAny>, bool);

impl ParsedManifest {
    pub(crate) fn parse(py: Python<'_>, text: &str) -> PyResult<Self> {
        let parsed = detach(py, || {
            let manifest = Manifest::parse(text)?.without_connections();
            give_memory_back(manifest.nodes().len());
            Ok::<_, remotemedia_runtime::Error>(manifest)
        });
        parsed.map(Self).map_err(|error| failure::refused(&error))
    }

    fn at(&self, index: usize) -> PyResult<&ManifestNode> {
        self.0.nodes().get(index).ok_or_else(|| PyIndexError::new_err("the manifest has no node with this index"))
    }
}

/// What the parser of a large manifest has used is needed by Python, which has another allocator.
fn give_memory_back(nodes: usize) {
    const LARGE: usize = 10_000;
    #[cfg(target_env = "gnu")]
    if nodes >= LARGE {
        // SAFETY: it may be called at any time.
        #[allow(unsafe_code, reason = "the standard library does not have it")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[pymethods]
impl ParsedManifest {
    fn __len__(&self) -> usize {
        self.0.nodes().len()
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn ignored(&self) -> Vec<String> {
        self.0.ignored().to_vec()
    }

    #[getter]
    fn order(&self) -> ManifestOrder {
        ManifestOrder(Arc::clone(self.0.order()))
    }

    fn node<'py>(&'py self, py: Python<'py>, index: usize) -> PyResult<NodeFields<'py>> {
        let ManifestNode { id, node_type, params, options, join, .. } = self.at(index)?;
        Ok((id, node_type, pythonize(py, params)?, pythonize(py, options)?, *join))
    }

    /// The positions of the nodes that a node comes after.
    fn upstreams(&self, index: usize) -> PyResult<&[usize]> {
        self.at(index)?;
        Ok(self.0.order().upstreams(index))
    }

    /// The line of `node_type` or `params` of a node.
    fn line_of(&self, index: usize, field: &str) -> PyResult<usize> {
        let node = self.at(index)?;
        Ok(if field == "params" { node.params_line } else { node.node_type_line })
    }
}
