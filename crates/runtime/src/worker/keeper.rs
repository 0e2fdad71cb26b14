//! The thread that keeps a worker: starts it, reads what it says, notices its end, and puts another in its place.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::time::ClockId;

use super::answers::News;
use super::link::{Link, Received, Transport, pair};
use super::memory::Page;
use super::process::Process;
use super::remote::{Life, Line, Reader, Remote, send, timespec};
use super::wire::{Head, Kind};
use super::{Loss, LossCause, Said};
use crate::Payload;
use crate::progress::Reading;

/// The pause before the second of several restarts; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// As long may a worker take, besides the time of an item, to come to it: the machine may be busy.
const TAKING_TIME: Duration = Duration::from_millis(300);

/// As many answers are unpacked before others have their turn.
const AT_ONCE: usize = 64;

/// A worker that is told to end by force may take as long to say where it is.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// That shared memory cannot be had is said once, whichever worker it is for.
static HAS_SAID_TROUBLE: AtomicBool = AtomicBool::new(false);

/// How one process ended.
pub(crate) struct End {
    pub(crate) cause: LossCause,
    pub(crate) stderr: String,
    /// Where it was.
    pub(crate) reading: Option<Reading>,
    /// Its nodes had been initialized.
    pub(crate) was_ready: bool,
    /// It has cleaned up and gone, as it was told, or its nodes did not initialize, which they have said.
    is_in_order: bool,
    /// A node could not be brought where the one before was.
    has_lost_its_way: bool,
}

/// The life of the keeper's thread.
pub(crate) fn keep<P: Payload>(remote: &Arc<Remote<P>>) {
    let life = catch_unwind(AssertUnwindSafe(|| keep_until_settled(remote)));
    if life.is_err() {
        // It has said so itself; nobody may wait for its worker any more.
        let loss = remote.first_node_lost(LossCause::NotStarted("the thread that keeps it has panicked".to_owned()));
        settle(remote, Life::Failed, Some(&loss));
    }
}

fn keep_until_settled<P: Payload>(remote: &Arc<Remote<P>>) {
    let mut restarts: Vec<Instant> = Vec::new();
    let mut has_been_ready = false;
    loop {
        let end = match start(remote) {
            Ok(process) => attend(remote, process),
            Err(cause) => End {
                cause,
                stderr: String::new(),
                reading: None,
                was_ready: false,
                is_in_order: false,
                has_lost_its_way: false,
            },
        };
        has_been_ready |= end.was_ready;
        if end.is_in_order && (end.was_ready || !has_been_ready) {
            return settle(remote, Life::Ended, None);
        }
        let now = Instant::now();
        restarts.retain(|then| now.duration_since(*then) < remote.spec.restart_window);
        let counts = !(end.was_ready && matches!(end.cause, LossCause::TimedOut(_)));
        let is_spent = counts && restarts.len() >= remote.spec.max_restarts;
        let is_final = remote.is_ending() || !has_been_ready || is_spent || end.has_lost_its_way;
        let loss = remote.loss(&end, restarts.len(), is_final);
        if end.has_lost_its_way {
            remote.tell_why_lost();
        }
        if is_final {
            return settle(remote, Life::Failed, Some(&loss));
        }
        if counts {
            restarts.push(now);
        }
        remote.figures.restarts.fetch_add(1, Ordering::Relaxed);
        if end.was_ready {
            remote.set_aside_poison(&loss, &end);
        }
        pause(remote, restarts.len());
    }
}

/// A worker that dies again and again is not started at once.
fn pause<P: Payload>(remote: &Remote<P>, restarts: usize) {
    let Some(doublings) = restarts.checked_sub(2) else { return };
    let exponent = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let until = Instant::now() + FIRST_PAUSE.saturating_mul(1 << exponent).min(LONGEST_PAUSE);
    let mut state = remote.lock();
    while !state.is_closing && state.end_by.is_none() && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        state = remote.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// The worker is gone for good: whoever waits hears of it.
pub(super) fn settle<P: Payload>(remote: &Remote<P>, life: Life, loss: Option<&Loss>) {
    remote.forget_keeper();
    remote.figures.process.store(0, Ordering::Relaxed);
    let (unanswered, former) = {
        let mut state = remote.lock();
        state.life = life;
        state.loss = loss.cloned();
        (std::mem::take(&mut state.pending), state.line.take())
    };
    remote.note_traffic(former.as_deref());
    remote.changed.notify_all();
    for (_, pending) in unanswered {
        let loss = loss.cloned().unwrap_or_else(|| remote.has_closed());
        pending.reply.fail(remote, remote.border.lost(&loss));
    }
    remote.changed.notify_all();
}

/// Start a process and tell it what its nodes are.
fn start<P: Payload>(remote: &Arc<Remote<P>>) -> Result<Process, LossCause> {
    let failed = |error: std::io::Error| LossCause::NotStarted(error.to_string());
    let (data, data_there) = pair().map_err(failed)?;
    let (control, control_there) = pair().map_err(failed)?;
    let (page, page_there) = Page::create().map_err(failed)?;
    page.progress.leave();
    let process = Process::start(&remote.spec.program, &remote.spec.arguments, data_there).map_err(failed)?;
    remote.figures.process.store(u64::from(process.id()), Ordering::Relaxed);
    let line = Arc::new(Line { link: Link::new(data), control: Link::new(control), page });
    let flags = u64::from(remote.spec.with_metrics) | u64::from(remote.spec.timeout.is_some()) << 1;
    let every = u64::try_from(remote.spec.snapshot_every).unwrap_or(u64::MAX >> 2);
    line.link.post_files(Head { extra: flags, ..Head::new(Kind::Hello, every) }, vec![control_there, page_there]);
    let mut letter = line.link.letter();
    let written = (remote.spec.setup)(&mut letter);
    line.link.post(Head::new(Kind::Setup, 0), letter);
    let mut state = remote.lock();
    state.life = Life::Starting;
    if let Err(fault) = written {
        state.faults[0] = Some(fault);
        drop(state);
        let mut process = process;
        process.kill();
        process.bury(|_, _| {});
        return Err(LossCause::NotStarted("its nodes cannot be written down".to_owned()));
    }
    state.line = Some(line);
    state.interruptions.1 = state.interruptions.0;
    remote.changed.notify_all();
    Ok(process)
}

/// One process, from its start to its end.
#[allow(clippy::struct_excessive_bools, reason = "each says something else about the process, in any combination")]
struct Attendance<'a, P: Payload> {
    remote: &'a Arc<Remote<P>>,
    process: Process,
    line: Arc<Line>,
    wake: Option<Arc<OwnedFd>>,
    started: Instant,
    is_ready: bool,
    /// Its nodes did not initialize.
    has_refused: bool,
    has_cleaned_up: bool,
    /// Not all could be written that was to be sent.
    has_unwritten: bool,
    /// The close order is out.
    is_told_to_close: bool,
    /// Why it was killed, if it was.
    killed_for: Option<LossCause>,
    /// Where it was then.
    killed_at: Option<Reading>,
    /// A node could not be restored.
    has_lost_its_way: bool,
    /// When the worker last was at something, as far as was seen, or had nothing to do.
    quiet_since: Instant,
}

fn attend<P: Payload>(remote: &Arc<Remote<P>>, process: Process) -> End {
    let line = remote.lock().line.clone().expect("a process that was started has a line");
    let mut attendance = Attendance {
        remote,
        process,
        line,
        wake: remote.wake(),
        started: Instant::now(),
        is_ready: false,
        has_refused: false,
        has_cleaned_up: false,
        has_unwritten: true,
        is_told_to_close: false,
        killed_for: None,
        killed_at: None,
        has_lost_its_way: false,
        quiet_since: Instant::now(),
    };
    while attendance.look() {}
    attendance.end()
}

impl<P: Payload> Attendance<'_, P> {
    /// Wait for something to happen, and see to it; `false` when the process has ended.
    fn look(&mut self) -> bool {
        let is_reading = self.claim_reading();
        self.wait(is_reading);
        if let Some(wake) = &self.wake {
            rustix::io::read(wake, &mut [0; 8]).ok();
        }
        let (border, node_ids) = (&self.remote.border, &self.remote.spec.node_ids);
        self.process.read_lines(|said, line| border.said(node_ids, said, line));
        self.read_control();
        let mut is_there = true;
        if is_reading {
            is_there = self.read_answers();
            self.leave_reading();
        }
        self.say_trouble();
        // One that is through need not close its socket: what it has forked may have it, too.
        let is_through = self.has_cleaned_up || self.has_refused;
        if !is_there || is_through || self.process.has_ended() {
            return false;
        }
        if self.is_ready {
            self.send_unsent();
        }
        // A worker that is gone is noticed by its end.
        self.has_unwritten = self.line.link.flush_some().is_ok_and(|is_all| !is_all);
        self.follow_orders();
        self.watch_the_clock();
        true
    }

    /// Read answers from now on, if there are any to come and nobody else does.
    fn claim_reading(&self) -> bool {
        let mut state = self.remote.lock();
        let is_worth_it = !state.pending.is_empty() || !self.is_ready || self.is_told_to_close;
        if is_worth_it && state.reader == Reader::Nobody {
            state.reader = Reader::Keeper;
            return true;
        }
        false
    }

    fn leave_reading(&self) {
        let mut state = self.remote.lock();
        if state.reader == Reader::Keeper {
            state.reader = Reader::Nobody;
        }
    }

    fn wait(&self, is_reading: bool) {
        let patience = self.patience();
        let mut of_data = PollFlags::empty();
        of_data.set(PollFlags::IN, is_reading);
        of_data.set(PollFlags::OUT, self.has_unwritten);
        let others = self.wake.iter().map(AsFd::as_fd).chain([self.line.control.as_fd()]).chain(self.process.fds());
        let mut fds: Vec<PollFd<'_>> = others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if !of_data.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.line.link.as_fd(), of_data));
        }
        // A wait that ends too early is begun again.
        rustix::event::poll(&mut fds, patience.map(timespec).as_ref()).ok();
    }

    /// For how long nothing need be looked at.
    fn patience(&self) -> Option<Duration> {
        let state = self.remote.lock();
        let mut deadline = state.end_by;
        let mut at = |then: Instant| deadline = Some(deadline.map_or(then, |deadline| deadline.min(then)));
        if !self.is_ready {
            at(self.started + self.remote.spec.initialize_timeout);
        }
        if let Some(timeout) = self.remote.spec.timeout
            && !state.pending.is_empty()
        {
            let at_work_for = self.item_age().unwrap_or(Duration::ZERO);
            at(Instant::now() + timeout.saturating_sub(at_work_for).max(Duration::from_millis(1)));
        }
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// For how long the item under way has been.
    fn item_age(&self) -> Option<Duration> {
        self.whereabouts()?.input?;
        let since = self.line.page.since_ns.load(Ordering::Relaxed);
        (since > 0).then(|| monotonic().saturating_sub(Duration::from_nanos(since)))
    }

    /// Where the worker is: in which node and at which item. What is packed or unpacked counts for the first node.
    fn whereabouts(&self) -> Option<Reading> {
        let page = &self.line.page;
        let in_hand = Some(page.in_hand.load(Ordering::Acquire)).filter(|&number| number > 0);
        match page.progress.read() {
            Some(reading) => Some(Reading { input: reading.input.or(in_hand), ..reading }),
            None => in_hand.map(|number| Reading { step: 0, node: 0, input: Some(number), thread: 0 }),
        }
    }

    fn read_control(&mut self) {
        while let Ok(Some(received)) = self.line.control.next() {
            match received.head.kind {
                Kind::Note => self.remote.border.noted(&self.remote.spec.node_ids, &received.letter.body),
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
    fn read_answers(&mut self) -> bool {
        let mut answers = Vec::new();
        loop {
            let next = self.line.link.next();
            let is_there = next.is_ok();
            let is_more = matches!(next, Ok(Some(_)));
            answers.extend(next.ok().flatten());
            if !is_more || answers.len() >= AT_ONCE {
                let some = std::mem::take(&mut answers);
                // Unpacked in one go, and not in turn with whoever takes the outputs.
                if !some.is_empty() {
                    self.quiet_since = Instant::now();
                    let news: Vec<News<P>> =
                        P::hold(|| some.into_iter().filter_map(|received| self.see_to(received)).collect());
                    for news in news {
                        news.tell(self.remote);
                    }
                }
            }
            if !is_more {
                return is_there;
            }
        }
    }

    fn see_to(&mut self, received: Received) -> Option<News<P>> {
        match received.head.kind {
            Kind::Ready => self.be_ready(received.head.extra > 0),
            Kind::Fault if !self.is_ready => {
                self.has_refused = true;
                self.note_fault(&received);
            }
            Kind::Fault if received.head.number == 0 => {
                self.has_lost_its_way = true;
                self.note_fault(&received);
            }
            Kind::CleanedUp if received.head.is_last => {
                self.has_cleaned_up = true;
                self.remote.figures.ended_resident_bytes.store(received.head.extra, Ordering::Relaxed);
            }
            Kind::CleanedUp => self.note_fault(&received),
            _ => return self.remote.take_in(received),
        }
        None
    }

    /// A node failed in `initialize` or `cleanup`.
    fn note_fault(&self, received: &Received) {
        let fault = self.remote.unpack_fault(received.head, &received.letter);
        if let Some(place) = self.remote.lock().faults.get_mut(usize::from(received.head.node)) {
            *place = Some(fault);
        }
    }

    /// The nodes are initialized: bring them where they were, and give the worker what is not done.
    fn be_ready(&mut self, can_keep: bool) {
        self.is_ready = true;
        let (states, since) = {
            let mut state = self.remote.lock();
            state.kept.is_possible = can_keep;
            state.kept.forget_coming();
            let mut redelivered = 0;
            for pending in state.pending.values_mut() {
                redelivered += u64::from(std::mem::take(&mut pending.is_sent));
                pending.repeated = pending.emitted;
            }
            self.remote.figures.redeliveries.fetch_add(redelivered, Ordering::Relaxed);
            (state.kept.states(), state.kept.since())
        };
        let line = Arc::clone(&self.line);
        for (node, kept) in states {
            let mut letter = line.link.letter();
            letter.write(&kept.body);
            kept.buffers.iter().for_each(|buffer| letter.add_buffer(buffer));
            let node = u16::try_from(node).unwrap_or(u16::MAX);
            line.link.post(Head { node, ..Head::new(Kind::Restore, 0) }, letter);
        }
        for (number, job) in since {
            if let Ok(letters) = self.remote.write(&line, &job) {
                send(&line, number, &job, letters, true);
            }
        }
    }

    /// Give the worker what was begun and is not done. One of several items that were in work when the last one died goes alone, so that
    /// its second death tells which it was.
    fn send_unsent(&self) {
        loop {
            let next = {
                let mut state = self.remote.lock();
                if state.life != Life::Starting {
                    return;
                }
                let is_concurrent = self.remote.spec.is_concurrent;
                let suspect_is_out =
                    is_concurrent && state.pending.values().any(|pending| pending.is_sent && pending.deaths > 0);
                if suspect_is_out {
                    return;
                }
                let mut unsent = state.pending.iter_mut().filter(|(_, pending)| !pending.is_sent);
                let Some((&number, pending)) = unsent.next() else {
                    // Under the same lock: what is begun from now on is sent by whoever begins it.
                    state.life = Life::Up;
                    self.remote.changed.notify_all();
                    return;
                };
                pending.is_sent = true;
                (number, Arc::clone(&pending.job))
            };
            let (number, job) = next;
            match self.remote.write(&self.line, &job) {
                Ok(letters) => send(&self.line, number, &job, letters, false),
                Err(fault) => {
                    self.remote.finish(number, Err(fault)).into_iter().for_each(|news| news.tell(self.remote));
                }
            }
        }
    }

    fn say_trouble(&self) {
        if !HAS_SAID_TROUBLE.load(Ordering::Relaxed)
            && let Some(trouble) = self.line.link.trouble()
            && !HAS_SAID_TROUBLE.swap(true, Ordering::Relaxed)
        {
            let text = format!("no shared memory ({trouble}): large items go over the socket, which is slower");
            self.remote.border.said(&self.remote.spec.node_ids, Said::Err, &text);
        }
    }

    fn follow_orders(&mut self) {
        let (is_closing, is_due) = {
            let state = self.remote.lock();
            (state.is_closing, state.end_by.is_some_and(|end_by| Instant::now() >= end_by))
        };
        if is_closing && !self.is_told_to_close {
            self.is_told_to_close = true;
            self.line.control.post(Head::new(Kind::Close, 0), self.line.control.letter());
            self.line.control.flush().ok();
        }
        if is_due {
            self.kill(LossCause::LeftBehind);
        }
    }

    fn watch_the_clock(&mut self) {
        if !self.is_ready && self.started.elapsed() >= self.remote.spec.initialize_timeout {
            self.kill(LossCause::TimedOut(self.remote.spec.initialize_timeout));
        }
        if let Some(timeout) = self.remote.spec.timeout
            && self.item_age().is_some_and(|age| age >= timeout)
        {
            self.kill(LossCause::TimedOut(timeout));
        }
        self.watch_for_silence();
    }

    /// A worker that has items and neither takes one nor answers is stopped, or its coroutines do not let each other go on.
    fn watch_for_silence(&mut self) {
        let Some(timeout) = self.remote.spec.timeout else { return };
        let has_items = self.remote.lock().pending.values().next().is_some_and(|pending| pending.is_sent);
        if !has_items || self.whereabouts().is_some() {
            self.quiet_since = Instant::now();
        } else if self.quiet_since.elapsed() >= timeout + TAKING_TIME {
            self.kill(LossCause::TimedOut(timeout));
        }
    }

    /// End the process by force; where it was is asked before.
    fn kill(&mut self, cause: LossCause) {
        if self.killed_for.is_some() {
            return;
        }
        self.killed_at = self.whereabouts();
        let (border, node_ids) = (&self.remote.border, &self.remote.spec.node_ids);
        let is_unwanted = cause == LossCause::LeftBehind && !self.is_ready;
        if !is_unwanted {
            self.process.tell_stacks(LAST_WORDS, |said, line| border.said(node_ids, said, line));
        }
        self.killed_for = Some(cause);
        self.process.kill();
    }

    /// The process has ended, or is about to.
    fn end(mut self) -> End {
        if self.has_cleaned_up || self.has_refused {
            // It may take its time to go.
            let deadline = Instant::now() + LAST_WORDS * 5;
            while !self.process.has_ended() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let reading = self.killed_at.or_else(|| self.whereabouts());
        if !self.process.has_ended() {
            // The socket has ended before the process.
            let deadline = Instant::now() + LAST_WORDS;
            while !self.process.has_ended() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            self.process.kill();
        }
        let (border, node_ids) = (&self.remote.border, &self.remote.spec.node_ids);
        let cause = self.process.bury(|said, line| border.said(node_ids, said, line));
        self.await_direct_reader();
        self.read_control();
        // What it had sent before its end counts.
        self.read_answers();
        self.remote.lock().reader = Reader::Nobody;
        self.remote.note_traffic(Some(&self.line));
        let figures = &self.remote.figures;
        figures.process.store(0, Ordering::Relaxed);
        figures.ended_cpu_us.fetch_add(self.process.cpu_us, Ordering::Relaxed);
        End {
            cause: self.killed_for.take().unwrap_or(cause),
            stderr: self.process.stderr(),
            reading,
            was_ready: self.is_ready,
            is_in_order: self.has_cleaned_up || self.has_refused,
            has_lost_its_way: self.has_lost_its_way,
        }
    }

    /// A thread that reads its answer itself sees the end of the socket, too, and leaves.
    fn await_direct_reader(&self) {
        let mut state = self.remote.lock();
        if state.life == Life::Up {
            state.life = Life::Starting;
        }
        while state.reader == Reader::Direct {
            state = self.remote.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.reader = Reader::Keeper;
    }
}

pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}
