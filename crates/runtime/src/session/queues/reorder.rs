//! Work that is done in parallel, handed on in the order in which it was begun (or as soon as it is done).

use std::collections::{BTreeMap, BTreeSet};

use crate::session::queues::inbox::Envelope;
use crate::session::queues::locks::{Condvar, Mutex, MutexGuard};

/// The result of one envelope.
pub(crate) struct Completion<P, O = (usize, P)> {
    /// The envelope itself, without its items.
    pub(crate) header: Envelope<P>,
    /// The outputs, in order.
    pub(crate) outputs: Vec<O>,
    /// The exits of the nodes that were given an item.
    pub(crate) visited_exits: Vec<usize>,
}

/// Whether one more envelope may be begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Begun,
    /// Not before the caller's own envelope is done.
    AllWait,
    /// The caller has something else to do first.
    IsCalled,
    /// Nothing may be begun any more.
    Closed,
}

#[allow(clippy::struct_excessive_bools, reason = "each is independent of the others")]
struct State<P, O> {
    /// Done, and not handed on.
    done: BTreeMap<u64, Completion<P, O>>,
    /// All before this number are done.
    all_done: u64,
    /// Those beyond it that are done.
    done_beyond: BTreeSet<u64>,
    /// The number of the envelope that is handed on next, where order counts.
    next: u64,
    /// Begun and not handed on.
    begun: usize,
    running: usize,
    /// What came out last is still being handed on.
    is_handing_on: bool,
    /// The forwarder hands it on, not a helping thread.
    does_forwarder_work: bool,
    /// The forwarder waits, and has not been woken.
    does_forwarder_wait: bool,
    /// A thread waits for room, and has not been woken.
    is_room_awaited: bool,
    /// It waits for room for so many items of an envelope; 0 if it waits for several envelopes.
    awaited_items: usize,
    /// A thread waits until all before this number are done.
    awaited: u64,
    is_closed: bool,
}

/// What the threads that work and the thread that hands on share.
pub(crate) struct Reorder<P, O = (usize, P)> {
    state: Mutex<State<P, O>>,
    /// One for each condition: a thread that is done with an envelope wakes only those that can continue.
    has_room: Condvar,
    can_hand_on: Condvar,
    is_done: Condvar,
    is_ordered: bool,
    /// How many may run at once.
    width: usize,
    /// How many may be begun and not handed on.
    depth: usize,
    /// How many places must be free before a thread that waits for room continues: 1, or more where waking costs more than the work.
    step: usize,
}

impl<P, O> Reorder<P, O> {
    pub(crate) fn new(is_ordered: bool, width: usize, depth: usize) -> Self {
        let state = State {
            done: BTreeMap::new(),
            all_done: 0,
            done_beyond: BTreeSet::new(),
            next: 0,
            begun: 0,
            running: 0,
            is_handing_on: false,
            does_forwarder_work: false,
            does_forwarder_wait: false,
            is_room_awaited: false,
            awaited_items: 0,
            awaited: u64::MAX,
            is_closed: false,
        };
        let (has_room, can_hand_on, is_done) = (Condvar::new(), Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), has_room, can_hand_on, is_done, is_ordered, width, depth, step: 1 }
    }

    /// The same, but a thread that waited for room continues only when there is room for several.
    pub(crate) fn in_steps_of(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// How many places must be free before a thread that waits for room continues.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Wait until one more envelope may be begun; `false` if nothing may any more.
    #[cfg(all(loom, test))]
    pub(crate) fn begin(&self) -> bool {
        self.begin_besides(None, || false) == Begin::Begun
    }

    /// Whether [`Reorder::begin_besides`] would not wait now.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.is_closed || self.may_begin(&state)
    }

    /// The same without waiting.
    pub(crate) fn begin_at_once(&self) -> bool {
        let mut state = self.state.lock();
        let may_begin = !state.is_closed && self.may_begin(&state);
        state.running += usize::from(may_begin);
        state.begun += usize::from(may_begin);
        may_begin
    }

    /// The same for a thread that has the envelope of this number, and would wait for itself if all others wait for that one. Does not wait
    /// while the caller `is_called`, which is checked again after each [`Reorder::wake`].
    pub(crate) fn begin_besides(&self, held: Option<u64>, is_called: impl Fn() -> bool) -> Begin {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return Begin::Closed;
            }
            if is_called() {
                return Begin::IsCalled;
            }
            if self.may_begin(&state) {
                state.running += 1;
                state.begun += 1;
                return Begin::Begun;
            }
            if self.is_ordered && held == Some(state.next) {
                return Begin::AllWait;
            }
            self.await_room(&mut state);
            while self.step > 1 && !state.is_closed && !self.may_go_on(&state) {
                self.await_room(&mut state);
            }
        }
    }

    /// Let waiting threads check again whether they are called.
    pub(crate) fn wake(&self) {
        drop(self.state.lock());
        self.has_room.notify_all();
        self.is_done.notify_all();
    }

    /// Wait until so many more items of an envelope that was begun may run together; `false` if nothing may any more.
    ///
    /// They do not begin in parts: what began together is also done together, and so their parts would never grow again.
    pub(crate) fn begin_items(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        while !self.has_room_for_items(&state, count) && !state.is_closed {
            state.awaited_items = count;
            self.await_room(&mut state);
        }
        state.awaited_items = 0;
        state.running += if state.is_closed { 0 } else { count };
        !state.is_closed
    }

    /// The same without waiting; `false` if they may not now.
    pub(crate) fn begin_items_at_once(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        let may_begin = self.has_room_for_items(&state, count) && !state.is_closed;
        state.running += if may_begin { count } else { 0 };
        may_begin
    }

    /// Items of an envelope are done, and others of it are not.
    pub(crate) fn end_items(&self, count: usize) {
        if count > 0 {
            let mut state = self.state.lock();
            state.running = state.running.saturating_sub(count);
            self.notify_room(&mut state);
        }
    }

    /// An envelope that was begun did not arrive: there was none.
    pub(crate) fn unbegin(&self) {
        let mut state = self.state.lock();
        state.running -= 1;
        state.begun -= 1;
        self.wake_for_room(&mut state);
    }

    /// The envelope with this number is done. Never waits.
    pub(crate) fn complete(&self, number: u64, completion: Completion<P, O>) {
        let mut state = self.state.lock();
        self.note_complete(&mut state, number, completion);
        self.wake_forwarder(&mut state);
    }

    /// The same for a thread that also hands on the next envelope, if it `may_go`. Where there is nothing to wait for, this saves the forwarder
    /// the work. A caller that receives an envelope calls [`Reorder::next_to_help`] afterwards.
    pub(crate) fn complete_and_help(
        &self,
        number: u64,
        completion: Completion<P, O>,
        may_go: impl Fn(&Completion<P, O>) -> bool,
    ) -> Option<Completion<P, O>> {
        let mut state = self.state.lock();
        self.note_complete(&mut state, number, completion);
        self.help(state, may_go)
    }

    /// What was taken is handed on: the next one that `may_go`.
    pub(crate) fn next_to_help(&self, may_go: impl Fn(&Completion<P, O>) -> bool) -> Option<Completion<P, O>> {
        let mut state = self.state.lock();
        self.note_handed_on(&mut state);
        self.help(state, may_go)
    }

    /// Wait for the next envelope to hand on. Only the forwarder calls this. Returns `None` when nothing more comes.
    pub(crate) fn next(&self) -> Option<Completion<P, O>> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.does_forwarder_work) {
            self.note_handed_on(&mut state);
        }
        loop {
            // A helping thread looks for the next one itself.
            if !state.is_handing_on {
                if let Some(completion) = self.take_next(&mut state) {
                    state.does_forwarder_work = true;
                    return Some(completion);
                }
                if state.is_closed {
                    return None;
                }
            }
            state.does_forwarder_wait = true;
            self.can_hand_on.wait(&mut state);
        }
    }

    fn note_complete(&self, state: &mut State<P, O>, number: u64, completion: Completion<P, O>) {
        state.running = state.running.saturating_sub(1);
        state.done.insert(number, completion);
        state.note_done(number);
        self.notify_room(state);
        if state.all_done >= state.awaited {
            state.awaited = u64::MAX;
            self.is_done.notify_all();
        }
    }

    fn note_handed_on(&self, state: &mut State<P, O>) {
        state.is_handing_on = false;
        self.is_done.notify_all();
    }

    /// The next envelope for a helping thread; if it may not go that way, or there is none, the forwarder continues.
    fn help(
        &self,
        mut state: MutexGuard<'_, State<P, O>>,
        may_go: impl Fn(&Completion<P, O>) -> bool,
    ) -> Option<Completion<P, O>> {
        let is_next = |completion: &Completion<P, O>| !state.is_handing_on && !state.is_closed && may_go(completion);
        let next = self.next_number(&state).and_then(|number| state.done.get(&number));
        if next.is_some_and(is_next) {
            return self.take_next(&mut state);
        }
        self.wake_forwarder(&mut state);
        None
    }

    fn next_number(&self, state: &State<P, O>) -> Option<u64> {
        if self.is_ordered { Some(state.next) } else { state.done.keys().next().copied() }
    }

    fn take_next(&self, state: &mut State<P, O>) -> Option<Completion<P, O>> {
        let number = self.next_number(state)?;
        let completion = state.done.remove(&number)?;
        state.next += 1;
        state.begun = state.begun.saturating_sub(1);
        state.is_handing_on = true;
        self.notify_room(state);
        Some(completion)
    }

    /// Wake the forwarder if there is something for it, once until it has looked.
    fn wake_forwarder(&self, state: &mut State<P, O>) {
        let has_some = self.next_number(state).is_some_and(|number| state.done.contains_key(&number));
        if (has_some || state.is_closed) && !state.is_handing_on && std::mem::take(&mut state.does_forwarder_wait) {
            self.can_hand_on.notify_all();
        }
    }

    /// Wait until all before this number are done, or nothing more comes, for at most `timeout`; returns whether that is so.
    pub(crate) fn is_done_before(&self, number: u64, timeout: std::time::Duration) -> bool {
        let mut state = self.state.lock();
        let is_done = |state: &State<P, O>| state.all_done >= number || state.is_closed;
        if !is_done(&state) {
            state.awaited = state.awaited.min(number);
            self.is_done.wait_for(&mut state, timeout);
        }
        is_done(&state)
    }

    /// Whether all outputs are handed on, or become so within `timeout`.
    pub(crate) fn is_handed_on(&self, timeout: std::time::Duration) -> bool {
        let mut state = self.state.lock();
        let is_it = |state: &State<P, O>| !state.is_handing_on || state.is_closed;
        if !is_it(&state) {
            self.is_done.wait_for(&mut state, timeout);
        }
        is_it(&state)
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.has_room.notify_all();
        self.can_hand_on.notify_all();
        self.is_done.notify_all();
    }

    fn may_begin(&self, state: &State<P, O>) -> bool {
        state.running < self.width && state.begun < self.depth
    }

    /// Whether a thread that has waited for room continues.
    fn may_go_on(&self, state: &State<P, O>) -> bool {
        state.running + self.step <= self.width && state.begun + self.step <= self.depth
    }

    /// Whether so many items of an envelope that was begun may run. More than there are places may if nothing else runs.
    fn has_room_for_items(&self, state: &State<P, O>, count: usize) -> bool {
        state.running + count <= self.width || state.running <= 1
    }

    fn notify_room(&self, state: &mut State<P, O>) {
        let is_enough = match state.awaited_items {
            0 => self.step == 1 || self.may_go_on(state),
            count => self.has_room_for_items(state, count),
        };
        if is_enough {
            self.wake_for_room(state);
        }
    }

    /// Wake the threads that wait for room, once until they have looked.
    fn wake_for_room(&self, state: &mut State<P, O>) {
        if std::mem::take(&mut state.is_room_awaited) {
            self.has_room.notify_all();
        }
    }

    fn await_room(&self, state: &mut MutexGuard<'_, State<P, O>>) {
        state.is_room_awaited = true;
        self.has_room.wait(state);
    }
}

impl<P, O> State<P, O> {
    fn note_done(&mut self, number: u64) {
        self.done_beyond.insert(number);
        while self.done_beyond.remove(&self.all_done) {
            self.all_done += 1;
        }
    }
}
