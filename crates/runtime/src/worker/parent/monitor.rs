//! What a supervisor does for one process: it reads what it says, watches the clock, and notices its end.

mod clock;
pub(crate) mod held_output;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::execution::progress::Reading;
use crate::payload::Payload;
use crate::worker::parent::client::{Life, Reader, Remote};
use crate::worker::parent::connection::Connection;
use crate::worker::parent::monitor::held_output::HeldBack;
use crate::worker::parent::process::Process;
use crate::worker::parent::responses::ReplyEvent;
use crate::worker::protocol::connection::Received;
use crate::worker::protocol::frame::{Head, Kind};
use crate::worker::protocol::poll::timespec;
use crate::worker::{ExitCause, StdStream};

/// How many results are unpacked before other threads have their turn.
const AT_ONCE: usize = 64;

/// A worker that is asked to dump its stacks may take as long to say where it is.
const STACKS_TIMEOUT: Duration = Duration::from_millis(200);

/// A lack of shared memory is logged once, not for each worker.
static HAS_WARNED: AtomicBool = AtomicBool::new(false);

/// How one process ended.
pub(crate) struct End {
    pub(crate) cause: ExitCause,
    pub(crate) stderr: String,
    /// Those of its last lines that were not written.
    pub(crate) crash_output: Vec<String>,
    /// The number of the process, if there was one.
    pub(crate) process: Option<u32>,
    /// Where it was, or what it had not finished.
    pub(crate) reading: Option<Reading>,
    /// The highest number of an item that it had begun, if it works on several at the same time.
    pub(crate) begun: u64,
    /// Its nodes had been initialized.
    pub(crate) was_ready: bool,
    /// It has cleaned up and gone, as requested, or its nodes did not initialize, and their errors are known.
    pub(crate) is_in_order: bool,
    /// The state of a node could not be restored.
    pub(crate) has_failed_restore: bool,
}

/// What one `poll` has found.
#[allow(clippy::struct_excessive_bools, reason = "each is independent of the others")]
#[derive(Default)]
struct Polled {
    /// Another thread has woken the supervisor.
    has_call: bool,
    /// The worker sent something other than results.
    has_control: bool,
    /// It writes to one of its streams, or ends.
    has_process_event: bool,
    has_results: bool,
}

/// One process, as it is attended to.
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of the process")]
struct Monitor<'a, P: Payload> {
    remote: &'a Arc<Remote<P>>,
    process: Process,
    connection: Arc<Connection>,
    wake: Option<Arc<OwnedFd>>,
    started: Instant,
    is_ready: bool,
    /// Its nodes did not initialize.
    has_refused: bool,
    has_cleaned_up: bool,
    /// Not all could be written that was to be sent.
    has_unwritten: bool,
    /// The close request is sent.
    is_close_sent: bool,
    /// It was asked to cancel the call in progress.
    are_calls_cancelled: bool,
    /// Why it was killed, if it was.
    killed_for: Option<ExitCause>,
    /// Where it was then.
    killed_at: Option<Reading>,
    /// A node could not be restored.
    has_failed_restore: bool,
    /// When the worker last was at something, as far as was seen, or had nothing to do.
    quiet_since: Instant,
    /// What the worker before it wrote as it aborted.
    held_back: &'a mut HeldBack,
}

/// See to a process from its start to its end.
pub(crate) fn monitor<P: Payload>(remote: &Arc<Remote<P>>, process: Process, held_back: &mut HeldBack) -> End {
    let connection = remote.lock().connection.clone().expect("a process that was started has a connection");
    let mut monitor = Monitor {
        remote,
        process,
        connection,
        wake: remote.wake(),
        started: Instant::now(),
        is_ready: false,
        has_refused: false,
        has_cleaned_up: false,
        has_unwritten: true,
        is_close_sent: false,
        are_calls_cancelled: false,
        killed_for: None,
        killed_at: None,
        has_failed_restore: false,
        quiet_since: Instant::now(),
        held_back,
    };
    while monitor.look() {}
    monitor.end()
}

impl<P: Payload> Monitor<'_, P> {
    /// Wait for an event and handle it; `false` when the process has ended.
    fn look(&mut self) -> bool {
        let is_reading = self.claim_reading();
        let polled = self.wait(is_reading);
        if polled.has_call
            && let Some(wake) = &self.wake
        {
            rustix::io::read(wake, &mut [0; 8]).ok();
        }
        if polled.has_process_event {
            let (codec, node_ids) = (&self.remote.codec, &self.remote.spec.node_ids);
            self.process.read_lines(|stream, line| codec.write_line(node_ids, stream, line));
        }
        let is_heard = !polled.has_control || self.read_control();
        let is_there = !polled.has_results || self.read_results();
        if is_reading {
            self.leave_reading();
        }
        self.say_trouble();
        self.held_back.write_if_done(self.remote);
        // One that is through need not close its socket: what it has forked may have it, too.
        let is_through = self.has_cleaned_up || self.has_refused;
        let may_have_ended = polled.has_process_event || polled.has_control;
        if !is_heard || !is_there || is_through || (may_have_ended && self.process.has_ended()) {
            return false;
        }
        if self.is_ready {
            self.remote.send_unsent(&self.connection);
        }
        // A worker that is gone is noticed by its end.
        self.has_unwritten = self.connection.link.flush_some().is_ok_and(|is_all| !is_all);
        self.follow_orders();
        self.watch_the_clock();
        true
    }

    /// Read results from now on, if some are due and no other thread reads.
    fn claim_reading(&self) -> bool {
        let mut state = self.remote.lock();
        let is_worth_it = !state.pending.is_empty() || !self.is_ready || self.is_close_sent;
        if is_worth_it && state.reader == Reader::Nobody {
            state.reader = Reader::Supervisor;
            return true;
        }
        false
    }

    fn leave_reading(&self) {
        let mut state = self.remote.lock();
        if state.reader == Reader::Supervisor {
            state.reader = Reader::Nobody;
        }
    }

    fn wait(&self, is_reading: bool) -> Polled {
        // The previous reader may have read a frame that it left here.
        let is_here = is_reading && self.connection.link.has_read();
        let timeout = if is_here { Some(Duration::ZERO) } else { self.poll_timeout() };
        let mut of_data = PollFlags::empty();
        of_data.set(PollFlags::IN, is_reading);
        of_data.set(PollFlags::OUT, self.has_unwritten);
        let mut fds = vec![PollFd::new(&self.connection.control, PollFlags::IN)];
        fds.extend(self.process.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let of_process = 1..fds.len();
        let of_wake = of_process.end..of_process.end + usize::from(self.wake.is_some());
        fds.extend(self.wake.iter().map(|wake| PollFd::new(wake, PollFlags::IN)));
        if !of_data.is_empty() {
            fds.push(PollFd::new(&self.connection.link, of_data));
        }
        if rustix::event::poll(&mut fds, timeout.map(timespec).as_ref()).is_err() {
            // A wait that ends too early is begun again.
            return Polled { has_results: is_here, ..Polled::default() };
        }
        let has = |fds: &[PollFd<'_>]| fds.iter().any(|fd| !fd.revents().is_empty());
        Polled {
            has_control: has(&fds[..1]),
            has_process_event: has(&fds[of_process]),
            has_call: has(&fds[of_wake.clone()]),
            has_results: is_here || (is_reading && has(&fds[of_wake.end..])),
        }
    }

    /// Returns `false` at the end of the socket: a worker that cannot receive requests must be replaced.
    fn read_control(&mut self) -> bool {
        loop {
            let received = match self.connection.control.next() {
                Ok(Some(received)) => received,
                next => return next.is_ok(),
            };
            match received.head.kind {
                Kind::Note => self.remote.codec.noted(&self.remote.spec.node_ids, &received.message.body),
                Kind::Interrupt => {
                    let mut state = self.remote.lock();
                    state.interruptions.1 = state.interruptions.1.max(received.head.number);
                    self.remote.changed.notify_all();
                }
                _ => {}
            }
        }
    }

    /// `false` when no more come.
    fn read_results(&mut self) -> bool {
        let mut received = Vec::new();
        loop {
            let next = self.connection.link.next();
            let is_there = next.is_ok();
            let is_more = matches!(next, Ok(Some(_)));
            received.extend(next.ok().flatten());
            if !is_more || received.len() >= AT_ONCE {
                let some = std::mem::take(&mut received);
                // Unpacked together, so that the threads that take outputs do not alternate with this one.
                if !some.is_empty() {
                    self.quiet_since = Instant::now();
                    let mut events = Vec::new();
                    P::hold(|| some.into_iter().for_each(|received| self.see_to(received, &mut events)));
                    for event in events {
                        event.deliver(self.remote);
                    }
                }
            }
            if !is_more {
                return is_there;
            }
        }
    }

    fn see_to(&mut self, received: Received, events: &mut Vec<ReplyEvent<P>>) {
        match received.head.kind {
            Kind::Ready => {
                self.is_ready = true;
                if let Err(fault) = self.remote.redeliver(&self.connection, received.head.extra > 0) {
                    self.has_failed_restore = true;
                    self.remote.note_fault(0, fault);
                    self.process.kill();
                }
            }
            Kind::Fault if !self.is_ready => {
                self.has_refused = true;
                self.note_fault(&received);
            }
            Kind::Fault if received.head.number == 0 => {
                self.has_failed_restore = true;
                self.note_fault(&received);
            }
            Kind::CleanedUp if received.head.is_last => {
                self.has_cleaned_up = true;
                self.remote.counters.ended_resident_bytes.store(received.head.extra, Ordering::Relaxed);
            }
            Kind::CleanedUp => self.note_fault(&received),
            _ => self.remote.take_in(received, events),
        }
    }

    /// A node failed in `initialize` or `cleanup`.
    fn note_fault(&self, received: &Received) {
        let fault = self.remote.unpack_fault(received.head, &received.message);
        self.remote.note_fault(usize::from(received.head.node), fault);
    }

    fn say_trouble(&self) {
        if !HAS_WARNED.load(Ordering::Relaxed)
            && let Some(trouble) = self.connection.link.trouble()
            && !HAS_WARNED.swap(true, Ordering::Relaxed)
        {
            let text = format!(
                "shared memory is not available ({trouble}); large items are sent over the socket, which is slower"
            );
            self.remote.codec.write_line(&self.remote.spec.node_ids, StdStream::Err, &text);
        }
    }

    fn follow_orders(&mut self) {
        let (is_closing, must_cancel_calls, is_due) = {
            let state = self.remote.lock();
            let is_due = state.end_by.is_some_and(|end_by| Instant::now() >= end_by);
            (state.is_closing, state.must_cancel_calls, is_due)
        };
        if is_closing && (!self.is_close_sent || must_cancel_calls && !self.are_calls_cancelled) {
            self.is_close_sent = true;
            self.are_calls_cancelled = must_cancel_calls;
            let head = Head { extra: u64::from(must_cancel_calls), ..Head::new(Kind::Close, 0) };
            self.connection.control.post(head, self.connection.control.message());
            self.connection.control.flush().ok();
        }
        if is_due {
            self.kill(ExitCause::Abandoned);
        }
    }

    /// End the process by force; where it was is asked before.
    fn kill(&mut self, cause: ExitCause) {
        if self.killed_for.is_some() {
            return;
        }
        self.killed_at = self.connection.page.reading();
        let (codec, node_ids) = (&self.remote.codec, &self.remote.spec.node_ids);
        let is_unwanted = cause == ExitCause::Abandoned && (!self.is_ready || self.remote.lock().is_start_cancelled);
        if !is_unwanted {
            self.process.dump_stacks(STACKS_TIMEOUT, |stream, line| codec.write_line(node_ids, stream, line));
        }
        self.killed_for = Some(cause);
        self.process.kill();
    }

    /// The process has ended, or is about to.
    fn end(mut self) -> End {
        if self.has_cleaned_up || self.has_refused {
            // It may take its time to go.
            self.process.await_end(STACKS_TIMEOUT * 5);
        }
        let reading = self.killed_at.or_else(|| self.connection.page.reading());
        // Read together with that: what it does from now on is to end.
        let latest = self.connection.page.latest();
        let begun = self.connection.page.begun();
        // The socket may end before the process.
        if !self.process.await_end(STACKS_TIMEOUT) {
            self.process.kill();
        }
        let (codec, node_ids) = (&self.remote.codec, &self.remote.spec.node_ids);
        let cause = self.process.reap(|stream, line| codec.write_line(node_ids, stream, line));
        self.await_direct_reader();
        self.read_control();
        // What it had sent before its end counts.
        self.read_results();
        let former = {
            let mut state = self.remote.lock();
            state.reader = Reader::Nobody;
            state.connection.take()
        };
        // Nothing is sent to it any more.
        self.connection.link.reclaim_memory();
        self.remote.note_traffic(former.as_deref());
        let counters = &self.remote.counters;
        counters.forget_process();
        counters.ended_cpu_us.fetch_add(self.process.cpu_us, Ordering::Relaxed);
        End {
            cause: self.killed_for.take().unwrap_or(cause),
            stderr: self.process.stderr(),
            crash_output: self.process.crash_output().to_vec(),
            process: Some(self.process.id()),
            reading: reading.or_else(|| self.remote.is_unfinished(latest).then_some(latest)),
            begun,
            was_ready: self.is_ready,
            is_in_order: self.has_cleaned_up || self.has_refused,
            has_failed_restore: self.has_failed_restore,
        }
    }

    /// A thread that reads its own result sees the end of the socket, too, and leaves.
    fn await_direct_reader(&self) {
        let mut state = self.remote.lock();
        if state.life == Life::Up {
            state.life = Life::Starting;
        }
        while state.reader == Reader::Direct {
            self.remote.changed.wait(&mut state);
        }
        state.reader = Reader::Supervisor;
    }
}
