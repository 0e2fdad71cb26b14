//! One end of the socket between a parent and its worker, and the memory beside it.
//!
//! Frames are collected and written together: posting never waits, flushing may. Many threads may post; each frame is whole.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::locks::{Mutex, MutexGuard};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use crate::worker::Arrived;
use crate::worker::protocol::frame;
use crate::worker::protocol::frame::{Head, Kind, Read};
use crate::worker::protocol::message::{INLINE, Message};
use crate::worker::protocol::poll::SHORT_WAIT;
use crate::worker::protocol::read_buffer::{Come, Incoming};
use crate::worker::protocol::segment::{PassedFile, Slot};
use crate::worker::protocol::shared_memory::{Memory, Place};
use crate::worker::protocol::view::View;
use crate::worker::protocol::write_queue::Outgoing;

/// No frame needs more files at once.
const MAX_FILES: usize = 8;

/// Two sockets that are connected to each other and to nothing else, and that no other program inherits.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// A frame that has arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) message: Arrived,
    pub(crate) files: Vec<OwnedFd>,
}

/// A stream socket, and shared memory for what is large.
pub(crate) struct Link {
    socket: OwnedFd,
    memory: Memory,
    outgoing: Mutex<Outgoing>,
    /// Held while writing, so that frames stay in order.
    writing: Mutex<Outgoing>,
    /// A thread could not write because another one did.
    is_flush_due: AtomicBool,
    incoming: Mutex<Incoming>,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Readable when a frame has arrived.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            memory: Memory::default(),
            outgoing: Mutex::default(),
            writing: Mutex::default(),
            is_flush_due: AtomicBool::new(false),
            incoming: Mutex::new(Incoming::new()),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Whether buffers that come from now on can be passed on to other processes, or be had as
    /// [`OwnBytes`](crate::worker::protocol::view::OwnBytes).
    pub(crate) fn keep_files(&self, keeps_files: bool) {
        self.memory.keep_files(keeps_files);
    }

    /// The other side has ended: what it used of the memory of other processes is given back.
    pub(crate) fn reclaim_memory(&self) {
        self.memory.reclaim();
    }

    /// Let a frame wait that brings files with it.
    pub(crate) fn post_files(&self, head: Head, body: &[u8], files: Vec<OwnedFd>) {
        let files = files.into_iter().map(PassedFile::from).collect();
        head.write(body, self.outgoing.lock().end_with(files));
    }

    /// A message to be sent by this way.
    pub(crate) fn message(&self) -> Message<'_> {
        Message::new(&self.memory)
    }

    /// Let a frame wait for the next [`Link::flush`]. Never waits.
    pub(crate) fn post(&self, head: Head, mut message: Message<'_>) {
        message.share_body();
        let mut outgoing = self.outgoing.lock();
        if !message.places.is_empty() {
            self.introduce(&message.places, &mut outgoing);
        }
        message.hand_over(head, &mut outgoing);
    }

    /// Let an item wait, together with those of the numbers before it.
    pub(crate) fn post_item(&self, number: u64, item: Message<'_>) {
        self.post_part((Kind::Pack, Head::new(Kind::Item, number)), item);
    }

    /// Let the only output of an item wait, or that it has none, together with those of the items before it.
    pub(crate) fn post_output(&self, number: u64, output: Option<Message<'_>>) {
        match output {
            Some(output) => self.post_part((Kind::Outputs, Head::new(Kind::Output, number).last()), output),
            None => self.outgoing.lock().add_part(Kind::Outputs, number, None),
        }
    }

    /// A small message joins others in a frame of this kind; another one is a frame with this head.
    fn post_part(&self, (kind, head): (Kind, Head), message: Message<'_>) {
        match message.small_body() {
            Some(body) => self.outgoing.lock().add_part(kind, head.number, Some(body)),
            None => self.post(head, message),
        }
    }

    /// Write what waits. May wait for the other side to read.
    pub(crate) fn flush(&self) -> io::Result<()> {
        loop {
            self.flush_with(self.writing.lock(), SendFlags::NOSIGNAL)?;
            if !self.is_flush_due.swap(false, Ordering::SeqCst) {
                return Ok(());
            }
        }
    }

    /// Write what can be written without waiting; whether that was all. What another thread is writing counts as written.
    pub(crate) fn flush_some(&self) -> io::Result<bool> {
        loop {
            let writing = self.writing.try_lock().or_else(|| {
                // A thread that writes looks for this after it has given the lock back: either it sees this, or the lock is free here.
                self.is_flush_due.store(true, Ordering::SeqCst);
                self.writing.try_lock()
            });
            let Some(writing) = writing else { return Ok(true) };
            if !self.flush_with(writing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)? {
                return Ok(false);
            }
            if !self.is_flush_due.swap(false, Ordering::SeqCst) {
                return Ok(true);
            }
        }
    }

    /// The next frame that is there; `None` if there is none yet, an error when no more comes.
    pub(crate) fn next(&self) -> io::Result<Option<Received>> {
        let mut incoming = self.incoming.lock();
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

    /// The next frame, if it comes within [`SHORT_WAIT`] of a wait that has `begun`, and while it `goes_on`.
    pub(crate) fn next_soon(&self, begun: Instant, goes_on: impl Fn() -> bool) -> io::Result<Option<Received>> {
        while begun.elapsed() < SHORT_WAIT && goes_on() {
            // On a machine with one core the other process needs it.
            std::thread::yield_now();
            if let Some(received) = self.next()? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// The next frame among those that were read together with the last one.
    pub(crate) fn next_read(&self) -> io::Result<Option<Received>> {
        self.take_in(&mut self.incoming.lock())
    }

    /// Whether there is such a frame.
    pub(crate) fn has_read(&self) -> bool {
        self.incoming.lock().has_frame()
    }

    /// Bytes sent and received so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Why large buffers go the slow way, if they do.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.memory.trouble()
    }

    /// Write frames; `false` if that would have meant to wait.
    fn write(&self, outgoing: &mut Outgoing, flags: SendFlags) -> io::Result<bool> {
        while let Some((bytes, files)) = outgoing.next() {
            let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&files));
            }
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(sent) => {
                    outgoing.note_written(sent);
                    self.sent.fetch_add(sent as u64, Ordering::Relaxed);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Announce segments that are new to the other side, and those that were closed.
    fn introduce(&self, places: &[Place], outgoing: &mut Outgoing) {
        for id in self.memory.take_closed() {
            Head::new(Kind::Closed, u64::from(id)).write(&[], outgoing.end());
        }
        for place in places.iter().filter(|place| !place.is_readers && place.segment != INLINE) {
            if let Some((file, slot)) = self.memory.introduce(place.segment) {
                let end = outgoing.end_with(vec![file]);
                let head = Head::new(Kind::Segment, u64::from(place.segment));
                Head { extra: Slot::number(slot), ..head }.write(&[], end);
            }
        }
    }

    fn flush_with(&self, mut writing: MutexGuard<'_, Outgoing>, flags: SendFlags) -> io::Result<bool> {
        loop {
            if !self.write(&mut writing, flags)? {
                return Ok(false);
            }
            let mut outgoing = self.outgoing.lock();
            if outgoing.is_empty() {
                return Ok(true);
            }
            std::mem::swap(&mut *outgoing, &mut *writing);
        }
    }

    /// The next frame that is here, if it is one about items.
    fn take_in(&self, incoming: &mut Incoming) -> io::Result<Option<Received>> {
        loop {
            let received = match incoming.look()? {
                Come::Part => return Ok(None),
                Come::Frame => {
                    let whole = incoming.front();
                    let Read::Frame(frame) = frame::read(whole) else { return Ok(None) };
                    let message = self.open(&frame, |place| View::from(&whole[place]))?;
                    let (head, len) = (frame.head, frame.len);
                    incoming.pass(len);
                    self.see_to_memory(head, message, incoming)?
                }
                Come::Large(whole, start) => {
                    let Read::Frame(frame) = frame::read(&whole[start..]) else { return Ok(None) };
                    let own = |place: Range<usize>| View::of(&whole, start + place.start, place.len());
                    Some(Received { head: frame.head, message: self.open(&frame, own)?, files: Vec::new() })
                }
                Come::TooLarge(places) => {
                    // What of it lies in shared memory is not needed without the rest.
                    let shared = places.into_iter().filter(|place| place.segment != INLINE);
                    shared.for_each(|place| drop(self.memory.view(place)));
                    None
                }
                Come::Gone(head, len) => Some(Received { head, message: Arrived::missing(len), files: Vec::new() }),
            };
            if received.is_some() {
                return Ok(received);
            }
        }
    }

    /// Frames about the memory itself are handled here.
    fn see_to_memory(&self, head: Head, message: Arrived, incoming: &mut Incoming) -> io::Result<Option<Received>> {
        let id = || u32::try_from(head.number).unwrap_or(INLINE);
        match head.kind {
            Kind::Segment => {
                if let Some(file) = incoming.files.pop_front() {
                    self.memory.borrow(id(), file, Slot::of(head.extra))?;
                }
            }
            Kind::Closed => self.memory.give_back(id()),
            Kind::Hello => {
                let files = incoming.files.drain(..2.min(incoming.files.len())).collect();
                return Ok(Some(Received { head, message, files }));
            }
            _ => return Ok(Some(Received { head, message, files: Vec::new() })),
        }
        Ok(None)
    }

    /// The message in a frame, of which `own` makes what lies in the frame itself.
    fn open(&self, frame: &frame::Frame<'_>, own: impl Fn(Range<usize>) -> View) -> io::Result<Arrived> {
        let too_short = || io::Error::new(io::ErrorKind::InvalidData, "the message is too short");
        let inline = frame.places.iter().filter(|place| place.segment == INLINE);
        let tail_len = usize::try_from(inline.map(|place| place.len).sum::<u64>()).map_err(|_| too_short())?;
        let body_at = frame.len - frame.body.len();
        let tail_at = frame.len.checked_sub(tail_len).filter(|&at| at >= body_at).ok_or_else(too_short)?;
        let mut buffers = Vec::with_capacity(frame.places.len());
        let mut missing = None;
        for place in &frame.places {
            let len = usize::try_from(place.len).map_err(|_| too_short())?;
            if place.segment == INLINE {
                let start = usize::try_from(place.start).ok().and_then(|start| tail_at.checked_add(start));
                let start = start.filter(|&at| at <= frame.len && len <= frame.len - at).ok_or_else(too_short)?;
                buffers.push(own(start..start + len));
                continue;
            }
            match self.memory.view(*place) {
                Ok(view) => buffers.push(view),
                // The other places are taken over all the same, and given back.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => missing = Some(len),
                Err(error) => return Err(error),
            }
        }
        if let Some(len) = missing {
            return Ok(Arrived::missing(len));
        }
        let shared_body = if frame.is_body_shared { buffers.pop() } else { None };
        Ok(Arrived { body: shared_body.unwrap_or_else(|| own(body_at..tail_at)), buffers, missing: None })
    }

    /// Read what the socket has; `false` if it has nothing.
    fn fill(&self, incoming: &mut Incoming) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(incoming.room())];
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
        incoming.note_come(received);
        self.received.fetch_add(received as u64, Ordering::Relaxed);
        incoming.has_ended |= received == 0;
        Ok(received > 0)
    }
}
