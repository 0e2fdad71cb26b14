//! The buffered bytes of one input, which knows how many of them were taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::descriptor::BlockingFile;

/// Large enough that a system call per buffer is cheap, small enough that a slow pipe is not waited for.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Reads a file or a pipe, and adds each byte that is taken to a counter. What only lies in the buffer is not counted.
pub(crate) struct Reader {
    inner: BufReader<BlockingFile>,
    bytes_taken: Arc<AtomicU64>,
}

impl Reader {
    pub(crate) fn new(file: File, bytes_taken: Arc<AtomicU64>) -> Self {
        Self { inner: BufReader::with_capacity(READ_BUFFER_BYTES, BlockingFile(file)), bytes_taken }
    }

    fn count(&self, bytes: usize) {
        self.bytes_taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count(count);
        Ok(count)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.count(count);
    }
}
