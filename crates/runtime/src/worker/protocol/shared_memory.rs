//! Anonymous shared memory: written once by one side, read in place by the other.
//!
//! Each side lends segments of its own to the other. The first page of a segment counts its users, so that giving it back takes no
//! message; then either side uses it again: a result is mostly written where its item was. The kernel frees it when both processes are
//! gone, whatever ended them.
//!
//! A parent passes a segment that it shares with one worker on to another one, which only reads it. What that worker uses is counted in a
//! slot of its own, too, and the parent gives it back if the worker dies.
//!
//! *Invariant:* a segment without users is taken in one atomic step; only the side that took it writes to it, and before it has
//! another user.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::locks::Mutex;

use crate::worker::protocol::segment::{HEAD, PassedFile, Segment, Slot};
use crate::worker::protocol::view::{Lease, View};

/// Segments come in few sizes, so that they fit again: powers of two from here on.
const SMALLEST: usize = 64 * 1024;

/// How many bytes of unused segments are kept for the next messages. New memory costs as much as several copies into it.
const KEPT: usize = 128 * 1024 * 1024;

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
    unmapped: HashMap<u32, Unmapped>,
    passed_on: Vec<PassedOn>,
    /// Segments that were closed here, of which the other side must be notified.
    closed: Vec<u32>,
    /// Why there was no shared memory, once that has happened.
    trouble: Option<io::Error>,
}

struct Unmapped {
    file: OwnedFd,
    own_slot: Option<Slot>,
}

/// A segment that this process shares with a third one, as the other side knows it.
struct PassedOn {
    id: u32,
    /// Gone when it is no longer shared with that one.
    segment: Weak<Segment>,
    slot: Slot,
    /// Until the other side has it.
    file: Option<PassedFile>,
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
                let lease = Lease::counted(segment, None);
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

    /// Let the other side read bytes that came from a third process, where they are. `None` if they must be copied.
    pub(crate) fn pass_on(&self, view: &View) -> Option<(Place, Lease)> {
        let (segment, start, len) = view.place()?;
        let mut state = self.state.lock();
        let is_it = |passed: &PassedOn| std::ptr::eq(passed.segment.as_ptr(), Arc::as_ptr(segment));
        let (id, slot) = match state.passed_on.iter().find(|passed| is_it(passed)) {
            Some(passed) => (passed.id, passed.slot),
            None => state.add_passed_on(segment)?,
        };
        // It is in use already, by this view.
        segment.users().fetch_add(1, Ordering::Relaxed);
        Some((Place { is_readers: false, segment: id, start, len }, Lease::counted(segment, Some(slot))))
    }

    /// The other side has ended: what it still used of segments that were passed on is given back.
    pub(crate) fn reclaim(&self) {
        for passed in std::mem::take(&mut self.state.lock().passed_on) {
            if let Some(segment) = passed.segment.upgrade() {
                segment.reclaim(passed.slot);
            }
        }
    }

    /// Whether the files of segments are kept from now on, for [`View::into_own`] and [`Memory::pass_on`].
    pub(crate) fn keep_files(&self, keeps_files: bool) {
        self.keeps_files.store(keeps_files, Ordering::Relaxed);
    }

    fn keeps_files_now(&self) -> bool {
        self.keeps_files.load(Ordering::Relaxed)
    }

    /// The other side lends a segment, or passes one on and counts in this slot what is used here.
    pub(crate) fn borrow(&self, id: u32, file: OwnedFd, own_slot: Option<Slot>) -> io::Result<()> {
        match Segment::open(id, file, own_slot, self.keeps_files_now()) {
            Ok(segment) => drop(self.state.lock().borrowed.insert(id, Arc::new(segment))),
            Err((file, error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.state.lock().unmapped.insert(id, Unmapped { file, own_slot });
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
            && let Some(Unmapped { file, own_slot }) = state.unmapped.remove(&place.segment)
        {
            // There may be room by now.
            match Segment::open(place.segment, file, own_slot, self.keeps_files_now()) {
                Ok(segment) => drop(state.borrowed.insert(place.segment, Arc::new(segment))),
                Err((file, error)) => {
                    Segment::give_back(&file, own_slot);
                    state.unmapped.insert(place.segment, Unmapped { file, own_slot });
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
        let lease = Lease::counted(segment, None);
        let (start, len) = usize::try_from(place.start)
            .ok()
            .zip(usize::try_from(place.len).ok())
            .filter(|(start, len)| start.checked_add(*len).is_some_and(|end| end <= segment.capacity()))
            .ok_or_else(|| invalid("the message refers to a position outside of its segment"))?;
        Ok(View::shared(lease, start, len))
    }

    /// What the other side needs to map the segment with this id, if it does not know it yet.
    pub(crate) fn introduce(&self, id: u32) -> Option<(PassedFile, Option<Slot>)> {
        let mut state = self.state.lock();
        if let Some(passed) = state.passed_on.iter_mut().find(|passed| passed.id == id) {
            return Some((passed.file.take()?, Some(passed.slot)));
        }
        let lent = state.lent.iter().find(|segment| segment.id == id)?;
        Some((lent.introduce(self.keeps_files_now())?, None))
    }

    /// The segments that were closed since the last question.
    pub(crate) fn take_closed(&self) -> Vec<u32> {
        let mut state = self.state.lock();
        let mut closed = std::mem::take(&mut state.closed);
        closed.extend(state.passed_on.extract_if(.., |passed| passed.segment.strong_count() == 0).map(|gone| gone.id));
        closed
    }

    /// Why there was no shared memory, once that has happened.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.as_ref().map(ToString::to_string)
    }
}

impl State {
    /// Make a segment known that is shared with a third process.
    fn add_passed_on(&mut self, segment: &Arc<Segment>) -> Option<(u32, Slot)> {
        let (file, slot) = (Some(segment.copy_file()?), segment.add_slot()?);
        let id = self.next_id;
        self.next_id += 1;
        self.passed_on.push(PassedOn { id, segment: Arc::downgrade(segment), slot, file });
        Some((id, slot))
    }

    /// The segments that the other side has lent. Those that it has passed on are only read here.
    fn lent_to_here(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.borrowed.values().filter(|segment| !segment.is_passed_on())
    }

    fn find(&self, bytes: &[u8]) -> Option<(&Arc<Segment>, usize, bool)> {
        let borrowed = self.lent_to_here().map(|segment| (segment, true));
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
                return Some((Lease::counted(segment, None), is_readers));
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
                let lease = Lease::counted(&segment, None);
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
        let borrowed = self.lent_to_here().map(|segment| (segment, true));
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

#[cfg(test)]
mod tests;
