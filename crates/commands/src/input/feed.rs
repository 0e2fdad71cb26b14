//! The thread that reads, and the feed that it fills.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use remotemedia_runtime::Value;

use super::Source;
use crate::Failure;
use crate::loader::{ItemFeed, Next};
use crate::terminal::reason;

/// Enough that a disk or a pipe is read while a node works, little enough that memory stays flat: as long as the default queue
/// before a stage.
const ITEMS_READ_AHEAD: usize = 64;

/// Items of several inputs, read one input after the other on a thread of its own.
///
/// Dropping the feed ends the thread at its next item. A thread that waits in a read of stdin cannot be woken: it is left behind,
/// holds nothing but its buffer, and ends with the process.
pub(crate) struct InputFeed {
    items: Receiver<Next>,
    progress: Arc<FeedProgress>,
    on_idle: Box<dyn FnMut() -> Result<(), Failure> + Send>,
    is_over: bool,
}

/// How far a feed has come; readable from other threads.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    pub(crate) items: AtomicU64,
    pub(crate) bytes_read: Arc<AtomicU64>,
    pub(crate) audio_micros: AtomicU64,
}

impl InputFeed {
    /// Start to read. `on_idle` is called each time before the feed waits for input.
    pub(crate) fn start(
        sources: Vec<Source>,
        on_idle: Box<dyn FnMut() -> Result<(), Failure> + Send>,
    ) -> Result<Self, Failure> {
        let (sender, items) = sync_channel(ITEMS_READ_AHEAD);
        let progress = Arc::new(FeedProgress::default());
        let bytes_read = Arc::clone(&progress.bytes_read);
        thread::Builder::new()
            .name("remotemedia-input".to_owned())
            .spawn(move || read_all(&sources, &sender, &bytes_read))
            .map_err(|error| Failure::failed(format!("cannot start a thread to read the input: {}", reason(&error))))?;
        Ok(Self { items, progress, on_idle, is_over: false })
    }

    pub(crate) fn progress(&self) -> Arc<FeedProgress> {
        Arc::clone(&self.progress)
    }

    fn count(&self, item: &Value) {
        self.progress.items.fetch_add(1, Ordering::Relaxed);
        if let Value::Audio(chunk) = item {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a chunk is short and not negative"
            )]
            let micros = (chunk.duration_secs() * 1e6) as u64;
            self.progress.audio_micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    fn wait(&mut self, patience: Duration) -> Next {
        if let Err(failure) = (self.on_idle)() {
            return Next::Broken(failure);
        }
        match self.items.recv_timeout(patience) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => Next::Waiting,
            Err(RecvTimeoutError::Disconnected) => reader_is_gone(),
        }
    }
}

impl ItemFeed for InputFeed {
    fn next(&mut self, patience: Duration) -> Next {
        if self.is_over {
            return Next::End;
        }
        let next = match self.items.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Empty) => self.wait(patience),
            Err(TryRecvError::Disconnected) => reader_is_gone(),
        };
        match &next {
            Next::Item(item) => self.count(item),
            Next::Waiting => {}
            Next::End | Next::Broken(_) => self.is_over = true,
        }
        next
    }
}

fn reader_is_gone() -> Next {
    Next::Broken(Failure::failed("the thread that reads the input ended too early"))
}

fn read_all(sources: &[Source], sender: &SyncSender<Next>, bytes_read: &Arc<AtomicU64>) {
    for source in sources {
        let items = match source.open(bytes_read) {
            Ok(items) => items,
            Err(failure) => {
                // A feed that was dropped needs no answer, here and below.
                let _ = sender.send(Next::Broken(failure));
                return;
            }
        };
        for item in items {
            let next = item.map_or_else(Next::Broken, Next::Item);
            let is_last = matches!(next, Next::Broken(_));
            if sender.send(next).is_err() || is_last {
                return;
            }
        }
    }
    let _ = sender.send(Next::End);
}
