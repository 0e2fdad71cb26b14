//! A stage that works in another process, as its session sees it: what was sent, who gets the answers, and who reads them.
//!
//! *Invariant:* what was begun is kept in `pending` until its answer is complete, and then its reply is told exactly once.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use super::channel::{Channel, Drawn};
use super::kept::Kept;
use super::link::{Letter, Link, Received, Transport};
use super::memory::Page;
use super::wire::{Head, Kind, phase_of};
use super::{Arrived, Border, Loss, LossCause, WorkerSpec, steps};
use crate::node::{Done, TellStep};
use crate::{Outputs, Payload, Phase};

/// A thread that waits for a worker looks as often whether it should not.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// As long is an answer awaited without sleeping, if the last one came that soon: waking a process may take longer.
const SHORT_WAIT: Duration = Duration::from_micros(40);

/// The worker process of the moment, as one reaches it.
pub(crate) struct Line {
    /// Items and their answers.
    pub(crate) link: Link,
    /// What must not wait behind items.
    pub(crate) control: Link,
    /// Where the worker is.
    pub(crate) page: Page,
}

/// What a worker is asked to do.
pub(crate) enum Job<P> {
    Item(P),
    Batch(Vec<P>),
    Flush,
}

/// Takes the answers to a batch.
pub(crate) type BatchDone<P> = Box<dyn FnOnce(Result<Vec<Option<P>>, <P as Payload>::Fault>) + Send>;

/// Who gets the answer.
pub(crate) enum Reply<P: Payload> {
    /// The first output, or the end, has not come.
    Whole(Done<P>),
    /// One output was not the last.
    Stream(Arc<Channel<P>>),
    /// The answers to a batch so far.
    Batch(Vec<Option<P>>, BatchDone<P>),
    /// The thread that reads the answers itself.
    Direct,
}

/// What was begun and is not done.
pub(crate) struct Pending<P: Payload> {
    pub(crate) job: Arc<Job<P>>,
    pub(crate) reply: Reply<P>,
    /// Outputs that have gone out.
    pub(crate) emitted: usize,
    /// Outputs that come once more, and are not wanted.
    pub(crate) repeated: usize,
    /// Workers that died while they were at it.
    pub(crate) deaths: usize,
    pub(crate) is_sent: bool,
}

/// Where the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Unborn,
    /// Started, or about to be started again.
    Starting,
    Up,
    /// No other takes its place.
    Failed,
    Ended,
}

/// Who reads the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Nobody,
    Keeper,
    Direct,
}

pub(crate) struct State<P: Payload> {
    pub(crate) life: Life,
    pub(crate) line: Option<Arc<Line>>,
    pub(crate) pending: BTreeMap<u64, Pending<P>>,
    pub(crate) next_number: u64,
    pub(crate) reader: Reader,
    direct_answer: Option<Result<Outputs<P>, P::Fault>>,
    /// Interruptions asked for, and those that the worker is through with.
    pub(crate) interruptions: (u64, u64),
    /// What the nodes failed with, in `initialize` or in `cleanup`.
    pub(crate) faults: Vec<Option<P::Fault>>,
    pub(crate) loss: Option<Loss>,
    pub(crate) is_closing: bool,
    pub(crate) end_by: Option<Instant>,
    /// What a new worker needs to be where the old one was.
    pub(crate) kept: Kept<P>,
}

/// Figures of a worker and of those that took its place.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) restarts: AtomicU64,
    pub(crate) redeliveries: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// The process of the moment, or 0.
    pub(crate) process: AtomicU64,
    /// Processor time of those that have ended, and memory of the last that did so in order.
    pub(crate) ended_cpu_us: AtomicU64,
    pub(crate) ended_resident_bytes: AtomicU64,
}

/// What the nodes of a stage and the keeper of its worker share.
pub(crate) struct Remote<P: Payload> {
    pub(crate) spec: WorkerSpec<P>,
    pub(crate) border: Arc<dyn Border<P>>,
    pub(crate) figures: Figures,
    state: Mutex<State<P>>,
    pub(crate) changed: Condvar,
    /// Wakes the keeper, as long as it lives: a session that has closed holds no file.
    wake: Mutex<Option<Arc<OwnedFd>>>,
    are_waits_short: AtomicBool,
    /// Who is told how long the nodes took.
    pub(crate) tell_step: OnceLock<TellStep>,
}

impl<P: Payload> Remote<P> {
    pub(crate) fn new(spec: WorkerSpec<P>, border: Arc<dyn Border<P>>) -> io::Result<Self> {
        let state = State {
            life: Life::Unborn,
            line: None,
            pending: BTreeMap::new(),
            next_number: 1,
            reader: Reader::Nobody,
            direct_answer: None,
            interruptions: (0, 0),
            faults: spec.node_ids.iter().map(|_| None).collect(),
            loss: None,
            is_closing: false,
            end_by: None,
            kept: Kept::new(),
        };
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            spec,
            border,
            figures: Figures::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            wake: Mutex::new(Some(Arc::new(wake))),
            are_waits_short: AtomicBool::new(false),
            tell_step: OnceLock::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Let the keeper look at what has changed.
    pub(crate) fn wake_keeper(&self) {
        if let Some(wake) = self.wake() {
            // A counter that is full wakes it as well.
            rustix::io::write(&wake, &1_u64.to_ne_bytes()).ok();
        }
    }

    /// What becomes readable when the keeper should look.
    pub(crate) fn wake(&self) -> Option<Arc<OwnedFd>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// There is no keeper any more.
    pub(crate) fn forget_keeper(&self) {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Write a job down.
    pub(crate) fn write<'a>(&self, line: &'a Line, job: &Job<P>) -> Result<Vec<Letter<'a>>, P::Fault> {
        let write = |item: &P| {
            let mut letter = line.link.letter();
            self.border.pack(item, &mut letter).map(|()| letter)
        };
        match job {
            Job::Item(item) => Ok(vec![write(item)?]),
            Job::Batch(items) => items.iter().map(write).collect(),
            Job::Flush => Ok(vec![line.link.letter()]),
        }
    }

    /// Begin with a job; `reply` is told when it is done. Never waits for the worker.
    pub(crate) fn begin(&self, job: Job<P>, reply: Reply<P>) {
        let job = Arc::new(job);
        loop {
            let line = self.line_if_up();
            let letters = match line.as_ref().map(|line| self.write(line, &job)).transpose() {
                Ok(letters) => letters,
                Err(fault) => return reply.fail(self, fault),
            };
            let mut state = self.lock();
            if matches!(state.life, Life::Failed | Life::Ended) {
                let loss = state.last_loss(&self.spec.node_ids);
                drop(state);
                return reply.fail(self, self.border.lost(&loss));
            }
            let line_now = if state.life == Life::Up { state.line.as_ref() } else { None };
            if line_now.map(Arc::as_ptr) != line.as_ref().map(Arc::as_ptr) {
                // It came up, or was lost, while the letters were written.
                continue;
            }
            let number = state.next_number;
            state.next_number += 1;
            let is_sent = letters.is_some();
            if let (Some(line), Some(letters)) = (&line, letters) {
                send(line, number, &job, letters, false);
            }
            state.pending.insert(number, Pending { job, reply, emitted: 0, repeated: 0, deaths: 0, is_sent });
            let must_wake = state.reader == Reader::Nobody;
            drop(state);
            if must_wake {
                self.wake_keeper();
            }
            return;
        }
    }

    fn line_if_up(&self) -> Option<Arc<Line>> {
        let state = self.lock();
        if state.life == Life::Up { state.line.clone() } else { None }
    }

    /// Send what waits to be sent. May wait for the worker to read.
    pub(crate) fn flush(&self) {
        let line = self.lock().line.clone();
        if let Some(line) = line {
            // The keeper hears of a worker that is gone by itself.
            line.link.flush().ok();
        }
    }

    /// Do one job and read its answer on this thread; the job comes back if somebody else is at work.
    pub(crate) fn directly(&self, item: P) -> Result<Result<Outputs<P>, P::Fault>, P> {
        let Some(line) = self.line_if_up().filter(|_| self.spec.timeout.is_none()) else { return Err(item) };
        let job = Arc::new(Job::Item(item));
        let letters = match self.write(&line, &job) {
            Ok(letters) => letters,
            Err(fault) => return Ok(Err(fault)),
        };
        let number = {
            let mut state = self.lock();
            let is_idle = state.life == Life::Up && state.pending.is_empty() && state.reader == Reader::Nobody;
            let is_same = state.line.as_ref().is_some_and(|now| Arc::ptr_eq(now, &line));
            if !(is_idle && is_same && state.interruptions.0 == state.interruptions.1) {
                drop((state, letters));
                return match Arc::try_unwrap(job) {
                    Ok(Job::Item(item)) => Err(item),
                    _ => unreachable!("the job is this thread's own"),
                };
            }
            let number = state.next_number;
            state.next_number += 1;
            send(&line, number, &job, letters, false);
            let pending = Pending { job, reply: Reply::Direct, emitted: 0, repeated: 0, deaths: 0, is_sent: true };
            state.pending.insert(number, pending);
            state.reader = Reader::Direct;
            state.direct_answer = None;
            number
        };
        Ok(self.read_own_answer(&line, number))
    }

    /// Stop waiting for an answer. The worker goes on; nobody wants what comes.
    fn leave(&self, number: u64, order: P::Fault) -> Result<Outputs<P>, P::Fault> {
        let mut state = self.lock();
        let pending = state.pending.remove(&number);
        state.direct_answer = None;
        self.stop_reading(&mut state);
        drop(state);
        drop(pending);
        Err(order)
    }

    fn read_own_answer(&self, line: &Line, number: u64) -> Result<Outputs<P>, P::Fault> {
        let is_lost = P::wait(|| line.link.flush()).is_err();
        let mut is_reading = !is_lost;
        loop {
            if is_reading {
                let read = P::wait(|| self.await_frame(&line.link));
                is_reading = match read {
                    Ok(Some(received)) => {
                        self.deliver(received);
                        true
                    }
                    Ok(None) => {
                        if let Err(order) = P::check_orders() {
                            return self.leave(number, order);
                        }
                        true
                    }
                    // The keeper sees to what is lost, and to the answer.
                    Err(_) => false,
                };
            }
            let mut state = self.lock();
            if let Some(answer) = state.direct_answer.take() {
                self.stop_reading(&mut state);
                return answer;
            }
            if !is_reading {
                self.stop_reading(&mut state);
                drop(state);
                return P::wait(|| self.await_direct_answer());
            }
        }
    }

    fn stop_reading(&self, state: &mut State<P>) {
        if state.reader == Reader::Direct {
            state.reader = Reader::Nobody;
            self.changed.notify_all();
            if !state.pending.is_empty() {
                self.wake_keeper();
            }
        }
    }

    fn await_direct_answer(&self) -> Result<Outputs<P>, P::Fault> {
        let mut state = self.lock();
        loop {
            if let Some(answer) = state.direct_answer.take() {
                return answer;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next frame, for some time.
    fn await_frame(&self, link: &Link) -> io::Result<Option<Received>> {
        if let Some(received) = link.next_read()? {
            return Ok(Some(received));
        }
        let begun = Instant::now();
        if self.are_waits_short.load(Ordering::Relaxed) {
            while begun.elapsed() < SHORT_WAIT {
                // On a machine with one core the worker needs it.
                std::thread::yield_now();
                if let Some(received) = link.next()? {
                    return Ok(Some(received));
                }
            }
        }
        let mut fds = [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(LOOK))).ok();
        self.are_waits_short.store(begun.elapsed() < SHORT_WAIT, Ordering::Relaxed);
        link.next()
    }

    /// See to a frame of the worker about items. Only the reader of the moment calls this.
    pub(crate) fn deliver(&self, received: Received) {
        let Received { head, letter, .. } = received;
        match head.kind {
            Kind::Output if head.extra > 0 => self.deliver_of_batch(head, letter),
            Kind::Output => {
                let Some(is_last) = self.note_output(head) else { return };
                match self.border.unpack(letter) {
                    Ok(output) => self.hand_out(head.number, output, is_last),
                    Err(fault) => self.finish(head.number, Err(fault)),
                }
            }
            Kind::Done => self.finish(head.number, Ok(())),
            Kind::Fault => {
                let fault = self.unpack_fault(head, &letter);
                self.finish(head.number, Err(fault));
            }
            Kind::Steps => {
                if let Some(tell) = self.tell_step.get() {
                    steps::read(&letter.body).for_each(|(node, took)| tell(node, took));
                }
            }
            Kind::State => {
                let outdated = self.lock().kept.remember(head, letter);
                drop(outdated);
            }
            _ => {}
        }
    }

    /// The fault that a frame brings.
    pub(crate) fn unpack_fault(&self, head: Head, letter: &Arrived) -> P::Fault {
        let node = usize::from(head.node).min(self.spec.node_ids.len() - 1);
        self.border.unpack_fault(&self.spec.node_ids[node], phase_of(head.extra), &letter.body)
    }

    /// Whether an output is wanted, and if, whether it is the last one of its item.
    fn note_output(&self, head: Head) -> Option<bool> {
        let mut state = self.lock();
        let pending = state.pending.get_mut(&head.number)?;
        if pending.repeated > 0 {
            pending.repeated -= 1;
            drop(state);
            if head.is_last {
                self.finish(head.number, Ok(()));
            }
            return None;
        }
        pending.emitted += 1;
        Some(head.is_last)
    }

    fn hand_out(&self, number: u64, output: P, is_last: bool) {
        if is_last {
            return match self.take(number) {
                None => {}
                Some(Reply::Stream(channel)) => {
                    channel.push(output);
                    channel.end(Ok(()));
                }
                Some(reply) => reply.tell(self, Ok(Outputs::One(output))),
            };
        }
        let mut state = self.lock();
        let Some(pending) = state.pending.get_mut(&number) else { return };
        if let Reply::Stream(channel) = &pending.reply {
            let channel = Arc::clone(channel);
            drop(state);
            return channel.push(output);
        }
        let channel = Arc::new(Channel::new(output));
        let reply = std::mem::replace(&mut pending.reply, Reply::Stream(Arc::clone(&channel)));
        drop(state);
        reply.tell(self, Ok(Outputs::Many(Box::new(Drawn(channel)))));
    }

    fn deliver_of_batch(&self, head: Head, letter: Arrived) {
        let unpacked = self.border.unpack(letter);
        let fault = {
            let mut state = self.lock();
            match (state.pending.get_mut(&head.number).map(|pending| &mut pending.reply), unpacked) {
                (Some(Reply::Batch(answers, _)), Ok(output)) => {
                    let slot = usize::try_from(head.extra - 1).unwrap_or(usize::MAX);
                    if let Some(answer) = answers.get_mut(slot) {
                        *answer = Some(output);
                    }
                    None
                }
                (_, unpacked) => unpacked.err(),
            }
        };
        if let Some(fault) = fault {
            self.finish(head.number, Err(fault));
        }
    }

    /// Nothing more comes of a job.
    pub(crate) fn finish(&self, number: u64, end: Result<(), P::Fault>) {
        match self.take(number) {
            None => {}
            Some(Reply::Stream(channel)) => channel.end(end),
            Some(Reply::Batch(answers, done)) => done(end.map(|()| answers)),
            Some(reply) => reply.tell(self, end.map(|()| Outputs::None)),
        }
    }

    fn take(&self, number: u64) -> Option<Reply<P>> {
        let mut state = self.lock();
        let pending = state.pending.remove(&number)?;
        let done = state.kept.note_done(number, pending.job);
        drop(state);
        // What an item does when it is let go of must not meet the lock.
        drop(done);
        Some(pending.reply)
    }

    fn answer_directly(&self, answer: Result<Outputs<P>, P::Fault>) {
        self.lock().direct_answer = Some(answer);
        self.changed.notify_all();
    }

    /// What is under way is not wanted any more: all replies are told so, and the worker is asked to leave it.
    pub(crate) fn interrupt(&self) {
        let (line, pending) = {
            let mut state = self.lock();
            if state.interruptions.0 == state.interruptions.1 {
                state.interruptions.0 += 1;
                let head = Head { extra: state.next_number, ..Head::new(Kind::Interrupt, state.interruptions.0) };
                if let Some(line) = &state.line {
                    line.control.post(head, line.control.letter());
                }
            }
            (state.line.clone(), std::mem::take(&mut state.pending))
        };
        if let Some(line) = line {
            line.control.flush().ok();
        }
        for (_, pending) in pending {
            pending.reply.give_up(self);
        }
        self.wake_keeper();
    }

    /// Wait until the worker has left what it was at when it was interrupted, or is lost, or should end.
    pub(crate) fn wait_until_interrupted(&self) {
        let mut state = self.lock();
        while state.interruptions.0 != state.interruptions.1
            && !state.is_closing
            && !matches!(state.life, Life::Failed | Life::Ended | Life::Unborn)
            && state.end_by.is_none()
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<P: Payload> State<P> {
    /// Why nothing can be begun any more.
    pub(crate) fn last_loss(&self, node_ids: &[String]) -> Loss {
        self.loss.clone().unwrap_or_else(|| Loss {
            node_id: node_ids[0].clone(),
            phase: Phase::Process,
            cause: LossCause::NotStarted("its session has closed".to_owned()),
            stderr: String::new(),
            restarts: 0,
            is_final: true,
        })
    }
}

impl<P: Payload> Reply<P> {
    fn tell(self, remote: &Remote<P>, answer: Result<Outputs<P>, P::Fault>) {
        match self {
            Self::Whole(done) => done(answer),
            Self::Direct => remote.answer_directly(answer),
            Self::Stream(channel) => channel.end(answer.map(|_| ())),
            Self::Batch(_, done) => done(answer.map(|_| Vec::new())),
        }
    }

    pub(crate) fn fail(self, remote: &Remote<P>, fault: P::Fault) {
        self.tell(remote, Err(fault));
    }

    /// Nobody wants the answer any more.
    fn give_up(self, remote: &Remote<P>) {
        match self {
            Self::Stream(channel) => channel.close(),
            Self::Batch(answers, done) => done(Ok(answers)),
            // Where the engine has been stopped it leaves off before it draws from this.
            reply => reply.tell(remote, Ok(Outputs::Many(Box::new(Nothing)))),
        }
    }
}

/// A stream without outputs.
struct Nothing;

impl<P: Payload> crate::Stream<P> for Nothing {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        Ok(None)
    }
}

/// Let the letters of a job wait to be sent.
pub(crate) fn send<P>(line: &Line, number: u64, job: &Job<P>, letters: Vec<Letter<'_>>, is_replay: bool) {
    let kind = if matches!(job, Job::Flush) { Kind::Flush } else { Kind::Item };
    let extra = u64::from(matches!(job, Job::Batch(_)));
    let count = letters.len();
    for (slot, letter) in letters.into_iter().enumerate() {
        let head = Head { has_more: slot + 1 < count, is_replay, extra, ..Head::new(kind, number) };
        line.link.post(head, letter);
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    duration.try_into().unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
}
