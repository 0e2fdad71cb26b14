//! Lines about requests and errors, written to stderr by a thread of its own.
//!
//! Whoever has something to log never waits: lines wait in a queue, and those that find it full are counted instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use remotemedia_runtime::locks::Mutex;

use crate::failure::Failure;
use crate::serve::observing::log_line::{Entry, Line, Note, NoteKind};
use crate::serve::observing::log_line::{FailureEntry, RequestEntry};
use crate::serve_options::LogFormat;
use crate::terminal;

/// Lines that may wait: those of a tenth of a second at the highest rates.
const CAPACITY: usize = 4096;

/// Lines are written together up to this size.
const BUFFER_BYTES: usize = 64 * 1024;

/// The pause between two writes. Without it, each line of a busy service would wake the thread.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the last lines may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of a service.
pub(crate) struct Log {
    format: Option<LogFormat>,
    queue: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
    ended: Mutex<Receiver<()>>,
}

enum Order {
    Write(Line),
    End,
}

impl Log {
    /// Start the thread that writes. Without a format, there are no lines about requests.
    pub(crate) fn start(format: Option<LogFormat>) -> Result<Self, Failure> {
        Self::start_with(format, terminal::write)
    }

    fn start_with(format: Option<LogFormat>, write: impl Fn(&[u8]) + Send + 'static) -> Result<Self, Failure> {
        let (queue, orders) = sync_channel(CAPACITY);
        let (end, ended) = sync_channel(0);
        let dropped = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("remotemedia-log".to_owned())
            .spawn(move || {
                write_all(format, &orders, &counted, &write);
                drop(end);
            })
            .map_err(|error| Failure::failed(format!("cannot start a thread: {}", terminal::reason(&error))))?;
        Ok(Self { format, queue, dropped, ended: Mutex::new(ended) })
    }

    /// Whether there are lines about requests.
    pub(crate) fn has_requests(&self) -> bool {
        self.format.is_some()
    }

    /// The service starts or stops, or something should be known about it.
    pub(crate) fn note(&self, kind: NoteKind, text: impl Into<String>) {
        self.write(Entry::Note(Note { kind, text: text.into() }));
    }

    /// A request has its response.
    pub(crate) fn request(&self, request: RequestEntry) {
        self.write(Entry::Request(Box::new(request)));
    }

    /// A node failed, or what it returned could not be sent.
    pub(crate) fn failure(&self, failure: FailureEntry) {
        self.write(Entry::Failure(Box::new(failure)));
    }

    /// Write what waits. Waits for that, a second at most.
    pub(crate) fn close(&self) {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let mut order = Order::End;
        while let Err(TrySendError::Full(refused)) = self.queue.try_send(order) {
            if Instant::now() >= deadline {
                return;
            }
            order = refused;
            std::thread::sleep(PAUSE);
        }
        self.ended.lock().recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    }

    fn write(&self, entry: Entry) {
        let line = Line { time: SystemTime::now(), entry };
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Order::Write(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What has not been written when the service ends early is written then.
impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_all(format: Option<LogFormat>, orders: &Receiver<Order>, dropped: &AtomicU64, write: &dyn Fn(&[u8])) {
    let mut buffer = Vec::new();
    let mut has_ended = false;
    while !has_ended {
        let Ok(mut order) = orders.recv() else { return };
        loop {
            match order {
                Order::Write(line) => line.write(format, &mut buffer),
                Order::End => {
                    has_ended = true;
                    break;
                }
            }
            match orders.try_recv() {
                Ok(next) if buffer.len() < BUFFER_BYTES => order = next,
                Ok(Order::Write(last)) => {
                    last.write(format, &mut buffer);
                    break;
                }
                Ok(Order::End) => {
                    has_ended = true;
                    break;
                }
                Err(_) => break,
            }
        }
        write(&buffer);
        buffer.clear();
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} log lines were dropped, because stderr did not take them in time");
            let entry = Entry::Note(Note { kind: NoteKind::Warning, text });
            Line { time: SystemTime::now(), entry }.write(format, &mut buffer);
            write(&buffer);
            buffer.clear();
        }
        if !has_ended {
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let (allow, allowed) = sync_channel::<()>(0);
        let (written, lines) = sync_channel(CAPACITY);
        let (notify, has_begun) = sync_channel(1);
        let log = Log::start_with(None, move |bytes| {
            notify.try_send(()).ok();
            allowed.recv().ok();
            written.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
        });
        let log = log.unwrap();
        log.note(NoteKind::Start, "line");
        has_begun.recv().unwrap();

        // While the first one is being written.
        for _ in 0..2 * CAPACITY {
            log.note(NoteKind::Start, "line");
        }
        drop(allow);
        log.close();

        let text: String = lines.try_iter().collect();
        let (kept, counts): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line == "line");
        let lost: usize = counts.iter().map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!((kept.len(), lost), (1 + CAPACITY, CAPACITY));
    }

    #[test]
    fn a_log_that_cannot_be_written_does_not_hold_the_end_up() {
        let (_keep, never) = sync_channel::<()>(0);
        let log = Log::start_with(None, move |_| {
            never.recv().ok();
        })
        .unwrap();
        log.note(NoteKind::Start, "line");

        let began = Instant::now();
        log.close();

        assert!(began.elapsed() >= CLOSE_TIMEOUT);
    }
}
