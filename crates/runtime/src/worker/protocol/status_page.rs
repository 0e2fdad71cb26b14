//! Where a worker is, for its parent to see.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::time::ClockId;

use crate::execution::progress::{Progress, Reading};
use crate::worker::protocol::segment::{HEAD, anonymous_file, file_without_name};

/// A page that both sides see: where the worker is.
pub(crate) struct Page {
    map: MmapRaw,
}

/// What a [`Page`] holds.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// The call in progress, with the number of its item.
    pub(crate) progress: Progress,
    /// When the current item was begun, in nanoseconds of the monotonic clock; 0 if it may take as long as it likes.
    since_ns: AtomicU64,
    /// The number of the message in work, from before it is unpacked until its results are packed; 0 for none.
    in_hand: AtomicU64,
    /// The number of the item that was taken in hand last.
    latest: AtomicU64,
    /// The highest number of an item that was begun, where several are in work.
    begun: AtomicU64,
    /// For how many nanoseconds the worker was busy before it last took something in hand, and when that was; 0 while it waits.
    busy_ns: AtomicU64,
    busy_since_ns: AtomicU64,
}

impl Page {
    /// A new page, with what the other side maps it by.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = anonymous_file().or_else(|error| file_without_name().map_err(|_| error))?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, HEAD as u64)?;
        Ok((Self::open(&file)?, file))
    }

    pub(crate) fn open(file: &OwnedFd) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(HEAD).map_raw(file)? })
    }
}

impl AsRef<Progress> for Page {
    fn as_ref(&self) -> &Progress {
        &self.progress
    }
}

impl Position {
    /// Work on a message begins; if `is_timed`, the time limit of one item applies.
    pub(crate) fn take_in_hand(&self, number: u64, is_timed: bool) {
        let since = if is_timed { u64::try_from(monotonic().as_nanos()).unwrap_or(0) } else { 0 };
        self.since_ns.store(since, Ordering::Relaxed);
        self.in_hand.store(number, Ordering::Release);
    }

    /// The message is about an item, and not about what the nodes are to do beside it.
    pub(crate) fn note_work(&self, number: u64) {
        self.latest.store(number, Ordering::Release);
    }

    /// An item begins beside others.
    pub(crate) fn note_begun(&self, number: u64) {
        self.note_work(number);
        self.begun.fetch_max(number, Ordering::AcqRel);
    }

    /// The highest number of an item that was begun, where several are in work.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The worker takes something in hand at this time, which the clock of [`monotonic`] shows.
    pub(crate) fn note_busy(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(0);
        self.note_idle(now);
        self.busy_since_ns.store(now, Ordering::Release);
    }

    /// The worker waits from now on.
    pub(crate) fn note_waiting(&self) {
        self.note_idle(u64::try_from(monotonic().as_nanos()).unwrap_or(0));
    }

    fn note_idle(&self, now_ns: u64) {
        let since = self.busy_since_ns.swap(0, Ordering::AcqRel);
        if since > 0 {
            self.busy_ns.fetch_add(now_ns.saturating_sub(since), Ordering::AcqRel);
        }
    }

    /// For how long the worker has been busy in all.
    pub(crate) fn busy(&self) -> Duration {
        let (before, since) = (self.busy_ns.load(Ordering::Acquire), self.busy_since_ns.load(Ordering::Acquire));
        let current = if since > 0 { monotonic().saturating_sub(Duration::from_nanos(since)) } else { Duration::ZERO };
        Duration::from_nanos(before) + current
    }

    /// Work on the message has ended.
    pub(crate) fn put_down(&self) {
        self.in_hand.store(0, Ordering::Release);
    }

    /// The number of the current message, and the node that works on it.
    pub(crate) fn at_work(&self) -> Option<(u64, usize)> {
        let number = self.in_hand.load(Ordering::Acquire);
        (number > 0).then(|| (number, self.progress.read().map_or(0, |reading| reading.node)))
    }

    /// Where the worker is: in which node and at which item. What is packed or unpacked counts for the first node.
    pub(crate) fn reading(&self) -> Option<Reading> {
        let in_hand = Some(self.in_hand.load(Ordering::Acquire)).filter(|&number| number > 0);
        match self.progress.read() {
            Some(reading) => Some(Reading { input: reading.input.or(in_hand), ..reading }),
            None => in_hand.map(|number| Reading { step: 0, node: 0, input: Some(number), thread: 0 }),
        }
    }

    /// Where the worker was last: its result may not have been sent, although no message is in hand any more.
    pub(crate) fn latest(&self) -> Reading {
        let number = self.latest.load(Ordering::Acquire);
        Reading { step: 0, node: self.progress.latest_node(), input: Some(number), thread: 0 }
    }

    /// For how long the current item has been, where that counts.
    pub(crate) fn item_age(&self) -> Option<Duration> {
        self.reading()?.input?;
        let since = self.since_ns.load(Ordering::Relaxed);
        (since > 0).then(|| monotonic().saturating_sub(Duration::from_nanos(since)))
    }
}

/// The time of a clock that both processes read.
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

impl Deref for Page {
    type Target = Position;

    fn deref(&self) -> &Position {
        #[allow(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "shared memory is accessed through a pointer to a whole page"
        )]
        // SAFETY: the page is mapped for as long as `self` lives and larger than a `Position`, which consists of atomics alone, for which
        // any bytes stand for a value.
        unsafe {
            &*self.map.as_ptr().cast::<Position>()
        }
    }
}
