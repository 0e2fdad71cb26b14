//! Dicts, lists and tuples of plain values in messages, as JSON has them. The pickler gives the same result, and takes several times as long.
//!
//! Containers that are referred to from elsewhere are left to the pickler: an item may refer to one of them twice, or to itself.

use std::cell::RefCell;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use remotemedia_runtime::worker::{Arrived, Message};

use super::buffers::LARGE;

// None of these is the first byte of a pickle, of a plain value or of an array.
const DICT: u8 = b'd';
const LIST: u8 = b'l';
const TUPLE: u8 = b't';

// Marks of the values inside.
const NONE: u8 = b'N';
const TRUE: u8 = b'T';
const FALSE: u8 = b'F';
const INT: u8 = b'i';
const FLOAT: u8 = b'f';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';

/// How deep containers may lie in each other.
const DEEPEST: usize = 20;

/// The references to a container that only another one has, while it is iterated over.
const REFERENCES_INSIDE: isize = 2;

/// Write an item, if it is a dict, list or tuple of plain values, exactly, and small.
pub(super) fn write(item: &Bound<'_, PyAny>, message: &mut Message<'_>) -> bool {
    let written = RefCell::new(Vec::new());
    let is_written = write_container(item, &written, 0) && written.borrow().len() < LARGE;
    if is_written {
        message.write(&written.into_inner());
    }
    is_written
}

/// The item of a message that `write` wrote, or `None` for another.
pub(super) fn read<'py>(py: Python<'py>, message: &Arrived) -> Option<PyResult<Bound<'py, PyAny>>> {
    let mark = *message.body.first()?;
    [DICT, LIST, TUPLE].contains(&mark).then(|| Reader { bytes: &message.body }.value(py))
}

fn write_container(item: &Bound<'_, PyAny>, written: &RefCell<Vec<u8>>, depth: usize) -> bool {
    if let Ok(dict) = item.cast_exact::<PyDict>() {
        write_head(DICT, dict.len(), written);
        let write_entry = |key: Bound<'_, PyAny>, value: Bound<'_, PyAny>| {
            // It ends the iteration.
            let unwritten = || PyValueError::new_err(());
            let is_written = write_scalar(&key, written) && write_value(&value, written, depth);
            if is_written { Ok(()) } else { Err(unwritten()) }
        };
        dict.locked_for_each(write_entry).is_ok()
    } else if let Ok(list) = item.cast_exact::<PyList>() {
        write_head(LIST, list.len(), written);
        list.iter().all(|value| write_value(&value, written, depth))
    } else if let Ok(tuple) = item.cast_exact::<PyTuple>() {
        write_head(TUPLE, tuple.len(), written);
        tuple.iter().all(|value| write_value(&value, written, depth))
    } else {
        false
    }
}

fn write_value(value: &Bound<'_, PyAny>, written: &RefCell<Vec<u8>>, depth: usize) -> bool {
    if write_scalar(value, written) {
        return true;
    }
    if depth == DEEPEST || written.borrow().len() >= LARGE {
        return false;
    }
    // SAFETY: the object lives.
    #[allow(unsafe_code, reason = "PyO3 has no other way to the number of references")]
    let references = unsafe { ffi::Py_REFCNT(value.as_ptr()) };
    if references == REFERENCES_INSIDE {
        return write_container(value, written, depth + 1);
    }
    // Nothing can tell whether a tuple of plain values is one or two.
    let Ok(tuple) = value.cast_exact::<PyTuple>() else { return false };
    write_head(TUPLE, tuple.len(), written);
    tuple.iter().all(|value| write_scalar(&value, written))
}

fn write_scalar(value: &Bound<'_, PyAny>, written: &RefCell<Vec<u8>>) -> bool {
    if let Ok(text) = value.cast_exact::<PyString>() {
        // One with lone surrogates has no UTF-8.
        text.to_str().is_ok_and(|text| write_bytes(TEXT, text.as_bytes(), written))
    } else if let Ok(int) = value.cast_exact::<PyInt>() {
        int.extract::<i64>().is_ok_and(|value| write_number(INT, value.to_le_bytes(), written))
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        write_number(FLOAT, float.value().to_le_bytes(), written)
    } else if value.is_none() {
        written.borrow_mut().push(NONE);
        true
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        written.borrow_mut().push(if value.is_true() { TRUE } else { FALSE });
        true
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        write_bytes(BYTES, bytes.as_bytes(), written)
    } else {
        false
    }
}

fn write_head(mark: u8, len: usize, written: &RefCell<Vec<u8>>) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let mut written = written.borrow_mut();
    written.push(mark);
    written.extend_from_slice(&len.to_le_bytes());
}

fn write_bytes(mark: u8, bytes: &[u8], written: &RefCell<Vec<u8>>) -> bool {
    if bytes.len() >= LARGE {
        return false;
    }
    write_head(mark, bytes.len(), written);
    written.borrow_mut().extend_from_slice(bytes);
    true
}

fn write_number(mark: u8, value: [u8; 8], written: &RefCell<Vec<u8>>) -> bool {
    let mut written = written.borrow_mut();
    written.push(mark);
    written.extend_from_slice(&value);
    true
}

/// What is left to be read.
struct Reader<'a> {
    bytes: &'a [u8],
}

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
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(taken)
    }
}

fn malformed() -> PyErr {
    PyValueError::new_err("the item that arrived is not whole")
}
