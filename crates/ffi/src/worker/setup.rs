//! What a worker is sent before its first item: its surroundings, how its nodes are run, and the nodes.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use remotemedia_runtime::worker::WriteSetup;

use super::buffers::{self, BufferTaker};
use crate::attach::attach;
use crate::convert::object::Object;

/// Id, type, and options as JSON text.
pub(super) type DescribedNode = (String, String, String);

/// What stands before the nodes.
pub(super) struct Head<'py> {
    /// What the worker takes over from its parent.
    pub(super) surroundings: Bound<'py, PyAny>,
    /// How its nodes are run.
    pub(super) described: Vec<DescribedNode>,
    /// Where the pickle of the nodes begins.
    pub(super) end: usize,
}

/// How the length of the head is written.
const LENGTH: usize = size_of::<u64>();

/// Pickle the nodes of a worker once, and return the function that writes the pickle at each start.
///
/// The large buffers in them are not copied before that.
pub(super) fn write_setup(
    py: Python<'_>,
    described: Vec<DescribedNode>,
    objects: &[Bound<'_, PyAny>],
) -> PyResult<WriteSetup<Object>> {
    let nodes: Vec<(&String, &Bound<'_, PyAny>)> = described.iter().map(|(id, ..)| id).zip(objects).collect();
    let serialization = py.import("remotemedia.core.node_serialization")?;
    let packed = serialization.call_method1("pack_nodes", (nodes, py.get_type::<BufferTaker>()))?;
    let (pickled, taker): (Bound<'_, PyBytes>, Bound<'_, BufferTaker>) = packed.extract()?;
    let pickled = pickled.unbind();
    let large: Vec<PyBuffer<u8>> = taker.get().take();
    Ok(Arc::new(move |message| {
        attach(|py| {
            let surroundings = py.import("remotemedia._workers.process")?.call_method0("surroundings")?;
            let head = py.import("pickle")?.call_method1("dumps", ((surroundings, described.clone()),))?;
            let head = head.cast_into::<PyBytes>()?;
            message.write(&(head.as_bytes().len() as u64).to_le_bytes());
            message.write(head.as_bytes());
            message.write(pickled.as_bytes(py));
            buffers::add(py, &large, message);
            Ok(())
        })
    }))
}

/// Read what [`write_setup`] wrote before the nodes.
pub(super) fn read_head<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Head<'py>> {
    let torn = || PyValueError::new_err("the setup message of the worker is incomplete");
    let (length, rest) = body.split_first_chunk::<LENGTH>().ok_or_else(torn)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| torn())?;
    let head = PyBytes::new(py, rest.get(..length).ok_or_else(torn)?);
    let (surroundings, described) = py.import("pickle")?.call_method1("loads", (head,))?.extract()?;
    Ok(Head { surroundings, described, end: LENGTH + length })
}
