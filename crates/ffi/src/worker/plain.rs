//! Plain values in messages, and small dicts, lists and tuples of them, as JSON has them. The pickler gives the same result, and takes several
//! times as long.
//!
//! A value is a mark, and its bytes; a container is a mark, the number of its values, and those. Containers that are referred to from
//! elsewhere are left to the pickler: an item may refer to one of them twice, or to itself.

use std::cell::RefCell;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use remotemedia_runtime::worker::{Arrived, Message};

use super::buffers::LARGE;

// None of these is the byte that a pickle begins with, 0x80, or a mark of an array.
const NONE: u8 = b'N';
const TRUE: u8 = b'T';
const FALSE: u8 = b'F';
const INT: u8 = b'i';
const FLOAT: u8 = b'f';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';
const DICT: u8 = b'd';
const LIST: u8 = b'l';
const TUPLE: u8 = b't';
const LARGE_BYTES: u8 = b'B';
const LARGE_BYTE_ARRAY: u8 = b'A';

/// How deep containers may lie in each other.
const DEEPEST: usize = 20;

/// The references to a container that only another one has, while it is iterated over.
const REFERENCES_INSIDE: isize = 2;

/// Write an item, if it is of one of the plain types, exactly, or a small container of such values.
pub(super) fn write(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> bool {
    let start = message.len();
    if write_large(item, message) {
        return true;
    }
    let writer = Writer(RefCell::new(message));
    let is_written =
        writer.plain_value(item, usize::MAX) || (writer.container(item, 0) && writer.len() - start < LARGE);
    if !is_written {
        writer.0.into_inner().truncate(start);
    }
    is_written
}

/// The item of a message that `write` wrote, or `None` for another.
pub(super) fn read<'py>(py: Python<'py>, message: &Arrived) -> Option<PyResult<Bound<'py, PyAny>>> {
    let large = || message.buffers.first().ok_or_else(malformed);
    match *message.body.first()? {
        LARGE_BYTES => Some(large().map(|bytes| PyBytes::new(py, bytes).into_any())),
        LARGE_BYTE_ARRAY => Some(large().map(|bytes| PyByteArray::new(py, bytes).into_any())),
        NONE | TRUE | FALSE | INT | FLOAT | TEXT | BYTES | DICT | LIST | TUPLE => Some(Reader(&message.body).value(py)),
        _ => None,
    }
}

/// Write bytes that go beside the message.
fn write_large(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> bool {
    if let Ok(bytes) = item.cast_exact::<PyBytes>()
        && bytes.as_bytes().len() >= LARGE
    {
        message.write(&[LARGE_BYTES]);
        message.add_buffer(bytes.as_bytes());
        return true;
    }
    if let Ok(bytes) = item.cast_exact::<PyByteArray>()
        && bytes.len() >= LARGE
    {
        message.write(&[LARGE_BYTE_ARRAY]);
        // SAFETY: this thread stays attached and runs no Python code while the slice lives, so the array is not resized or written to.
        #[allow(unsafe_code, reason = "the bytes are copied once, into the message")]
        message.add_buffer(unsafe { bytes.as_bytes() });
        return true;
    }
    false
}

/// Writes values; `false` for one that it cannot write.
struct Writer<'a, 'm>(RefCell<&'a mut Message<'m>>);

impl Writer<'_, '_> {
    /// A value of one of the plain types, with no more bytes than `longest`.
    fn plain_value(&self, value: &Bound<'_, PyAny>, longest: usize) -> bool {
        if let Ok(int) = value.cast_exact::<PyInt>() {
            int.extract::<i64>().is_ok_and(|value| self.number(INT, value.to_le_bytes()))
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            // One with lone surrogates has no UTF-8.
            text.to_str().is_ok_and(|text| self.counted(TEXT, text.as_bytes(), longest))
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            self.number(FLOAT, float.value().to_le_bytes())
        } else if value.is_none() {
            self.bytes(&[NONE])
        } else if let Ok(value) = value.cast_exact::<PyBool>() {
            self.bytes(&[if value.is_true() { TRUE } else { FALSE }])
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.counted(BYTES, bytes.as_bytes(), longest)
        } else {
            false
        }
    }

    fn container(&self, item: &Bound<'_, PyAny>, depth: usize) -> bool {
        if let Ok(dict) = item.cast_exact::<PyDict>() {
            let write_entry = |key: Bound<'_, PyAny>, value: Bound<'_, PyAny>| {
                let is_written = self.plain_value(&key, LARGE) && self.value_inside(&value, depth);
                // It ends the iteration.
                if is_written { Ok(()) } else { Err(malformed()) }
            };
            self.head(DICT, dict.len()) && dict.locked_for_each(write_entry).is_ok()
        } else if let Ok(list) = item.cast_exact::<PyList>() {
            self.head(LIST, list.len()) && list.iter().all(|value| self.value_inside(&value, depth))
        } else if let Ok(tuple) = item.cast_exact::<PyTuple>() {
            self.head(TUPLE, tuple.len()) && tuple.iter().all(|value| self.value_inside(&value, depth))
        } else {
            false
        }
    }

    fn value_inside(&self, value: &Bound<'_, PyAny>, depth: usize) -> bool {
        if self.plain_value(value, LARGE) {
            return true;
        }
        if depth == DEEPEST || self.len() >= LARGE {
            return false;
        }
        // SAFETY: the object lives.
        #[allow(unsafe_code, reason = "PyO3 has no other way to the number of references")]
        let references = unsafe { ffi::Py_REFCNT(value.as_ptr()) };
        if references == REFERENCES_INSIDE {
            return self.container(value, depth + 1);
        }
        // Nothing can tell whether a tuple of plain values is one or two.
        let Ok(tuple) = value.cast_exact::<PyTuple>() else { return false };
        self.head(TUPLE, tuple.len()) && tuple.iter().all(|value| self.plain_value(&value, LARGE))
    }

    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    fn head(&self, mark: u8, len: usize) -> bool {
        let mut head = [mark; 5];
        u32::try_from(len).is_ok_and(|len| {
            head[1..].copy_from_slice(&len.to_le_bytes());
            self.bytes(&head)
        })
    }

    fn counted(&self, mark: u8, bytes: &[u8], longest: usize) -> bool {
        bytes.len() <= longest && self.head(mark, bytes.len()) && self.bytes(bytes)
    }

    fn number(&self, mark: u8, value: [u8; 8]) -> bool {
        let mut written = [mark; 9];
        written[1..].copy_from_slice(&value);
        self.bytes(&written)
    }

    /// Without memory for them, the message itself says so.
    fn bytes(&self, bytes: &[u8]) -> bool {
        self.0.borrow_mut().write(bytes);
        true
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.take(1)?[0] {
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            INT => i64::from_le_bytes(self.number()?).into_pyobject(py)?.into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.number()?)).into_any(),
            TEXT => PyString::from_bytes(py, self.counted()?)?.into_any(),
            BYTES => PyBytes::new(py, self.counted()?).into_any(),
            DICT => {
                let dict = PyDict::new(py);
                for _ in 0..self.len()? {
                    dict.set_item(self.value(py)?, self.value(py)?)?;
                }
                dict.into_any()
            }
            LIST => PyList::new(py, self.values(py)?)?.into_any(),
            TUPLE => PyTuple::new(py, self.values(py)?)?.into_any(),
            _ => return Err(malformed()),
        })
    }

    fn values<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        (0..self.len()?).map(|_| self.value(py)).collect()
    }

    fn len(&mut self) -> PyResult<usize> {
        let len = self.take(4)?.try_into().map_err(|_| malformed())?;
        Ok(u32::from_le_bytes(len) as usize)
    }

    fn counted(&mut self) -> PyResult<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    fn number(&mut self) -> PyResult<[u8; 8]> {
        self.take(8)?.try_into().map_err(|_| malformed())
    }

    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn malformed() -> PyErr {
    PyValueError::new_err("the item that arrived is not whole")
}
