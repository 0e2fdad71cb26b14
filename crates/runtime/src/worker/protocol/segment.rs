//! A piece of anonymous shared memory, with a counter of its users.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::locks::Mutex;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::process::Resource;

/// The page of a segment that holds its counters: first that of all its users, then those of the slots.
pub(crate) const HEAD: usize = 4096;

/// How many processes in all, one after the other, a segment can be passed on to.
const SLOTS: u32 = 1023;
const _: () = assert!((SLOTS as usize + 1) * size_of::<AtomicU32>() == HEAD, "the counters fill the head");

/// Files of segments that the other sides do not know yet, in the whole process.
static FILES: AtomicUsize = AtomicUsize::new(0);

/// As large a part of the files that this process may have open is taken for those; the others are the user's.
const SHARE_OF_FILES: u64 = 4;

/// As large a part of them may be kept open, so that their segments can be passed on.
const SHARE_OF_KEPT_FILES: u64 = 8;

/// Stands for the users of a segment that may no longer be used.
const CLOSED: u32 = u32::MAX >> 1;

/// The file of a segment, on its way to the other side.
pub(crate) struct PassedFile(pub(crate) OwnedFd);

impl PassedFile {
    /// Whether no more of them should be made for now.
    pub(crate) fn are_too_many() -> bool {
        Self::are_more_than(SHARE_OF_FILES)
    }

    fn are_more_than(share: u64) -> bool {
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        limit.is_some_and(|limit| FILES.load(Ordering::Relaxed) as u64 >= limit / share)
    }
}

impl From<OwnedFd> for PassedFile {
    fn from(file: OwnedFd) -> Self {
        FILES.fetch_add(1, Ordering::Relaxed);
        Self(file)
    }
}

impl AsFd for PassedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for PassedFile {
    fn drop(&mut self) {
        FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counter of a process that a segment was passed on to, by its place in the head.
///
/// What such a process uses is counted twice, so that it can be given back if the process dies: its lender may live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// As it is sent; 0 stands for none.
    pub(crate) fn number(slot: Option<Self>) -> u64 {
        slot.map_or(0, |slot| u64::from(slot.0))
    }

    /// The slot of this number, if it is one.
    pub(crate) fn of(number: u64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| (1..=SLOTS).contains(number)).map(Self)
    }
}

/// A piece of shared memory.
pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) map: MmapRaw,
    /// What other processes map it by. The lender keeps it until that has been sent, either side also does where it passes segments on or
    /// wants bytes of its own.
    file: Mutex<Option<PassedFile>>,
    is_known: AtomicBool,
    /// The slot of this process, if the segment was passed on to it.
    own_slot: Option<Slot>,
    /// How many slots are taken.
    slots: AtomicU32,
}

impl Segment {
    pub(crate) fn create(id: u32, bytes: usize) -> io::Result<Self> {
        let file = anonymous_file()?;
        let size = HEAD + bytes;
        // Memory that is promised but not there would be a SIGBUS in the middle of a copy.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size as u64)?;
        let map = MmapOptions::new().len(size).populate().map_raw(&file)?;
        Ok(Self {
            id,
            map,
            file: Mutex::new(Some(file.into())),
            is_known: AtomicBool::new(false),
            own_slot: None,
            slots: AtomicU32::new(0),
        })
    }

    /// Map a segment of the other side, or one that it has passed on. Its file comes back if that fails.
    pub(crate) fn open(
        id: u32,
        file: OwnedFd,
        own_slot: Option<Slot>,
        keeps_file: bool,
    ) -> Result<Self, (OwnedFd, io::Error)> {
        let map = match MmapOptions::new().populate().map_raw(&file) {
            Ok(map) if map.len() >= HEAD => map,
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "the shared segment has no header");
                return Err((file, error));
            }
            Err(error) => return Err((file, error)),
        };
        let keeps_file = keeps_file && !PassedFile::are_more_than(SHARE_OF_KEPT_FILES);
        let file = Mutex::new(keeps_file.then(|| file.into()));
        Ok(Self { id, map, file, is_known: AtomicBool::new(true), own_slot, slots: AtomicU32::new(0) })
    }

    /// Give a use back of a segment that cannot be mapped, if there is at least room for its head: else it stays in use.
    pub(crate) fn give_back(file: &OwnedFd, own_slot: Option<Slot>) {
        if let Ok(map) = MmapOptions::new().len(HEAD).map_raw(file) {
            give_back_in(&map, own_slot);
        }
    }

    /// Give a use of this process back.
    pub(crate) fn release(&self) {
        give_back_in(&self.map, self.own_slot);
    }

    /// Whether the other side has passed it on, and may forget it at any time.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.own_slot.is_some()
    }

    /// A slot for one more process, if there is one.
    pub(crate) fn add_slot(&self) -> Option<Slot> {
        Slot::of(u64::from(self.slots.fetch_add(1, Ordering::Relaxed)) + 1)
    }

    /// One of the uses is that of the process with this slot.
    pub(crate) fn count_in(&self, slot: Slot) {
        counter_in(&self.map, slot.0).fetch_add(1, Ordering::Relaxed);
    }

    /// Give back what a process used that has ended.
    pub(crate) fn reclaim(&self, slot: Slot) {
        let uses = counter_in(&self.map, slot.0).swap(0, Ordering::Acquire);
        self.users().fetch_sub(uses, Ordering::Release);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.map.len() - HEAD
    }

    pub(crate) fn users(&self) -> &AtomicU32 {
        users_in(&self.map)
    }

    /// Become its only user, unless the other side was faster.
    pub(crate) fn take_if_free(&self) -> bool {
        self.users().compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Keep others from taking it for ever, unless the other side was faster.
    pub(crate) fn close_if_free(&self) -> bool {
        self.users().compare_exchange(0, CLOSED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn is_free(&self) -> bool {
        self.users().load(Ordering::Acquire) == 0
    }

    /// Where `bytes` lie in this segment, if they do.
    pub(crate) fn place_of(&self, bytes: &[u8]) -> Option<usize> {
        let start = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize + HEAD)?;
        (start + bytes.len() <= self.capacity()).then_some(start)
    }

    /// What the other side needs to map the segment; `None` once it has it.
    pub(crate) fn introduce(&self, keeps_file: bool) -> Option<PassedFile> {
        if self.is_known.swap(true, Ordering::AcqRel) {
            return None;
        }
        let copy = if keeps_file { self.copy_file() } else { None };
        copy.or_else(|| self.take_file())
    }

    /// Another file of the segment, if this one was kept and there may be more.
    pub(crate) fn copy_file(&self) -> Option<PassedFile> {
        if PassedFile::are_more_than(SHARE_OF_KEPT_FILES) {
            return None;
        }
        Some(self.file.lock().as_ref()?.0.try_clone().ok()?.into())
    }

    pub(crate) fn take_file(&self) -> Option<PassedFile> {
        self.file.lock().take()
    }
}

/// The counter of all users of a segment.
fn users_in(map: &MmapRaw) -> &AtomicU32 {
    counter_in(map, 0)
}

/// In this order: if the process dies between the two steps, the use is never given back, but none is given back twice.
fn give_back_in(map: &MmapRaw, slot: Option<Slot>) {
    if let Some(slot) = slot {
        counter_in(map, slot.0).fetch_sub(1, Ordering::Relaxed);
    }
    users_in(map).fetch_sub(1, Ordering::Release);
}

/// A counter in the head of a segment.
fn counter_in(map: &MmapRaw, index: u32) -> &AtomicU32 {
    debug_assert!(index <= SLOTS, "the head has so many");
    #[allow(
        unsafe_code,
        clippy::cast_ptr_alignment,
        reason = "shared memory is accessed through a pointer to a whole page"
    )]
    // SAFETY: the head is mapped for as long as `map` lives, aligned to a page, and only ever used as these atomics, of which it has as many.
    unsafe {
        &*map.as_ptr().cast::<AtomicU32>().add(index as usize)
    }
}

/// Where there is no memfd, a name that is gone before anybody else could see it.
pub(crate) fn anonymous_file() -> io::Result<OwnedFd> {
    match rustix::fs::memfd_create("remotemedia", rustix::fs::MemfdFlags::CLOEXEC) {
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => unnamed_file(),
        file => Ok(file?),
    }
}

fn unnamed_file() -> io::Result<OwnedFd> {
    use rustix::fs::Mode;
    use rustix::shm::OFlags;

    let name = format!("/remotemedia-{}-{:x}", std::process::id(), fastrand::u64(..));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let file = rustix::shm::open(&name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::shm::unlink(&name)?;
    Ok(file)
}

/// Where there is no shared memory at all: slower, where it is on a disk, but as good for a page that is hardly written.
pub(crate) fn file_without_name() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?)
}
