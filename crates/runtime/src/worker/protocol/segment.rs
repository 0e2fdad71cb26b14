//! A piece of anonymous shared memory, with a counter of its users.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::locks::Mutex;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::process::Resource;

/// The page of a segment that holds its counter.
pub(crate) const HEAD: usize = 4096;

/// Files of segments that the other sides do not know yet, in the whole process.
static FILES: AtomicUsize = AtomicUsize::new(0);

/// As large a part of the files that this process may have open is taken for those; the others are the user's.
const SHARE_OF_FILES: u64 = 4;

/// Stands for the users of a segment that may no longer be used.
const CLOSED: u32 = u32::MAX >> 1;

/// The file of a segment, on its way to the other side.
pub(crate) struct PassedFile(pub(crate) OwnedFd);

impl PassedFile {
    /// Whether no more of them should be made for now.
    pub(crate) fn are_too_many() -> bool {
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        limit.is_some_and(|limit| FILES.load(Ordering::Relaxed) as u64 >= limit / SHARE_OF_FILES)
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

/// A piece of shared memory.
pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) map: MmapRaw,
    /// What the other side maps it by. The lender keeps it until that has been sent; the other side does where it wants bytes of its own.
    file: Mutex<Option<PassedFile>>,
    is_known: AtomicBool,
}

impl Segment {
    pub(crate) fn create(id: u32, bytes: usize) -> io::Result<Self> {
        let file = anonymous_file()?;
        let size = HEAD + bytes;
        // Memory that is promised but not there would be a SIGBUS in the middle of a copy.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size as u64)?;
        let map = MmapOptions::new().len(size).populate().map_raw(&file)?;
        Ok(Self { id, map, file: Mutex::new(Some(file.into())), is_known: AtomicBool::new(false) })
    }

    /// Map a segment of the other side. Its file comes back if that fails.
    pub(crate) fn open(id: u32, file: OwnedFd, keeps_file: bool) -> Result<Self, (OwnedFd, io::Error)> {
        let map = match MmapOptions::new().populate().map_raw(&file) {
            Ok(map) if map.len() >= HEAD => map,
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "the shared segment has no header");
                return Err((file, error));
            }
            Err(error) => return Err((file, error)),
        };
        let file = keeps_file.then(|| file.into());
        Ok(Self { id, map, file: Mutex::new(file), is_known: AtomicBool::new(true) })
    }

    /// Give a use back of a segment that cannot be mapped, if there is at least room for its head: else it stays in use.
    pub(crate) fn give_back(file: &OwnedFd) {
        if let Ok(map) = MmapOptions::new().len(HEAD).map_raw(file) {
            users_in(&map).fetch_sub(1, Ordering::Release);
        }
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
    pub(crate) fn introduce(&self) -> Option<PassedFile> {
        let is_new = !self.is_known.swap(true, Ordering::AcqRel);
        if is_new { self.take_file() } else { None }
    }

    pub(crate) fn take_file(&self) -> Option<PassedFile> {
        self.file.lock().take()
    }
}

/// The counter in the head of a segment.
fn users_in(map: &MmapRaw) -> &AtomicU32 {
    #[allow(
        unsafe_code,
        clippy::cast_ptr_alignment,
        reason = "shared memory is accessed through a pointer to a whole page"
    )]
    // SAFETY: the head is mapped for as long as `map` lives, aligned to a page, and only ever used as this atomic.
    unsafe {
        &*map.as_ptr().cast::<AtomicU32>()
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
