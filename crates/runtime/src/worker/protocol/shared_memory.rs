//! Anonymous shared memory: written once by one side, read in place by the other.
//!
//! Each side lends segments of its own to the other. The first page of a segment counts its users, so that giving it back takes no
//! message; then either side uses it again: a result is mostly written where its item was. The kernel frees it when both processes are
//! gone, whatever ended them.
//!
//! *Invariant:* a segment without users is taken in one atomic step; only the side that took it writes to it, and before it has
//! another user.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::locks::Mutex;
use memmap2::{MmapOptions, MmapRaw};
use rustix::process::Pid;

use crate::worker::protocol::segment::{HEAD, PassedFile, Segment};

/// Segments come in few sizes, so that they fit again: powers of two from here on.
const SMALLEST: usize = 64 * 1024;

/// How many bytes of unused segments are kept for the next messages. New memory costs as much as several copies into it.
const KEPT: usize = 128 * 1024 * 1024;

/// One use of a segment, given back when it is dropped.
///
/// A fork of this process has a copy of it, which counts for nothing: there it gives nothing back.
pub(crate) struct Lease {
    segment: Option<Arc<Segment>>,
    process: Pid,
}

impl Lease {
    /// Take over a use that is counted already.
    fn counted(segment: &Arc<Segment>) -> Self {
        Self { segment: Some(Arc::clone(segment)), process: rustix::process::getpid() }
    }

    fn segment(&self) -> &Arc<Segment> {
        self.segment.as_ref().expect("only a released lease has no segment")
    }

    /// Leave this use to the other side.
    pub(crate) fn hand_over(mut self) {
        self.segment = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(segment) = &self.segment
            && self.process == rustix::process::getpid()
        {
            segment.users().fetch_sub(1, Ordering::Release);
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

/// Where bytes lie in a segment, as it is sent to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether the segment is the reader's own.
    pub(crate) is_readers: bool,
    pub(crate) segment: u32,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

#[derive(Default)]
struct State {
    lent: Vec<Arc<Segment>>,
    next_id: u32,
    borrowed: HashMap<u32, Arc<Segment>>,
    /// Segments of the other side for which there was no room here.
    unmapped: HashMap<u32, OwnedFd>,
    /// Segments that were closed here, of which the other side must be notified.
    closed: Vec<u32>,
    /// Why there was no shared memory, once that has happened.
    trouble: Option<io::Error>,
}

/// The segments that two processes share, as one of them sees them.
#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    keeps_files: AtomicBool,
}

impl Memory {
    /// Write bytes where the other side can read them, and return its lease. `None` if there is no shared memory.
    pub(crate) fn lend(&self, bytes: &[u8]) -> Option<(Place, Lease)> {
        let len = bytes.len() as u64;
        let (lease, is_readers) = {
            let mut state = self.state.lock();
            if let Some((segment, start, is_readers)) = state.find(bytes) {
                segment.users().fetch_add(1, Ordering::Relaxed);
                let lease = Lease::counted(segment);
                return Some((Place { is_readers, segment: segment.id, start: start as u64, len }, lease));
            }
            state.take(bytes.len())?
        };
        // SAFETY: the segment has room for `bytes`, and this lease is its only use.
        #[allow(unsafe_code, reason = "shared memory is accessed through a pointer")]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), lease.segment().map.as_mut_ptr().add(HEAD), bytes.len());
        }
        Some((Place { is_readers, segment: lease.segment().id, start: 0, len }, lease))
    }

    /// Whether the files of segments that the other side lends are kept from now on, for [`View::into_own`].
    pub(crate) fn keep_files(&self, keeps_files: bool) {
        self.keeps_files.store(keeps_files, Ordering::Relaxed);
    }

    /// The other side lends a segment.
    pub(crate) fn borrow(&self, id: u32, file: OwnedFd) -> io::Result<()> {
        match Segment::open(id, file, self.keeps_files.load(Ordering::Relaxed)) {
            Ok(segment) => drop(self.state.lock().borrowed.insert(id, Arc::new(segment))),
            Err((file, error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.state.lock().unmapped.insert(id, file);
            }
            Err((_, error)) => return Err(error),
        }
        Ok(())
    }

    /// The other side has closed a segment.
    pub(crate) fn give_back(&self, id: u32) {
        let mut state = self.state.lock();
        state.borrowed.remove(&id);
        state.unmapped.remove(&id);
    }

    /// Take over a lease from the other side. If there is no memory for the mapping, the lease is released.
    pub(crate) fn view(&self, place: Place) -> io::Result<View> {
        let mut state = self.state.lock();
        if !place.is_readers
            && let Some(file) = state.unmapped.remove(&place.segment)
        {
            // There may be room by now.
            match Segment::open(place.segment, file, self.keeps_files.load(Ordering::Relaxed)) {
                Ok(segment) => drop(state.borrowed.insert(place.segment, Arc::new(segment))),
                Err((file, error)) => {
                    Segment::give_back(&file);
                    state.unmapped.insert(place.segment, file);
                    return Err(error);
                }
            }
        }
        let segment = if place.is_readers {
            state.lent.iter().find(|segment| segment.id == place.segment)
        } else {
            state.borrowed.get(&place.segment)
        };
        let segment = segment.ok_or_else(|| invalid("the message refers to an unknown segment"))?;
        let lease = Lease::counted(segment);
        let (start, len) = usize::try_from(place.start)
            .ok()
            .zip(usize::try_from(place.len).ok())
            .filter(|(start, len)| start.checked_add(*len).is_some_and(|end| end <= segment.capacity()))
            .ok_or_else(|| invalid("the message refers to a position outside of its segment"))?;
        Ok(View { store: Store::Shared(Arc::new(lease)), start, len })
    }

    /// The segment with this id, which the other side may not know yet.
    pub(crate) fn lent(&self, id: u32) -> Option<Arc<Segment>> {
        self.state.lock().lent.iter().find(|segment| segment.id == id).map(Arc::clone)
    }

    /// The segments that were closed since the last question.
    pub(crate) fn take_closed(&self) -> Vec<u32> {
        std::mem::take(&mut self.state.lock().closed)
    }

    /// Why there was no shared memory, once that has happened.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.as_ref().map(ToString::to_string)
    }
}

impl State {
    fn find(&self, bytes: &[u8]) -> Option<(&Arc<Segment>, usize, bool)> {
        let borrowed = self.borrowed.values().map(|segment| (segment, true));
        let lent = self.lent.iter().filter(|segment| !segment.is_free()).map(|segment| (segment, false));
        borrowed
            .chain(lent)
            .find_map(|(segment, is_readers)| segment.place_of(bytes).map(|start| (segment, start, is_readers)))
    }

    /// The first use of a segment with room for as many bytes, and whether it is the other side's own.
    fn take(&mut self, bytes: usize) -> Option<(Lease, bool)> {
        // What is too much now may not be for another item, or later.
        if self.trouble.as_ref().is_some_and(|trouble| trouble.kind() != io::ErrorKind::OutOfMemory) {
            return None;
        }
        // Its lender may take one of the other side's in the same moment.
        while let Some((segment, is_readers)) = self.best_for(bytes) {
            if segment.take_if_free() {
                return Some((Lease::counted(segment), is_readers));
            }
        }
        self.close_surplus();
        if PassedFile::are_too_many() {
            // This one goes by the socket; the next may find room again.
            return None;
        }
        match Segment::create(self.next_id, bytes.max(SMALLEST).next_power_of_two()) {
            Ok(segment) => {
                self.next_id += 1;
                segment.users().store(1, Ordering::Relaxed);
                let segment = Arc::new(segment);
                let lease = Lease::counted(&segment);
                self.lent.push(segment);
                Some((lease, false))
            }
            Err(error) => {
                self.trouble = Some(error);
                None
            }
        }
    }

    /// The free segment that fits best. A segment of the other side that was read already is warm, and a result in it needs no other memory.
    fn best_for(&self, bytes: usize) -> Option<(&Arc<Segment>, bool)> {
        let borrowed = self.borrowed.values().map(|segment| (segment, true));
        let all = borrowed.chain(self.lent.iter().map(|segment| (segment, false)));
        let fitting = all.filter(|(segment, _)| segment.capacity() >= bytes && segment.is_free());
        // One that is far too large is left for what needs it.
        fitting
            .min_by_key(|(segment, _)| segment.capacity())
            .filter(|(segment, _)| segment.capacity() / 8 <= bytes.max(SMALLEST))
    }

    /// Release the largest segments without users until the rest is below the limit.
    fn close_surplus(&mut self) {
        let mut free: usize =
            self.lent.iter().filter(|segment| segment.is_free()).map(|segment| segment.capacity()).sum();
        while free > KEPT {
            let largest = (0..self.lent.len())
                .filter(|&index| self.lent[index].is_free())
                .max_by_key(|&index| self.lent[index].capacity());
            let Some(largest) = largest else { return };
            if !self.lent[largest].close_if_free() {
                free = free.saturating_sub(self.lent[largest].capacity());
                continue;
            }
            let segment = self.lent.swap_remove(largest);
            free -= segment.capacity();
            self.closed.push(segment.id);
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
