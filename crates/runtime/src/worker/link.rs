//! One end of the socket between a parent and its worker, and the memory beside it.
//!
//! Frames are collected and written together: whoever posts never waits, whoever flushes may. Many threads may post; each frame is whole.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use super::Arrived;
use super::letter::{INLINE, Letter};
use super::memory::{Memory, View};
use super::segment::PassedFile;
use super::wire::{self, Head, Kind, Read};

/// As much is asked of the socket at once.
const CHUNK: usize = 64 * 1024;

/// No frame needs more files at once.
const MAX_FILES: usize = 8;

/// Two sockets that are connected to each other and to nothing else, and that no other program inherits.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// A frame that has come.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) letter: Arrived,
    pub(crate) files: Vec<OwnedFd>,
}

/// Frames that wait to be written.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// As many of them are written.
    written: usize,
    /// Each goes with the byte at this place.
    files: Vec<(usize, PassedFile)>,
}

struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    files: VecDeque<OwnedFd>,
    /// Nothing more comes.
    has_ended: bool,
}

/// What carries frames and large buffers between two processes.
pub(crate) trait Transport: Send + Sync {
    /// A letter to be sent by this way.
    fn letter(&self) -> Letter<'_>;

    /// Let a frame wait for the next [`Transport::flush`]. Never waits.
    fn post(&self, head: Head, letter: Letter<'_>);

    /// Write what waits. May wait for the other side to read.
    fn flush(&self) -> io::Result<()>;

    /// Write what can be written without waiting; whether that was all.
    fn flush_some(&self) -> io::Result<bool>;

    /// The next frame that is there; `None` if there is none yet, an error when no more comes.
    fn next(&self) -> io::Result<Option<Received>>;

    /// The next frame among those that were read together with the last one.
    fn next_read(&self) -> io::Result<Option<Received>>;

    /// Whether there is such a frame.
    fn has_read(&self) -> bool;

    /// Readable when a frame has come.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Bytes sent and received so far.
    fn traffic(&self) -> (u64, u64);

    /// Why large buffers go the slow way, if they do.
    fn trouble(&self) -> Option<String>;
}

/// A stream socket, and shared memory for what is large.
pub(crate) struct Link {
    socket: OwnedFd,
    memory: Memory,
    outgoing: Mutex<Outgoing>,
    /// Held by whoever writes, so that frames stay in order.
    writing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let incoming = Incoming { bytes: vec![0; CHUNK], start: 0, end: 0, files: VecDeque::new(), has_ended: false };
        Self {
            socket,
            memory: Memory::default(),
            outgoing: Mutex::default(),
            writing: Mutex::default(),
            incoming: Mutex::new(incoming),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Whether buffers that come from now on can be had as [`OwnBytes`](super::memory::OwnBytes).
    pub(crate) fn keep_files(&self, keeps_files: bool) {
        self.memory.keep_files(keeps_files);
    }

    /// Let a frame wait that brings files with it.
    pub(crate) fn post_files(&self, head: Head, files: Vec<OwnedFd>) {
        let mut outgoing = lock(&self.outgoing);
        let at = outgoing.bytes.len();
        outgoing.files.extend(files.into_iter().map(|file| (at, file.into())));
        head.write(&[], &[], false, &mut outgoing.bytes);
    }

    /// Write frames; `false` if that would have meant to wait.
    fn write(&self, outgoing: &mut Outgoing, flags: SendFlags) -> io::Result<bool> {
        while outgoing.written < outgoing.bytes.len() {
            let at = outgoing.written;
            let here = outgoing.files.iter().filter(|(place, _)| *place == at).map(|(_, file)| file.as_fd());
            let here: Vec<BorrowedFd<'_>> = here.collect();
            let end = outgoing.files.iter().map(|(place, _)| *place).find(|&place| place > at);
            let bytes = &outgoing.bytes[at..end.unwrap_or(outgoing.bytes.len())];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !here.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&here));
            }
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(sent) => {
                    outgoing.written += sent;
                    self.sent.fetch_add(sent as u64, Ordering::Relaxed);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        outgoing.bytes.clear();
        outgoing.files.clear();
        outgoing.written = 0;
        Ok(true)
    }

    fn flush_with(&self, mut writing: MutexGuard<'_, Outgoing>, flags: SendFlags) -> io::Result<bool> {
        loop {
            if !self.write(&mut writing, flags)? {
                return Ok(false);
            }
            let mut outgoing = lock(&self.outgoing);
            if outgoing.bytes.is_empty() {
                return Ok(true);
            }
            std::mem::swap(&mut *outgoing, &mut *writing);
        }
    }

    /// Frames about the memory itself are seen to here.
    fn take_in(&self, incoming: &mut Incoming) -> io::Result<Option<Received>> {
        loop {
            let bytes = &incoming.bytes[incoming.start..incoming.end];
            let frame = match wire::read(bytes) {
                Read::Frame(frame) => frame,
                Read::Part(len) => {
                    incoming.make_room(len);
                    return Ok(None);
                }
                Read::Garbage => return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame")),
            };
            let (head, len) = (frame.head, frame.len);
            let files = match head.kind {
                Kind::Segment => 1,
                Kind::Hello => 2,
                _ => 0,
            };
            let letter = if files == 0 { Some(self.open(&frame)?) } else { None };
            let mut files: Vec<OwnedFd> = incoming.files.drain(..files.min(incoming.files.len())).collect();
            incoming.start += len;
            match (head.kind, letter) {
                (Kind::Segment, _) => {
                    let id = u32::try_from(head.number).unwrap_or(INLINE);
                    if let Some(file) = files.pop() {
                        self.memory.borrow(id, file)?;
                    }
                }
                (Kind::Closed, _) => self.memory.give_back(u32::try_from(head.number).unwrap_or(INLINE)),
                (_, letter) => {
                    let empty = || Arrived { body: View::from(&[][..]), buffers: Vec::new() };
                    return Ok(Some(Received { head, letter: letter.unwrap_or_else(empty), files }));
                }
            }
        }
    }

    /// The letter in a frame.
    fn open(&self, frame: &wire::Frame<'_>) -> io::Result<Arrived> {
        let inline = frame.places.iter().filter(|place| place.segment == INLINE);
        let tail_len: u64 = inline.map(|place| place.len).sum();
        let split = usize::try_from(tail_len).ok().and_then(|tail| frame.body.len().checked_sub(tail));
        let split = split.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a letter is too short"))?;
        let (body, tail) = frame.body.split_at(split);
        let mut buffers = Vec::with_capacity(frame.places.len());
        for place in &frame.places {
            buffers.push(if place.segment == INLINE {
                let start = usize::try_from(place.start).unwrap_or(usize::MAX);
                let end = usize::try_from(place.start + place.len).unwrap_or(usize::MAX);
                let bytes = tail.get(start..end);
                View::from(bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a letter is too short"))?)
            } else {
                self.memory.view(*place)?
            });
        }
        let shared_body = if frame.is_body_shared { buffers.pop() } else { None };
        Ok(Arrived { body: shared_body.unwrap_or_else(|| View::from(body)), buffers })
    }

    /// Read what the socket has; `false` if it has nothing.
    fn fill(&self, incoming: &mut Incoming) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let end = incoming.end;
        let mut room = [IoSliceMut::new(&mut incoming.bytes[end..])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match rustix::net::recvmsg(&self.socket, &mut room, &mut ancillary, flags) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            // The other side was ended with something of ours unread.
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                incoming.files.extend(files);
            }
        }
        incoming.end += received;
        self.received.fetch_add(received as u64, Ordering::Relaxed);
        incoming.has_ended |= received == 0;
        Ok(received > 0)
    }
}

impl Transport for Link {
    fn letter(&self) -> Letter<'_> {
        Letter::new(&self.memory)
    }

    fn post(&self, head: Head, letter: Letter<'_>) {
        if letter.is_small() {
            return head.write(&[], &letter.body, false, &mut lock(&self.outgoing).bytes);
        }
        let mut frame = letter.close(head);
        let Read::Frame(wire::Frame { places, .. }) = wire::read(&frame) else { return };
        let mut outgoing = lock(&self.outgoing);
        for id in self.memory.take_closed() {
            Head::new(Kind::Closed, u64::from(id)).write(&[], &[], false, &mut outgoing.bytes);
        }
        for place in places.iter().filter(|place| !place.is_readers && place.segment != INLINE) {
            let file = self.memory.lent(place.segment).and_then(|segment| segment.introduce());
            if let Some(file) = file {
                let at = outgoing.bytes.len();
                outgoing.files.push((at, file));
                Head::new(Kind::Segment, u64::from(place.segment)).write(&[], &[], false, &mut outgoing.bytes);
            }
        }
        outgoing.bytes.append(&mut frame);
    }

    fn flush(&self) -> io::Result<()> {
        self.flush_with(lock(&self.writing), SendFlags::NOSIGNAL).map(drop)
    }

    fn flush_some(&self) -> io::Result<bool> {
        let writing = match self.writing.try_lock() {
            Ok(writing) => writing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody else writes, and may be about to leave.
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        self.flush_with(writing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn next(&self) -> io::Result<Option<Received>> {
        let mut incoming = lock(&self.incoming);
        loop {
            if let Some(received) = self.take_in(&mut incoming)? {
                return Ok(Some(received));
            }
            if incoming.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !self.fill(&mut incoming)? && !incoming.has_ended {
                return Ok(None);
            }
        }
    }

    fn next_read(&self) -> io::Result<Option<Received>> {
        self.take_in(&mut lock(&self.incoming))
    }

    fn has_read(&self) -> bool {
        let incoming = lock(&self.incoming);
        matches!(wire::read(&incoming.bytes[incoming.start..incoming.end]), Read::Frame(_))
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn traffic(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn trouble(&self) -> Option<String> {
        self.memory.trouble()
    }
}

impl Incoming {
    /// Make room for the rest of a frame of this length in all.
    fn make_room(&mut self, len: usize) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = len.max(self.end + CHUNK / 2);
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        } else if self.bytes.len() > 16 * CHUNK && needed <= CHUNK {
            self.bytes.truncate(CHUNK);
            self.bytes.shrink_to_fit();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
