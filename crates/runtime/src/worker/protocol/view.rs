//! Bytes that came from the other process, and the uses of the segments in which they lie.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::process::Pid;

use crate::worker::protocol::segment::{HEAD, Segment, Slot};

/// One use of a segment, given back when it is dropped.
///
/// A fork of this process has a copy of it, which counts for nothing: there it gives nothing back.
pub(crate) struct Lease {
    segment: Option<Arc<Segment>>,
    /// That of the other side, if the segment is passed on to it.
    slot: Option<Slot>,
    process: Pid,
}

impl Lease {
    /// Take over a use that is counted already; with the slot of the process that is to have it, if there is one.
    pub(crate) fn counted(segment: &Arc<Segment>, slot: Option<Slot>) -> Self {
        Self { segment: Some(Arc::clone(segment)), slot, process: rustix::process::getpid() }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        self.segment.as_ref().expect("only a released lease has no segment")
    }

    /// Leave this use to the other side.
    pub(crate) fn hand_over(mut self) {
        if let Some((segment, slot)) = self.segment.take().zip(self.slot) {
            segment.count_in(slot);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(segment) = &self.segment
            && self.process == rustix::process::getpid()
        {
            segment.release();
        }
    }
}

/// Bytes that came from the other process. Cloning shares them.
#[derive(Clone)]
pub struct View {
    store: Store,
    start: usize,
    len: usize,
}

#[derive(Clone)]
enum Store {
    Own(Arc<Vec<u8>>),
    Shared(Arc<Lease>),
}

impl View {
    /// A part of bytes that are shared.
    pub(crate) fn of(bytes: &Arc<Vec<u8>>, start: usize, len: usize) -> Self {
        Self { store: Store::Own(Arc::clone(bytes)), start, len }
    }

    /// A part of a segment, which must be inside.
    pub(crate) fn shared(lease: Lease, start: usize, len: usize) -> Self {
        Self { store: Store::Shared(Arc::new(lease)), start, len }
    }

    /// Where they lie in a segment, if they do.
    pub(crate) fn place(&self) -> Option<(&Arc<Segment>, u64, u64)> {
        let Store::Shared(lease) = &self.store else { return None };
        Some((lease.segment(), self.start as u64, self.len as u64))
    }

    /// A part of these.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= self.len, "the part lies inside");
        Self { store: self.store.clone(), start: self.start + start, len }
    }

    /// The same bytes to be written to, if their segment still has its file: what is written stays here, and only that is copied.
    ///
    /// # Errors
    /// With the view itself, if they cannot be had so.
    pub fn into_own(self) -> Result<OwnBytes, Self> {
        let Store::Shared(lease) = &self.store else { return Err(self) };
        let Some(file) = lease.segment().take_file() else { return Err(self) };
        // SAFETY: a segment in use is not written to, and the lease says that it is in use.
        #[allow(unsafe_code, reason = "a mapped file might be changed by others")]
        let map = unsafe { MmapOptions::new().map_copy(&file.0) };
        match map {
            Ok(map) => {
                Ok(OwnBytes { map: map.into(), start: HEAD + self.start, len: self.len, _lease: Arc::clone(lease) })
            }
            Err(_) => Err(self),
        }
    }
}

/// Bytes that came from the other process and are this one's to change: it sees what it writes, the other one does not.
pub struct OwnBytes {
    map: MmapRaw,
    start: usize,
    len: usize,
    _lease: Arc<Lease>,
}

impl OwnBytes {
    /// Where they begin. They stay there, and may be written to, for as long as `self` lives.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.start)
    }

    /// How many they are.
    #[allow(clippy::len_without_is_empty, reason = "a buffer that is sent is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl From<&[u8]> for View {
    fn from(bytes: &[u8]) -> Self {
        Self { store: Store::Own(Arc::new(bytes.to_vec())), start: 0, len: bytes.len() }
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.store {
            Store::Own(bytes) => &bytes[self.start..self.start + self.len],
            Store::Shared(lease) => {
                // SAFETY: `Memory::view` has checked the range; the mapping lives as long as the lease, and a segment in use is not written to.
                #[allow(unsafe_code, reason = "shared memory is accessed through a pointer")]
                unsafe {
                    std::slice::from_raw_parts(lease.segment().map.as_ptr().add(HEAD + self.start), self.len)
                }
            }
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes)", self.len)
    }
}
