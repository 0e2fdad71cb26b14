//! Large buffers of Python objects: copied once where they are, read in place where they arrive.

use std::ffi::{c_int, c_void};

use pyo3::buffer::{PyBuffer, PyUntypedBuffer};
use pyo3::prelude::*;
use pyo3::{ffi, intern};
use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::worker::{Message, OwnBytes, View};

/// Buffers of as many bytes travel beside the pickle, in shared memory. What is smaller costs less on the socket, copied some times,
/// than the bookkeeping of a segment.
pub(crate) const LARGE: usize = 16 * 1024;

/// Takes the large buffers out of what is being pickled, as its `buffer_callback`.
#[pyclass(module = "remotemedia._core", frozen)]
#[derive(Default)]
pub(crate) struct BufferTaker(Mutex<Vec<PyBuffer<u8>>>);

#[pymethods]
impl BufferTaker {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Whether a `pickle.PickleBuffer` belongs into the pickle; else it is taken.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // One that is not contiguous has no plain bytes to point at.
        let Ok(raw) = buffer.call_method0(intern!(buffer.py(), "raw")) else { return Ok(true) };
        let raw = PyBuffer::<u8>::get(&raw)?;
        if raw.len_bytes() < LARGE {
            return Ok(true);
        }
        self.0.lock().push(raw);
        Ok(false)
    }
}

impl BufferTaker {
    /// What was taken, in order.
    pub(crate) fn take(&self) -> Vec<PyBuffer<u8>> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Copy buffers into a message.
pub(crate) fn add(py: Python<'_>, buffers: &[PyBuffer<u8>], message: &mut Message<'_>) {
    for buffer in buffers {
        message.add_buffer(bytes_of(py, buffer));
    }
}

/// The bytes of a contiguous buffer, to be copied before this thread lets other Python code run.
pub(super) fn bytes_of<'a>(_py: Python<'_>, buffer: &'a PyUntypedBuffer) -> &'a [u8] {
    debug_assert!(buffer.is_c_contiguous() || buffer.is_fortran_contiguous(), "its bytes lie in one piece");
    if buffer.len_bytes() == 0 {
        return &[];
    }
    // SAFETY: the bytes lie in one piece, in a place where the owner keeps them for as long as the buffer is held, and Python code
    // that might write to them does not run before this thread detaches.
    #[allow(unsafe_code, reason = "PyO3 gives the bytes of a buffer as cells only, or copied")]
    unsafe {
        std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes())
    }
}

/// Bytes that came from the other process, for Python to read in place: arrays that are made of it keep it alive.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct SharedBuffer {
    pub(crate) view: View,
    /// Where in the view they begin.
    pub(crate) start: usize,
}

#[pymethods]
impl SharedBuffer {
    #[allow(unsafe_code, reason = "the buffer protocol hands out a pointer")]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().view[slf.get().start..];
        let length =
            isize::try_from(bytes.len()).map_err(|_| pyo3::exceptions::PyOverflowError::new_err("too long"))?;
        let start = bytes.as_ptr().cast::<c_void>().cast_mut();
        // SAFETY: Python gives a `view` to be filled. The bytes stay in place and unchanged for as long as this object lives, which the
        // filled view keeps alive, and it is marked as read-only.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) } < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}

/// Bytes that came from the other process, for Python to keep and to change.
#[pyclass(module = "remotemedia._core", frozen)]
pub(crate) struct OwnBuffer(pub(crate) OwnBytes);

#[pymethods]
impl OwnBuffer {
    #[allow(unsafe_code, reason = "the buffer protocol hands out a pointer")]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        let length =
            isize::try_from(bytes.len()).map_err(|_| pyo3::exceptions::PyOverflowError::new_err("too long"))?;
        let start = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: Python gives a `view` to be filled. The bytes stay in place for as long as this object lives, which the filled view keeps
        // alive; they are this process's own, and Rust does not look at them.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 0, flags) } < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}
