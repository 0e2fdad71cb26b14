//! Plain values in messages: a mark, and the bytes of the value. Spares most streams of small items the pickler.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyString};
use remotemedia_runtime::worker::{Arrived, Message};

use super::buffers::LARGE;

// None of these is the byte that a pickle begins with, 0x80.
const NONE: u8 = b'N';
const TRUE: u8 = b'T';
const FALSE: u8 = b'F';
const INT: u8 = b'i';
const FLOAT: u8 = b'f';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';
const LARGE_BYTES: u8 = b'B';
const LARGE_BYTE_ARRAY: u8 = b'A';

/// Write an item, if it is of one of the plain types, exactly.
pub(super) fn write(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> bool {
    if let Ok(int) = item.cast_exact::<PyInt>() {
        let Ok(value) = int.extract::<i64>() else { return false };
        write_number(INT, value.to_le_bytes(), message);
    } else if let Ok(float) = item.cast_exact::<PyFloat>() {
        write_number(FLOAT, float.value().to_le_bytes(), message);
    } else if let Ok(text) = item.cast_exact::<PyString>() {
        // One with lone surrogates has no UTF-8.
        let Ok(text) = text.to_str() else { return false };
        message.write(&[TEXT]);
        message.write(text.as_bytes());
    } else if item.is_none() {
        message.write(&[NONE]);
    } else if let Ok(value) = item.cast_exact::<PyBool>() {
        message.write(&[if value.is_true() { TRUE } else { FALSE }]);
    } else if let Ok(bytes) = item.cast_exact::<PyBytes>() {
        write_bytes(bytes.as_bytes(), message);
    } else if let Ok(bytes) = item.cast_exact::<PyByteArray>() {
        return write_byte_array(bytes, message);
    } else {
        return false;
    }
    true
}

/// The item of a message that `write` wrote, or `None` for a pickle.
pub(super) fn read(py: Python<'_>, message: &Arrived) -> Option<Py<PyAny>> {
    let (&mark, value) = message.body.split_first()?;
    Some(match mark {
        INT => i64::from_le_bytes(value.try_into().ok()?).into_pyobject(py).ok()?.into_any().unbind(),
        FLOAT => PyFloat::new(py, f64::from_le_bytes(value.try_into().ok()?)).into_any().unbind(),
        TEXT => PyString::new(py, std::str::from_utf8(value).ok()?).into_any().unbind(),
        NONE => py.None(),
        TRUE | FALSE => PyBool::new(py, mark == TRUE).to_owned().into_any().unbind(),
        BYTES => PyBytes::new(py, value).into_any().unbind(),
        LARGE_BYTES => PyBytes::new(py, message.buffers.first()?).into_any().unbind(),
        LARGE_BYTE_ARRAY => PyByteArray::new(py, message.buffers.first()?).into_any().unbind(),
        _ => return None,
    })
}

fn write_number(mark: u8, value: [u8; 8], message: &mut Message<'_>) {
    let mut written = [mark; 9];
    written[1..].copy_from_slice(&value);
    message.write(&written);
}

fn write_bytes(bytes: &[u8], message: &mut Message<'_>) {
    if bytes.len() < LARGE {
        message.write(&[BYTES]);
        message.write(bytes);
    } else {
        message.write(&[LARGE_BYTES]);
        message.add_buffer(bytes);
    }
}

fn write_byte_array(bytes: &Bound<'_, PyByteArray>, message: &mut Message<'_>) -> bool {
    if bytes.len() < LARGE {
        return false;
    }
    message.write(&[LARGE_BYTE_ARRAY]);
    // SAFETY: this thread stays attached and runs no Python code while the slice lives, so the array is not resized or written to.
    #[allow(unsafe_code, reason = "the bytes are copied once, into the message")]
    message.add_buffer(unsafe { bytes.as_bytes() });
    true
}
