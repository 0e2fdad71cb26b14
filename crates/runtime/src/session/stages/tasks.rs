//! What other threads ask of the thread on which the nodes of a replica run.
//!
//! *Invariant:* nodes that have a thread of their own are entered there alone, from `initialize` to `cleanup`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

use crate::payload::Payload;

/// A piece of work for the thread. Does nothing if it is no longer waited for.
type Task = Box<dyn FnOnce() + Send>;

/// The tasks of one thread.
pub(crate) struct Tasks {
    state: Mutex<State>,
    has_changed: Condvar,
    /// Whether some wait, for a look without the lock.
    are_waiting: AtomicBool,
    /// Whether the thread is that of a source which makes its items, or is about to.
    is_producing: AtomicBool,
    thread: OnceLock<ThreadId>,
}

struct State {
    waiting: VecDeque<Task>,
    is_closed: bool,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { waiting: VecDeque::new(), is_closed: false }),
            has_changed: Condvar::new(),
            are_waiting: AtomicBool::new(false),
            is_producing: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }
}

impl Tasks {
    /// This thread is the one that runs the tasks.
    pub(crate) fn adopt_thread(&self) {
        self.thread.get_or_init(|| std::thread::current().id());
    }

    /// Whether this thread is the one that runs the tasks.
    pub(crate) fn is_here(&self) -> bool {
        self.thread.get() == Some(&std::thread::current().id())
    }

    /// Whether tasks wait for the thread.
    pub(crate) fn are_waiting(&self) -> bool {
        self.are_waiting.load(Ordering::Acquire)
    }

    /// Whether the source makes its items, or is about to.
    pub(crate) fn is_producing(&self) -> bool {
        self.is_producing.load(Ordering::Acquire)
    }

    /// Note whether the source makes its items, or is about to.
    pub(crate) fn note_producing(&self, is_producing: bool) {
        self.is_producing.store(is_producing, Ordering::Release);
    }

    /// Let the thread do `work` as soon as it is at leisure; `wake` is called when the task is there to be seen.
    pub(crate) fn send<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
        wake: impl FnOnce(),
    ) -> Sent<R> {
        let sent = Sent(Arc::new(Slot { state: Mutex::new(Progress::Waits), has_changed: Condvar::new() }));
        let receipt = Receipt(Arc::clone(&sent.0));
        let task: Task = Box::new(move || {
            if receipt.0.begin() {
                receipt.0.set(Progress::Done(catch_unwind(AssertUnwindSafe(work))));
            }
        });
        let mut state = self.state.lock();
        // Without a thread to run it, the task is dropped here, which ends the wait for it.
        if !state.is_closed {
            state.waiting.push_back(task);
            self.are_waiting.store(true, Ordering::Release);
            drop(state);
            self.has_changed.notify_all();
            wake();
        }
        sent
    }

    /// Do what waits. Called by the thread whenever it is not in a node.
    pub(crate) fn run(&self) {
        while let Some(task) = self.next() {
            task();
        }
    }

    /// Do what comes, until `is_over`, which is asked again after each [`Tasks::wake`], or until the tasks are closed.
    pub(crate) fn run_until(&self, is_over: impl Fn() -> bool) {
        loop {
            self.run();
            let mut state = self.state.lock();
            while state.waiting.is_empty() {
                if state.is_closed || is_over() {
                    return;
                }
                self.has_changed.wait(&mut state);
            }
        }
    }

    /// Let the thread look again whether it is over.
    pub(crate) fn wake(&self) {
        drop(self.state.lock());
        self.has_changed.notify_all();
    }

    /// No more tasks come; those that wait are not done.
    pub(crate) fn close(&self) {
        let forgotten = {
            let mut state = self.state.lock();
            state.is_closed = true;
            self.are_waiting.store(false, Ordering::Release);
            std::mem::take(&mut state.waiting)
        };
        self.has_changed.notify_all();
        drop(forgotten);
    }

    fn next(&self) -> Option<Task> {
        if !self.are_waiting() {
            return None;
        }
        let mut state = self.state.lock();
        let task = state.waiting.pop_front();
        self.are_waiting.store(!state.waiting.is_empty(), Ordering::Release);
        task
    }
}

/// How long a thread waits for work on nodes: while `goes_on`, which is checked every `interval`.
pub(crate) struct PollWhile<'a> {
    pub(crate) interval: Duration,
    pub(crate) goes_on: &'a mut dyn FnMut() -> bool,
}

/// A task that was sent.
pub(crate) struct Sent<R>(Arc<Slot<R>>);

/// What became of a task.
pub(crate) enum Outcome<R> {
    /// Its result, or its panic.
    Done(std::thread::Result<R>),
    /// The wait was cancelled while the thread worked on it.
    Unfinished,
    /// The wait was cancelled before, and the thread will not begin with it.
    NotBegun,
}

impl<R> Outcome<R> {
    /// The result, if the task is done. A panic goes on.
    pub(crate) fn result(self) -> Option<R> {
        match self {
            Self::Done(result) => Some(result.unwrap_or_else(|panic| resume_unwind(panic))),
            Self::Unfinished | Self::NotBegun => None,
        }
    }
}

/// The thread's side of a task: ends the wait for it when the task is dropped.
struct Receipt<R>(Arc<Slot<R>>);

impl<R> Drop for Receipt<R> {
    fn drop(&mut self) {
        // The thread ended before it began.
        if self.0.begin() {
            self.0.set(Progress::Withdrawn);
        }
    }
}

struct Slot<R> {
    state: Mutex<Progress<R>>,
    has_changed: Condvar,
}

enum Progress<R> {
    Waits,
    Runs,
    Done(std::thread::Result<R>),
    Withdrawn,
}

impl<R: Send> Sent<R> {
    /// Wait for the result.
    pub(crate) fn wait<P: Payload>(&self, polling: PollWhile<'_>) -> Outcome<R> {
        let slot = &self.0;
        let PollWhile { interval, goes_on } = polling;
        while !P::wait(|| slot.is_over_within(interval)) {
            if !goes_on() {
                break;
            }
        }
        slot.withdraw()
    }
}

impl<R> Slot<R> {
    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let is_wanted = matches!(*state, Progress::Waits);
        if is_wanted {
            *state = Progress::Runs;
        }
        is_wanted
    }

    fn set(&self, progress: Progress<R>) {
        *self.state.lock() = progress;
        self.has_changed.notify_all();
    }

    /// Whether nothing more becomes of it, or comes to do so within `interval`.
    fn is_over_within(&self, interval: Duration) -> bool {
        let mut state = self.state.lock();
        let is_open = |state: &mut Progress<R>| matches!(state, Progress::Waits | Progress::Runs);
        !self.has_changed.wait_while_for(&mut state, is_open, interval)
    }

    fn withdraw(&self) -> Outcome<R> {
        match std::mem::replace(&mut *self.state.lock(), Progress::Withdrawn) {
            Progress::Done(result) => Outcome::Done(result),
            Progress::Runs => Outcome::Unfinished,
            Progress::Waits | Progress::Withdrawn => Outcome::NotBegun,
        }
    }
}
