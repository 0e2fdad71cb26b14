//! Arrays of numbers in messages: type, shape and bytes. The pickler gives the same result, but takes longer than a copy of 64 kB.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyDict, PyTuple, PyType};
use remotemedia_runtime::worker::{Arrived, Message};

use super::buffers::{self, LARGE, SharedBuffer};

/// An array whose bytes follow in the message.
pub(super) const ARRAY: u8 = b'a';
/// An array whose bytes are beside the message.
pub(super) const LARGE_ARRAY: u8 = b'L';

/// The formats of native numbers. In all of them the message is that of the type in numpy, too.
const FORMATS: &[u8] = b"?bBhHiIlLqQefd";

/// What stands before the shape: mark, format, order.
const HEAD: usize = 3;
const DIMENSION: usize = size_of::<u64>();

static ARRAY_TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static ELEMENT_TYPES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Write an item, if it is a `numpy.ndarray`, no subclass, of native numbers in one piece.
pub(super) fn write(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> PyResult<bool> {
    if !is_array(item)? {
        return Ok(false);
    }
    // Dates have no buffer.
    let Ok(buffer) = PyUntypedBuffer::get(item) else { return Ok(false) };
    let [format] = *buffer.format().to_bytes() else { return Ok(false) };
    let order = match (buffer.is_c_contiguous(), buffer.is_fortran_contiguous()) {
        (true, _) => b'C',
        (_, true) => b'F',
        _ => return Ok(false),
    };
    if !FORMATS.contains(&format) {
        return Ok(false);
    }
    let is_large = buffer.len_bytes() >= LARGE;
    message.write(&[if is_large { LARGE_ARRAY } else { ARRAY }, format, order]);
    message.write(&[u8::try_from(buffer.dimensions()).unwrap_or(u8::MAX)]);
    for &length in buffer.shape() {
        message.write(&(length as u64).to_le_bytes());
    }
    let bytes = buffers::bytes_of(item.py(), &buffer);
    if is_large {
        message.add_buffer(bytes);
    } else {
        message.write(bytes);
    }
    Ok(true)
}

/// The array of a message that `write` wrote, or `None` for another one. A large one is read in place.
pub(super) fn read(py: Python<'_>, message: &Arrived) -> PyResult<Option<Py<PyAny>>> {
    let Some((&[mark, format, order], rest)) = message.body.split_first_chunk::<HEAD>() else { return Ok(None) };
    let (buffer, shape) = match (mark, rest.split_first()) {
        (LARGE_ARRAY, Some((_, shape))) => {
            let Some(view) = message.buffers.first() else { return Ok(None) };
            (Bound::new(py, SharedBuffer { view: view.clone(), start: 0 })?.into_any(), shape)
        }
        (ARRAY, Some((&dimensions, rest))) => {
            let Some((shape, bytes)) = rest.split_at_checked(usize::from(dimensions) * DIMENSION) else {
                return Ok(None);
            };
            // One that may be written to, as a copy that the pickler makes.
            (PyByteArray::new(py, bytes).into_any(), shape)
        }
        _ => return Ok(None),
    };
    let lengths =
        shape.chunks_exact(DIMENSION).map(|length| u64::from_le_bytes(length.try_into().expect("eight bytes")));
    let shape = PyTuple::new(py, lengths.collect::<Vec<_>>())?;
    let order = if order == b'F' { "F" } else { "C" };
    let arguments = (shape, element_type(py, format)?, buffer, 0, py.None(), order);
    Ok(Some(array_type(py)?.call1(arguments)?.unbind()))
}

fn is_array(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = item.get_type();
    if let Some(known) = ARRAY_TYPE.get(item.py()) {
        return Ok(kind.is(known));
    }
    // Where there is an array, numpy has been imported, which takes too long to find out whether this is one.
    let is_array = kind.name()? == "ndarray" && kind.module()? == "numpy";
    Ok(is_array && kind.is(array_type(item.py())?))
}

fn array_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    ARRAY_TYPE.import(py, "numpy", "ndarray")
}

fn element_type(py: Python<'_>, format: u8) -> PyResult<Bound<'_, PyAny>> {
    let types = ELEMENT_TYPES.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(known) = types.get_item(format)? {
        return Ok(known);
    }
    let made = py.import("numpy")?.getattr("dtype")?.call1((char::from(format),))?;
    types.set_item(format, &made)?;
    Ok(made)
}
