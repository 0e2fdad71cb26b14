//! The queue of inputs that wait for room.
//!
//! *Invariant:* nothing waits while there is room. A thread that makes room calls [`AdmissionQueue::let_in`]; a thread that holds the queue then checks
//! again after it has released the queue.

use std::collections::VecDeque;
use std::time::Instant;

use crate::session::queues::locks::{AtomicUsize, Condvar, Mutex, Ordering};

/// The outcome of entering the admission queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<T, R> {
    /// Inside, with what `admit` returned.
    Now(R),
    /// Waits for room.
    Later,
    /// The admission queue is closed for good.
    Never(T),
}

struct State<T> {
    /// Each with its number in the order of coming.
    waiting: VecDeque<(u64, T)>,
    /// The number of the next one to wait.
    next: u64,
    /// Nothing is admitted for now.
    is_held: bool,
    is_closed: bool,
}

/// Admits one after the other, in the order of their arrival.
pub(crate) struct AdmissionQueue<T> {
    state: Mutex<State<T>>,
    /// How many wait. Read by threads that make room.
    waiting: AtomicUsize,
    /// Fewer wait than before.
    has_fewer: Condvar,
}

impl<T> AdmissionQueue<T> {
    pub(crate) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), next: 0, is_held: false, is_closed: false };
        Self { state: Mutex::new(state), waiting: AtomicUsize::new(0), has_fewer: Condvar::new() }
    }

    /// Go in, or wait. After [`Entered::Later`] the caller must call [`AdmissionQueue::let_in`]: room may have come in between.
    pub(crate) fn enter<R>(
        &self,
        visitor: T,
        has_room: impl FnOnce() -> bool,
        admit: impl FnOnce(T) -> R,
    ) -> Entered<T, R> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Entered::Never(visitor);
        }
        if !state.is_held && state.waiting.is_empty() && has_room() {
            return Entered::Now(admit(visitor));
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, visitor));
        self.waiting.store(state.waiting.len(), Ordering::SeqCst);
        Entered::Later
    }

    /// Go in without waiting, or not at all. Returns what `admit` returned, or the visitor.
    pub(crate) fn enter_at_once<R>(
        &self,
        visitor: T,
        has_room: impl FnOnce() -> bool,
        admit: impl FnOnce(T) -> R,
    ) -> Result<R, T> {
        let state = self.state.lock();
        if state.is_closed || state.is_held || !state.waiting.is_empty() || !has_room() {
            return Err(visitor);
        }
        Ok(admit(visitor))
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Let in who waits, as far as there is room for the `size` of each. `notify` is called for each after the admission queue is free again.
    pub(crate) fn let_in<R>(
        &self,
        size: impl Fn(&T) -> usize,
        has_room: impl Fn(usize) -> bool,
        admit: impl Fn(T) -> R,
        notify: impl Fn(R),
    ) {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            // The thread that holds the admission queue checks again when it has released it.
            let Some(mut state) = self.state.try_lock() else { return };
            if state.is_held {
                return;
            }
            let Some((_, first)) = state.waiting.front() else { return };
            let size = size(first);
            if !has_room(size) {
                drop(state);
                // A thread that made room in the meantime found the admission queue locked.
                if has_room(size) {
                    continue;
                }
                return;
            }
            let Some((_, visitor)) = state.waiting.pop_front() else { return };
            self.waiting.store(state.waiting.len(), Ordering::SeqCst);
            let admitted = admit(visitor);
            drop(state);
            self.has_fewer.notify_all();
            notify(admitted);
        }
    }

    /// A number above those of all who wait now.
    pub(crate) fn end(&self) -> u64 {
        self.state.lock().next
    }

    /// Wait until no visitor from before `end` waits any more, until `deadline` at most. Returns whether none does.
    pub(crate) fn wait_until_past(&self, end: u64, deadline: Instant) -> bool {
        let is_there = |state: &mut State<T>| state.waiting.front().is_some_and(|(number, _)| *number < end);
        let left = deadline.saturating_duration_since(Instant::now());
        !self.has_fewer.wait_while_for(&mut self.state.lock(), is_there, left)
    }

    /// Admit nothing until [`AdmissionQueue::release`]. Returns the visitors that waited.
    pub(crate) fn hold(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.is_held = true;
        self.take_waiting(&mut state)
    }

    /// End a [`AdmissionQueue::hold`]. The caller must call [`AdmissionQueue::let_in`].
    pub(crate) fn release(&self) {
        self.state.lock().is_held = false;
    }

    /// Admit nothing any more. Returns the visitors that waited.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.is_closed = true;
        self.take_waiting(&mut state)
    }

    /// Whether nothing is admitted any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Take those out who wait and are meant. The caller must call [`AdmissionQueue::let_in`]: those behind them may find room.
    pub(crate) fn forget(&self, is_meant: impl Fn(&T) -> bool) -> VecDeque<T> {
        let mut state = self.state.lock();
        let (forgotten, kept): (VecDeque<_>, _) = state.waiting.drain(..).partition(|(_, visitor)| is_meant(visitor));
        state.waiting = kept;
        self.waiting.store(state.waiting.len(), Ordering::SeqCst);
        self.has_fewer.notify_all();
        forgotten.into_iter().map(|(_, visitor)| visitor).collect()
    }

    fn take_waiting(&self, state: &mut State<T>) -> VecDeque<T> {
        self.waiting.store(0, Ordering::SeqCst);
        self.has_fewer.notify_all();
        std::mem::take(&mut state.waiting).into_iter().map(|(_, visitor)| visitor).collect()
    }
}
