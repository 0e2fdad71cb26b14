//! The bounded queue before a stage.
//!
//! *Invariant:* every envelope that was pushed is popped once, or handed back, or counted as dropped; and the end of its input is
//! popped in any case, so that no input stays unfinished.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::options::WhenFull;
use crate::session::queues::locks::{Condvar, Mutex};

/// A wait that is shorter than this is spent looking; longer ones are slept through, so that an idle session costs nothing.
const SHORT_WAIT: Duration = Duration::from_micros(100);

/// What travels to a stage: items of one input, and whether they are the last ones of it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of the envelope")]
pub(crate) struct Envelope<P> {
    pub(crate) input: u64,
    /// Each item with the place where it enters the stage.
    pub(crate) items: Vec<(usize, P)>,
    /// The places behind which a node was given an item of the input, if a join needs to know.
    pub(crate) visits: Vec<usize>,
    /// Nothing of the input has come before it on this way.
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
    /// Nothing more of its last item comes, if the input is a chunk.
    pub(crate) ends_item: bool,
    /// The input ends here: the nodes are flushed.
    pub(crate) is_flush: bool,
    /// A caller waits for the outputs of this input, so it must not wait for a batch to fill.
    pub(crate) is_urgent: bool,
    /// The positions of the items in their chunk, if the input is one.
    pub(crate) positions: Option<Vec<u32>>,
    /// When it was pushed, if metrics are collected.
    pub(crate) since: Option<Instant>,
}

impl<P> Envelope<P> {
    /// An input of which nothing more comes.
    pub(crate) fn whole(input: u64, items: Vec<(usize, P)>) -> Self {
        let visits = Vec::new();
        let (is_first, is_last, ends_item, is_flush, is_urgent) = (true, true, true, false, false);
        Self { input, items, visits, is_first, is_last, ends_item, is_flush, is_urgent, positions: None, since: None }
    }

    /// How much of the capacity of a queue it takes: the items of a chunk count each.
    fn load(&self) -> usize {
        if self.positions.is_some() { self.items.len() } else { usize::from(!self.items.is_empty()) }
    }

    /// Whether the nodes are flushed when its items are through.
    pub(crate) fn ends_stream(&self) -> bool {
        self.is_flush && self.is_last
    }

    /// An envelope of the same input and kind, with nothing in it.
    pub(crate) fn header(&self) -> Self {
        Self { items: Vec::new(), visits: Vec::new(), positions: self.positions.as_ref().map(|_| Vec::new()), ..*self }
    }
}

/// What a stage finds in its inbox.
pub(crate) enum Popped<P> {
    /// The next envelope, with its number in the order of popping.
    Envelope(u64, Envelope<P>),
    /// Nothing arrived until the deadline, or the wait was ended.
    Nothing,
    /// Nothing more comes.
    Closed,
}

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Pushed<P> {
    /// It waits its turn.
    Queued,
    /// These items were dropped, of the same envelope or of another one.
    Dropped(Dropped<P>),
    /// Nothing more is let in: the session is closing.
    Refused,
}

/// What was dropped because the queue was full.
#[derive(Debug)]
pub(crate) struct Dropped<P> {
    pub(crate) envelope: Envelope<P>,
    /// Nothing else is left of the input.
    pub(crate) ends_input: bool,
}

/// What may be dropped, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    /// Every input comes by here and by no other way: one that is dropped whole has ended.
    pub(crate) is_only_way: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InboxMetrics {
    pub(crate) peak_len: usize,
    pub(crate) dropped: u64,
}

/// For how long a pop waits.
enum Wait {
    Until(Instant),
    NoMore,
}

struct State<P> {
    envelopes: VecDeque<Envelope<P>>,
    /// The sum of the loads of the envelopes in it: only these count against the capacity.
    loaded: usize,
    next_number: u64,
    is_closed: bool,
    /// Counts the requests to end the wait in `pop_until`.
    wakes: u64,
    metrics: InboxMetrics,
}

pub(crate) struct Inbox<P> {
    state: Mutex<State<P>>,
    not_empty: Condvar,
    not_full: Condvar,
    /// The number of envelopes in it, readable without the lock.
    arrived: AtomicUsize,
    /// The last wait for an envelope was so short that it is worth spinning for the next.
    are_waits_short: AtomicBool,
    policy: Policy,
}

impl<P> Inbox<P> {
    /// An empty queue. A capacity of `usize::MAX` never makes anyone wait.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            state: Mutex::new(State {
                envelopes: VecDeque::new(),
                loaded: 0,
                next_number: 0,
                is_closed: false,
                wakes: 0,
                metrics: InboxMetrics::default(),
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            arrived: AtomicUsize::new(0),
            are_waits_short: AtomicBool::new(false),
            policy,
        }
    }

    /// Add an envelope; waits while the queue is full, if that is the policy.
    pub(crate) fn push(&self, envelope: Envelope<P>) -> Pushed<P> {
        let mut state = self.state.lock();
        let load = envelope.load();
        let is_full = |state: &State<P>| !state.fits(load, self.policy.capacity);
        let mut pushed = Pushed::Queued;
        let mut envelope = Some(envelope);
        if is_full(&state) {
            match self.policy.when_full {
                WhenFull::Wait => {
                    while is_full(&state) && !state.is_closed {
                        self.not_full.wait(&mut state);
                    }
                }
                _ if state.is_closed => {}
                WhenFull::DropNewest => {
                    let (dropped, rest) = state.drop_items(envelope.take(), self.policy.is_only_way);
                    (pushed, envelope) = (dropped, rest);
                }
                WhenFull::DropOldest => pushed = state.drop_oldest(self.policy.is_only_way),
            }
        }
        if state.is_closed {
            return Pushed::Refused;
        }
        if let Some(envelope) = envelope {
            state.add(envelope);
        }
        self.arrived.store(state.envelopes.len(), Ordering::Release);
        drop(state);
        self.not_empty.notify_one();
        pushed
    }

    /// For how many items a push would neither wait nor drop.
    pub(crate) fn room(&self) -> usize {
        self.policy.capacity.saturating_sub(self.state.lock().loaded)
    }

    /// How many items are in it, and for how many there is room in all.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.state.lock().loaded, self.policy.capacity)
    }

    /// Whether a push of one item would neither wait nor drop.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    /// Whether a push of an envelope of this load would neither wait nor drop.
    pub(crate) fn has_room_for(&self, load: usize) -> bool {
        self.state.lock().fits(load, self.policy.capacity)
    }

    /// Whether nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrived.load(Ordering::Acquire) == 0
    }

    /// Whether a full queue drops items, so that its producers never wait.
    pub(crate) fn drops(&self) -> bool {
        self.policy.when_full != WhenFull::Wait
    }

    /// How many envelopes have been popped.
    pub(crate) fn popped(&self) -> u64 {
        self.state.lock().next_number
    }

    /// What to give [`Inbox::pop_until`]. Taken before looking at the reason for a wake, so that none is missed.
    pub(crate) fn wakes(&self) -> u64 {
        self.state.lock().wakes
    }

    /// Add an item to a chunk that waits for the stage, as its last envelope, if it has less than `limit` and there is room. `expect` is
    /// asked before for the position of the item in the chunk; it must not wait.
    pub(crate) fn extend(
        &self,
        input: u64,
        place: usize,
        item: P,
        limit: usize,
        expect: impl FnOnce() -> Option<u32>,
    ) -> Result<(), P> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let has_room = state.loaded < self.policy.capacity && !state.is_closed;
        let last =
            state.envelopes.back_mut().filter(|last| has_room && last.input == input && last.items.len() < limit);
        let Some((envelope, position)) = last.and_then(|last| Some((last, expect()?))) else { return Err(item) };
        envelope.items.push((place, item));
        envelope.positions.get_or_insert_default().push(position);
        state.loaded += 1;
        state.metrics.peak_len = state.metrics.peak_len.max(state.loaded);
        Ok(())
    }

    /// The next envelope; waits for it.
    #[cfg(all(loom, test))]
    pub(crate) fn pop(&self) -> Popped<P> {
        self.pop_unless(|| false)
    }

    /// The next envelope; waits for it unless the caller `is_called`, which is asked again after each [`Inbox::wake`].
    pub(crate) fn pop_unless(&self, is_called: impl Fn() -> bool) -> Popped<P> {
        self.pop_when(|_| is_called().then_some(Wait::NoMore))
    }

    /// The next envelope, if there is one.
    pub(crate) fn pop_at_once(&self) -> Popped<P> {
        self.pop_when(|_| Some(Wait::NoMore))
    }

    /// The next envelope; waits for it until the deadline, if there is one, and until it is woken.
    pub(crate) fn pop_until(&self, deadline: Option<Instant>, wakes: u64) -> Popped<P> {
        self.pop_when(|state| if state.wakes == wakes { deadline.map(Wait::Until) } else { Some(Wait::NoMore) })
    }

    fn pop_when(&self, wait: impl Fn(&State<P>) -> Option<Wait>) -> Popped<P> {
        let mut state = self.state.lock();
        let mut waited_from = None;
        loop {
            if let Some(envelope) = state.envelopes.pop_front() {
                self.note_wait(waited_from);
                let load = envelope.load();
                state.loaded -= load;
                let number = state.next_number;
                state.next_number += 1;
                self.arrived.store(state.envelopes.len(), Ordering::Release);
                drop(state);
                if load > 1 {
                    self.not_full.notify_all();
                } else {
                    self.not_full.notify_one();
                }
                return Popped::Envelope(number, envelope);
            }
            if state.is_closed {
                return Popped::Closed;
            }
            let wait = wait(&state);
            if waited_from.is_none() {
                waited_from = Some(Instant::now());
                if wait.is_none() && self.are_waits_short.load(Ordering::Relaxed) {
                    drop(state);
                    self.spin();
                    state = self.state.lock();
                    continue;
                }
            }
            match wait {
                None => self.not_empty.wait(&mut state),
                Some(Wait::NoMore) => return Popped::Nothing,
                Some(Wait::Until(deadline)) => {
                    let timeout = deadline.saturating_duration_since(Instant::now());
                    if timeout.is_zero() {
                        return Popped::Nothing;
                    }
                    self.not_empty.wait_for(&mut state, timeout);
                }
            }
        }
    }

    /// Look for an envelope for some microseconds before going to sleep: waking a thread takes longer than that.
    fn spin(&self) {
        let until = Instant::now() + SHORT_WAIT;
        while self.arrived.load(Ordering::Acquire) == 0 && Instant::now() < until {
            // The producer of the envelope may be waiting for this core.
            std::thread::yield_now();
        }
    }

    fn note_wait(&self, from: Option<Instant>) {
        // The model checker knows no clock.
        if let Some(from) = from.filter(|_| !cfg!(loom)) {
            self.are_waits_short.store(from.elapsed() < SHORT_WAIT, Ordering::Relaxed);
        }
    }

    /// Take all out that waits.
    pub(crate) fn empty(&self) -> VecDeque<Envelope<P>> {
        let mut state = self.state.lock();
        state.loaded = 0;
        state.wakes += 1;
        let envelopes = std::mem::take(&mut state.envelopes);
        self.arrived.store(usize::from(state.is_closed), Ordering::Release);
        drop(state);
        self.not_full.notify_all();
        self.not_empty.notify_all();
        envelopes
    }

    /// End the wait in [`Inbox::pop_until`].
    pub(crate) fn wake(&self) {
        self.state.lock().wakes += 1;
        self.not_empty.notify_all();
    }

    /// Let nothing more in. What waits is still popped.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.arrived.store(1, Ordering::Release);
        self.not_full.notify_all();
        self.not_empty.notify_all();
    }

    pub(crate) fn metrics(&self) -> InboxMetrics {
        self.state.lock().metrics
    }
}

impl<P> State<P> {
    /// Whether an envelope of this load has room. One that is larger than the queue has room when nothing else is there.
    fn fits(&self, load: usize, capacity: usize) -> bool {
        load == 0 || self.loaded == 0 || self.loaded.saturating_add(load) <= capacity
    }

    fn add(&mut self, envelope: Envelope<P>) {
        if !envelope.items.is_empty() {
            self.loaded += envelope.load();
            self.metrics.peak_len = self.metrics.peak_len.max(self.loaded);
        }
        self.envelopes.push_back(envelope);
    }

    /// Drop the items of an envelope. Returns what must be queued all the same.
    fn drop_items(&mut self, envelope: Option<Envelope<P>>, is_only_way: bool) -> (Pushed<P>, Option<Envelope<P>>) {
        let Some(envelope) = envelope else { return (Pushed::Queued, None) };
        self.metrics.dropped += envelope.items.len() as u64;
        let ends_input = is_only_way && envelope.is_first && envelope.is_last && !envelope.is_flush;
        let is_needed = !ends_input && (envelope.is_last || !envelope.visits.is_empty());
        let rest = is_needed.then(|| Envelope { visits: envelope.visits.clone(), ..envelope.header() });
        (Pushed::Dropped(Dropped { envelope, ends_input }), rest)
    }

    fn drop_oldest(&mut self, is_only_way: bool) -> Pushed<P> {
        let oldest = self.envelopes.iter().position(|envelope| !envelope.items.is_empty());
        let Some(oldest) = oldest else { return Pushed::Queued };
        let envelope = self.envelopes.remove(oldest);
        self.loaded -= envelope.as_ref().map_or(0, Envelope::load);
        let (pushed, rest) = self.drop_items(envelope, is_only_way);
        if let Some(rest) = rest {
            self.envelopes.insert(oldest, rest);
        }
        pushed
    }
}
