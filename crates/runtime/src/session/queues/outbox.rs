//! The bounded queue of outputs of one stream, between the last stage and the consumer.

mod producers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::failure::RunError;
use crate::payload::Payload;
use crate::session::queues::locks::{Condvar, Mutex, MutexGuard};

/// What a stream has for its consumer.
#[derive(Debug)]
pub enum Next<P: Payload> {
    /// An output.
    Output(P),
    /// None came in time; there may be more.
    Nothing,
    /// All outputs are out.
    End,
    /// An input failed; the outputs before it were given.
    Failed(RunError<P::Fault>),
}

/// What happens to outputs when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The producer waits until some are taken.
    Wait,
    /// They are kept: a thread that waits for the inputs in flight to end may be the one that takes outputs.
    Keep,
    /// All outputs are dropped: the session ends without a consumer.
    Drop,
}

#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of the stream")]
struct State<P: Payload> {
    /// What has not been taken: outputs, and the errors of inputs that failed, each after the outputs before it.
    waiting: VecDeque<Next<P>>,
    /// How many of them are outputs.
    outputs: usize,
    /// Inputs put in and not done.
    under_way: usize,
    has_begun: bool,
    is_ended: bool,
    /// The end of the session has been reported.
    is_closed: bool,
    /// Outputs are no longer taken.
    is_abandoned: bool,
    /// Outputs of inputs that were not dropped are missing: the stream does not end as if it were complete.
    is_cut: bool,
    overflow: Overflow,
    /// `on_change` was called, and the consumer has not looked since.
    is_notified: bool,
    /// The input put in last waits for room, and with it the producer of the next one, which may be the consumer of the outputs.
    is_held_up: bool,
}

impl<P: Payload> State<P> {
    /// Whether no more is put in, and all inputs are done.
    fn is_complete(&self) -> bool {
        self.is_ended && self.under_way == 0
    }

    /// Remove the outputs, which are not wanted. Errors stay: they have happened.
    fn take_outputs(&mut self) -> VecDeque<Next<P>> {
        self.outputs = 0;
        let is_error = |next: &Next<P>| matches!(next, Next::Failed(_));
        let (errors, outputs) = std::mem::take(&mut self.waiting).into_iter().partition(is_error);
        self.waiting = errors;
        outputs
    }
}

/// The outputs of the inputs that one stream puts in, in order.
pub struct Outbox<P: Payload> {
    state: Mutex<State<P>>,
    changed: Condvar,
    has_room: Condvar,
    capacity: usize,
    /// While this is set, a producer checks for room first, and never waits.
    never_waits: Arc<AtomicBool>,
    /// Counts how often outputs that were not taken have been dropped. Changes only while the state is locked.
    generation: AtomicU64,
    on_change: Option<Box<dyn Fn() + Send + Sync>>,
}

impl<P: Payload> Outbox<P> {
    /// An empty one, for `capacity` outputs and as many errors. `on_change` is called when something has changed since the last call of
    /// any of its methods; it never waits.
    pub fn new(capacity: usize, on_change: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            outputs: 0,
            under_way: 0,
            has_begun: false,
            is_ended: false,
            is_closed: false,
            is_abandoned: false,
            is_cut: false,
            overflow: Overflow::Wait,
            is_notified: false,
            is_held_up: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            has_room: Condvar::new(),
            capacity,
            never_waits: Arc::default(),
            generation: AtomicU64::new(0),
            on_change,
        }
    }

    /// The same, but a producer never waits while `never_waits` is set, and checks for room first. It may be the thread that takes
    /// them.
    #[must_use]
    pub fn waiting_unless(self, never_waits: &Arc<AtomicBool>) -> Self {
        Self { never_waits: Arc::clone(never_waits), ..self }
    }

    fn never_waits(&self) -> bool {
        self.never_waits.load(Ordering::SeqCst)
    }

    /// Wait until there may be room, for as long as `timeout`. Returns early when outputs are taken.
    pub fn wait_for_room(&self, timeout: Duration) {
        let mut state = self.state.lock();
        if self.room_in(&state) == 0 {
            self.has_room.wait_for(&mut state, timeout);
        }
    }

    fn room_in(&self, state: &State<P>) -> usize {
        if state.is_abandoned || state.overflow != Overflow::Wait {
            return usize::MAX;
        }
        let errors = if self.never_waits() { state.waiting.len() - state.outputs } else { 0 };
        self.capacity.saturating_sub(state.outputs.max(errors))
    }

    /// One more input is about to be put in. To be called before it is.
    pub fn expect_input(&self) {
        self.expect_inputs(1);
    }

    /// So many more inputs are about to be put in. To be called before they are.
    pub fn expect_inputs(&self, count: usize) {
        let mut state = self.state.lock();
        state.under_way += count;
        state.has_begun = true;
    }

    /// The input put in last waits for room: no other is brought before [`Outbox::go_on`].
    pub fn hold_up(&self) {
        self.state.lock().is_held_up = true;
    }

    /// The input has found room. Ends a wait in [`Outbox::next`].
    pub fn go_on(&self) {
        let mut state = self.state.lock();
        state.is_held_up = false;
        self.notify(state);
    }

    /// Whether the input put in last waits for room.
    pub fn is_held_up(&self) -> bool {
        self.state.lock().is_held_up
    }

    /// No more inputs are put in.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.is_ended = true;
        self.notify(state);
    }

    /// How many inputs are put in and not done, and outputs and errors not taken.
    pub fn load(&self) -> usize {
        let state = self.look();
        state.under_way + state.waiting.len()
    }

    /// Whether [`Outbox::next`] returns something without waiting.
    pub fn is_ready(&self) -> bool {
        let state = self.look();
        !state.waiting.is_empty() || state.is_closed || state.is_cut || state.is_complete()
    }

    /// The next output, or what there is instead within `timeout`; nothing as soon as the next input may be put in.
    pub fn next(&self, timeout: Duration) -> Next<P> {
        self.next_or_idle(timeout, false)
    }

    /// The same; nothing also when all inputs that were put in are done, if the caller `is_producer`.
    fn next_or_idle(&self, timeout: Duration, is_producer: bool) -> Next<P> {
        let mut state = self.look();
        let was_held_up = state.is_held_up;
        let mut deadline = None;
        loop {
            if let Some(next) = state.waiting.pop_front() {
                state.outputs -= usize::from(matches!(next, Next::Output(_)));
                drop(state);
                self.has_room.notify_all();
                return next;
            }
            if state.is_cut || (state.is_closed && !state.is_complete()) {
                return Next::Failed(RunError::Closed);
            }
            if state.is_complete() {
                return Next::End;
            }
            // Only a thread that waits reads the clock.
            let left = match deadline {
                None if timeout.is_zero() => Duration::ZERO,
                None => {
                    deadline = Some(Instant::now() + timeout);
                    timeout
                }
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            // Once all inputs are done, nothing would end the wait of who puts the next one in.
            let may_go_on = (was_held_up && !state.is_held_up) || (is_producer && state.under_way == 0);
            if left.is_zero() || may_go_on {
                return Next::Nothing;
            }
            state.is_notified = false;
            self.changed.wait_for(&mut state, left);
        }
    }

    /// All outputs that are there before the next error, at least the first one; or what there is instead within `timeout`. For the thread
    /// that puts the inputs in: nothing as soon as it may put in another, or all are done.
    pub fn next_ready(&self, timeout: Duration, outputs: &mut Vec<P>) -> Next<P> {
        let first = self.next_or_idle(timeout, true);
        if !matches!(first, Next::Output(_)) {
            return first;
        }
        let mut state = self.look();
        let is_output = |next: &&Next<P>| matches!(next, Next::Output(_));
        let ready = state.waiting.iter().take_while(is_output).count();
        outputs.extend(state.waiting.drain(..ready).filter_map(|next| match next {
            Next::Output(output) => Some(output),
            _ => None,
        }));
        state.outputs -= ready;
        drop(state);
        if ready > 0 {
            self.has_room.notify_all();
        }
        first
    }

    /// Take no more outputs: producers no longer wait. Errors are still returned.
    pub fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_abandoned = true;
        self.generation.fetch_add(1, Ordering::SeqCst);
        let outputs = state.take_outputs();
        self.notify(state);
        drop(outputs);
        self.has_room.notify_all();
    }

    /// Set what happens from now on to outputs when the queue is full.
    pub fn set_overflow(&self, overflow: Overflow) {
        let mut state = self.state.lock();
        state.overflow = overflow;
        drop(state);
        self.has_room.notify_all();
    }

    /// The first failure that was not returned yet.
    pub fn take_failure(&self) -> Option<RunError<P::Fault>> {
        let mut state = self.state.lock();
        let first = state.waiting.iter().position(|next| matches!(next, Next::Failed(_)))?;
        match state.waiting.remove(first) {
            Some(Next::Failed(error)) => Some(error),
            _ => None,
        }
    }

    /// The session closes: no more outputs arrive, and all waits end. If the stream is complete, its outputs can still be taken.
    pub fn close(&self) {
        let is_complete = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.is_cut |= !state.is_complete();
            state.is_complete()
        };
        if is_complete {
            self.notify(self.state.lock());
        } else {
            self.abandon();
        }
    }

    /// There is something new to look at.
    fn notify(&self, mut state: MutexGuard<'_, State<P>>) {
        let is_notified = std::mem::replace(&mut state.is_notified, true);
        drop(state);
        if is_notified {
            return;
        }
        self.changed.notify_all();
        if let Some(on_change) = &self.on_change {
            on_change();
        }
    }

    fn look(&self) -> MutexGuard<'_, State<P>> {
        let mut state = self.state.lock();
        state.is_notified = false;
        state
    }
}
