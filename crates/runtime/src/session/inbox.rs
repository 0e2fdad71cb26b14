//! The bounded queue before a stage.
//!
//! *Invariant:* every parcel that was pushed is popped once, or handed back, or counted as dropped; and the end of its input is
//! popped in any case, so that no input stays unfinished.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::sync::{Condvar, Mutex, MutexGuard};
use crate::WhenFull;

/// A wait that is shorter than this is spent looking; longer ones are slept through, so that an idle session costs nothing.
const SHORT_WAIT: Duration = Duration::from_micros(100);

/// What travels to a stage: items of one input, and whether they are the last ones of it.
#[derive(Debug)]
pub(crate) struct Parcel<P> {
    pub(crate) input: u64,
    /// Each item with the place where it enters the stage.
    pub(crate) items: Vec<(usize, P)>,
    /// The places behind which a node was given an item of the input, if a join needs to know.
    pub(crate) visits: Vec<usize>,
    pub(crate) is_last: bool,
    /// The input ends here: the nodes are flushed.
    pub(crate) is_flush: bool,
    /// Somebody waits for the answer to this very input, so it must not wait for company in a batch.
    pub(crate) is_urgent: bool,
    /// When it was pushed, if somebody measures.
    pub(crate) since: Option<Instant>,
}

impl<P> Parcel<P> {
    /// A parcel of the same input and kind, with nothing in it.
    pub(crate) fn header<Q>(&self) -> Parcel<Q> {
        Parcel {
            input: self.input,
            items: Vec::new(),
            visits: Vec::new(),
            is_last: self.is_last,
            is_flush: self.is_flush,
            is_urgent: self.is_urgent,
            since: self.since,
        }
    }

    /// The items of the parcel, which stays without them.
    fn split_items(&mut self) -> Self {
        Self { items: std::mem::take(&mut self.items), ..self.header() }
    }
}

/// What a stage finds in its inbox.
pub(crate) enum Popped<P> {
    /// The next parcel, with its number in the order of popping.
    Parcel(u64, Parcel<P>),
    /// Nothing came until the deadline, or somebody asked to wait no longer.
    Nothing,
    /// Nothing more comes.
    Closed,
}

/// What became of a push.
pub(crate) enum Pushed<P> {
    /// It waits its turn.
    Queued,
    /// This parcel, the same or an older one, has left the queue for good, and its input ends with it.
    Dropped(Parcel<P>),
    /// Nothing more is let in: the session is closing.
    Refused,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InboxFigures {
    pub(crate) peak_len: usize,
    pub(crate) dropped: u64,
}

struct State<P> {
    parcels: VecDeque<Parcel<P>>,
    /// Parcels in it that carry items: only these count against the capacity.
    loaded: usize,
    next_number: u64,
    is_closed: bool,
    /// Counts the requests to whoever waits with a deadline not to wait any longer.
    nudges: u64,
    figures: InboxFigures,
}

pub(crate) struct Inbox<P> {
    state: Mutex<State<P>>,
    not_empty: Condvar,
    not_full: Condvar,
    /// As many parcels as are in it, for a look without the lock.
    arrived: AtomicUsize,
    /// The last wait for a parcel was so short that it is worth spinning for the next.
    are_waits_short: AtomicBool,
    capacity: usize,
    when_full: WhenFull,
    /// No other stage knows of the inputs that wait here.
    holds_whole_inputs: bool,
}

impl<P> Inbox<P> {
    /// An empty queue for `capacity` parcels. A capacity of `usize::MAX` never makes anyone wait.
    pub(crate) fn new(capacity: usize, when_full: WhenFull, holds_whole_inputs: bool) -> Self {
        Self {
            state: Mutex::new(State {
                parcels: VecDeque::new(),
                loaded: 0,
                next_number: 0,
                is_closed: false,
                nudges: 0,
                figures: InboxFigures::default(),
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            arrived: AtomicUsize::new(0),
            are_waits_short: AtomicBool::new(false),
            capacity,
            when_full,
            holds_whole_inputs,
        }
    }

    /// Add a parcel; waits while the queue is full, if that is the policy.
    pub(crate) fn push(&self, parcel: Parcel<P>) -> Pushed<P> {
        let mut state = self.lock();
        let mut parcel = Some(parcel);
        let mut dropped = None;
        let has_items = parcel.as_ref().is_some_and(|parcel| !parcel.items.is_empty());
        if has_items && state.loaded >= self.capacity {
            match self.when_full {
                WhenFull::Wait => {
                    while state.loaded >= self.capacity && !state.is_closed {
                        state = self.not_full.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                WhenFull::DropNewest => dropped = state.drop_items(&mut parcel, self.holds_whole_inputs),
                WhenFull::DropOldest => dropped = state.drop_oldest(self.holds_whole_inputs),
            }
        }
        if state.is_closed {
            return Pushed::Refused;
        }
        if let Some(parcel) = parcel {
            state.add(parcel);
        }
        self.arrived.store(state.parcels.len(), Ordering::Release);
        drop(state);
        self.not_empty.notify_one();
        match dropped {
            Some(dropped) if self.holds_whole_inputs => Pushed::Dropped(dropped),
            _ => Pushed::Queued,
        }
    }

    /// Whether a push would neither wait nor drop.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().loaded < self.capacity
    }

    /// Whether a full queue drops items, so that nobody ever waits before it.
    pub(crate) fn drops(&self) -> bool {
        self.when_full != WhenFull::Wait
    }

    /// The next parcel; waits for it, until the deadline if there is one.
    pub(crate) fn pop(&self, deadline: Option<Instant>) -> Popped<P> {
        let mut state = self.lock();
        let nudges = state.nudges;
        let mut waited_from = None;
        loop {
            if let Some(parcel) = state.parcels.pop_front() {
                self.note_wait(waited_from);
                if !parcel.items.is_empty() {
                    state.loaded -= 1;
                }
                let number = state.next_number;
                state.next_number += 1;
                self.arrived.store(state.parcels.len(), Ordering::Release);
                drop(state);
                self.not_full.notify_one();
                return Popped::Parcel(number, parcel);
            }
            if state.is_closed {
                return Popped::Closed;
            }
            if waited_from.is_none() {
                waited_from = Some(Instant::now());
                if deadline.is_none() && self.are_waits_short.load(Ordering::Relaxed) {
                    drop(state);
                    self.spin();
                    state = self.lock();
                    continue;
                }
            }
            state = match deadline {
                None => self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(_) if state.nudges != nudges => return Popped::Nothing,
                Some(deadline) => {
                    let patience = deadline.saturating_duration_since(Instant::now());
                    if patience.is_zero() {
                        return Popped::Nothing;
                    }
                    let waited = self.not_empty.wait_timeout(state, patience);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Look for a parcel for some microseconds before going to sleep: waking a thread takes longer than that.
    fn spin(&self) {
        let until = Instant::now() + SHORT_WAIT;
        while self.arrived.load(Ordering::Acquire) == 0 && Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    fn note_wait(&self, from: Option<Instant>) {
        if let Some(from) = from {
            self.are_waits_short.store(from.elapsed() < SHORT_WAIT, Ordering::Relaxed);
        }
    }

    /// Take all out that waits.
    pub(crate) fn empty(&self) -> VecDeque<Parcel<P>> {
        let mut state = self.lock();
        state.loaded = 0;
        state.nudges += 1;
        let parcels = std::mem::take(&mut state.parcels);
        self.arrived.store(0, Ordering::Release);
        drop(state);
        self.not_full.notify_all();
        self.not_empty.notify_all();
        parcels
    }

    /// Let whoever waits with a deadline go on now.
    pub(crate) fn nudge(&self) {
        self.lock().nudges += 1;
        self.not_empty.notify_all();
    }

    /// Let nothing more in. What waits is still popped.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.store(1, Ordering::Release);
        self.not_full.notify_all();
        self.not_empty.notify_all();
    }

    pub(crate) fn figures(&self) -> InboxFigures {
        self.lock().figures
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    fn add(&mut self, parcel: Parcel<P>) {
        if !parcel.items.is_empty() {
            self.loaded += 1;
            self.figures.peak_len = self.figures.peak_len.max(self.loaded);
        }
        self.parcels.push_back(parcel);
    }

    /// Drop the items of a parcel, and the parcel with them if nobody waits for the end of its input.
    fn drop_items(&mut self, parcel: &mut Option<Parcel<P>>, is_whole: bool) -> Option<Parcel<P>> {
        let dropped = if is_whole { parcel.take() } else { parcel.as_mut().map(Parcel::split_items) };
        self.figures.dropped += dropped.as_ref().map_or(0, |dropped| dropped.items.len() as u64);
        dropped
    }

    fn drop_oldest(&mut self, is_whole: bool) -> Option<Parcel<P>> {
        let oldest = self.parcels.iter().position(|parcel| !parcel.items.is_empty())?;
        self.loaded -= 1;
        if is_whole {
            let mut parcel = self.parcels.remove(oldest);
            return self.drop_items(&mut parcel, is_whole);
        }
        let dropped = self.parcels[oldest].split_items();
        self.figures.dropped += dropped.items.len() as u64;
        Some(dropped)
    }
}
