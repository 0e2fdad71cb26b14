//! The thread that reads, and the feed that it fills.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use remotemedia_runtime::Value;

use super::Source;
use crate::failure::Failure;
use crate::loader::{ItemFeed, Next};
use crate::terminal::reason;

/// Enough that a disk or a pipe is read while a node works, little enough that memory stays flat: as long as the default queue
/// before a stage.
const ITEMS_READ_AHEAD: usize = 64;

/// Items of several inputs, read one input after the other on a thread of its own.
///
/// Dropping the feed ends the thread at its next item. A thread that waits in a read of stdin cannot be woken: it is abandoned,
/// holds nothing but its buffer, and ends with the process.
pub(crate) struct InputFeed {
    items: Receiver<Taken>,
    /// What was given and is not done, in order.
    under_way: VecDeque<Extent>,
    progress: Arc<FeedProgress>,
    on_idle: Box<dyn FnMut() -> Result<(), Failure> + Send>,
    is_over: bool,
}

/// How many items are done, and how much of the input that is; readable from other threads.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    pub(crate) items: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) audio_micros: AtomicU64,
}

/// What was read, and how many bytes of all inputs were taken to that end.
struct Taken {
    next: Next,
    bytes: u64,
}

/// What one item is of the input.
struct Extent {
    /// Where it ends, counted through all inputs.
    end: u64,
    audio_micros: u64,
}

impl InputFeed {
    /// Start to read. `on_idle` is called each time before the feed waits for input.
    pub(crate) fn start(
        sources: Vec<Source>,
        on_idle: Box<dyn FnMut() -> Result<(), Failure> + Send>,
    ) -> Result<Self, Failure> {
        let (sender, items) = sync_channel(ITEMS_READ_AHEAD);
        thread::Builder::new()
            .name("remotemedia-input".to_owned())
            .spawn(move || read_all(&sources, &sender))
            .map_err(|error| Failure::failed(format!("cannot start a thread to read the input: {}", reason(&error))))?;
        Ok(Self { items, under_way: VecDeque::new(), progress: Arc::default(), on_idle, is_over: false })
    }

    pub(crate) fn progress(&self) -> Arc<FeedProgress> {
        Arc::clone(&self.progress)
    }

    fn wait(&mut self, timeout: Duration) -> Taken {
        if let Err(failure) = (self.on_idle)() {
            return Taken { next: Next::Broken(failure), bytes: 0 };
        }
        match self.items.recv_timeout(timeout) {
            Ok(taken) => taken,
            Err(RecvTimeoutError::Timeout) => Taken { next: Next::Waiting, bytes: 0 },
            Err(RecvTimeoutError::Disconnected) => reader_is_gone(),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a chunk is short and not negative")]
fn audio_micros(item: &Value) -> u64 {
    if let Value::Audio(chunk) = item { (chunk.duration_secs() * 1e6) as u64 } else { 0 }
}

impl ItemFeed for InputFeed {
    fn next(&mut self, timeout: Duration) -> Next {
        if self.is_over {
            return Next::End;
        }
        let Taken { next, bytes } = match self.items.try_recv() {
            Ok(taken) => taken,
            Err(TryRecvError::Empty) => self.wait(timeout),
            Err(TryRecvError::Disconnected) => reader_is_gone(),
        };
        match &next {
            Next::Item(item) => self.under_way.push_back(Extent { end: bytes, audio_micros: audio_micros(item) }),
            Next::Waiting => {}
            Next::End | Next::Broken(_) => self.is_over = true,
        }
        next
    }

    fn note_done(&mut self, count: u64) {
        let known = self.progress.items.load(Ordering::Relaxed);
        let newly = usize::try_from(count.saturating_sub(known)).unwrap_or(usize::MAX).min(self.under_way.len());
        if newly == 0 {
            return;
        }
        for done in self.under_way.drain(..newly) {
            self.progress.bytes.store(done.end, Ordering::Relaxed);
            self.progress.audio_micros.fetch_add(done.audio_micros, Ordering::Relaxed);
        }
        self.progress.items.fetch_add(newly as u64, Ordering::Relaxed);
    }
}

fn reader_is_gone() -> Taken {
    Taken { next: Next::Broken(Failure::failed("the thread that reads the input ended unexpectedly")), bytes: 0 }
}

fn read_all(sources: &[Source], sender: &SyncSender<Taken>) {
    let bytes_taken = Arc::default();
    // A feed that was dropped needs no reply.
    let send = |next| sender.send(Taken { next, bytes: AtomicU64::load(&bytes_taken, Ordering::Relaxed) }).is_ok();
    for source in sources {
        let items = match source.open(&bytes_taken) {
            Ok(items) => items,
            Err(failure) => {
                send(Next::Broken(failure));
                return;
            }
        };
        for item in items {
            let next = item.map_or_else(Next::Broken, Next::Item);
            let is_last = matches!(next, Next::Broken(_));
            if !send(next) || is_last {
                return;
            }
        }
    }
    send(Next::End);
}
