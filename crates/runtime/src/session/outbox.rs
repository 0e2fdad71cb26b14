//! The bounded queue of outputs of one stream, between the last stage and whoever takes them.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};
use super::tracker::Client;
use crate::{Payload, RunError};

/// What a stream has for whoever asks.
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

/// What one input gave, or that it failed.
type Outcome<P> = Result<P, RunError<<P as Payload>::Fault>>;

struct State<P: Payload> {
    /// In the order of the inputs, a failure in the place of the outputs that are missing.
    outcomes: VecDeque<Outcome<P>>,
    /// Inputs put in and not done.
    under_way: usize,
    is_ended: bool,
    /// What ended the session, told once.
    end: Option<RunError<P::Fault>>,
    /// The session takes no more, so that nothing more can come.
    is_closed: bool,
    /// Nobody takes outputs any more.
    is_abandoned: bool,
    forgotten: u64,
}

/// The outputs of the inputs that one stream puts in, in order.
pub struct Outbox<P: Payload> {
    state: Mutex<State<P>>,
    has_news: Condvar,
    has_room: Condvar,
    capacity: usize,
    on_news: Option<Box<dyn Fn() + Send + Sync>>,
}

impl<P: Payload> Outbox<P> {
    /// An empty one, for `capacity` outputs. `on_news` is called whenever [`Outbox::next`] has something new to say; it never waits.
    pub fn new(capacity: usize, on_news: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        let state = State {
            outcomes: VecDeque::new(),
            under_way: 0,
            is_ended: false,
            end: None,
            is_closed: false,
            is_abandoned: false,
            forgotten: 0,
        };
        Self { state: Mutex::new(state), has_news: Condvar::new(), has_room: Condvar::new(), capacity, on_news }
    }

    /// One more input is about to be put in. To be called before it is.
    pub fn expect_input(&self) {
        self.lock().under_way += 1;
    }

    /// No more inputs are put in.
    pub fn end(&self) {
        self.lock().is_ended = true;
        self.tell();
    }

    /// How many inputs are put in and not done, and outputs not taken.
    pub fn load(&self) -> usize {
        let state = self.lock();
        state.under_way + state.outcomes.len()
    }

    /// Whether [`Outbox::next`] has something to say without waiting.
    pub fn has_news(&self) -> bool {
        let state = self.lock();
        !state.outcomes.is_empty() || state.is_closed || (state.is_ended && state.under_way == 0)
    }

    /// The next output, or what there is instead within `patience`.
    pub fn next(&self, patience: Duration) -> Next<P> {
        let mut state = self.lock();
        let mut may_wait = !patience.is_zero();
        loop {
            if let Some(outcome) = state.outcomes.pop_front() {
                drop(state);
                self.has_room.notify_all();
                return outcome.map_or_else(Next::Failed, Next::Output);
            }
            if let Some(error) = state.end.take() {
                return Next::Failed(error);
            }
            if state.is_ended && state.under_way == 0 {
                return Next::End;
            }
            if state.is_closed {
                return Next::Failed(RunError::Closed);
            }
            if !may_wait {
                return Next::Nothing;
            }
            state = self.has_news.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
            may_wait = false;
        }
    }

    /// Take no more: whoever brings outputs no longer waits.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        let outcomes = std::mem::take(&mut state.outcomes);
        drop(state);
        drop(outcomes);
        self.has_room.notify_all();
        self.tell();
    }

    fn push(&self, outcome: Outcome<P>) {
        let mut state = self.lock();
        let forgotten = state.forgotten;
        while state.outcomes.len() >= self.capacity && !state.is_abandoned && state.forgotten == forgotten {
            state = self.has_room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_abandoned || state.forgotten != forgotten {
            drop(state);
            drop(outcome);
            return;
        }
        state.outcomes.push_back(outcome);
        drop(state);
        self.tell();
    }

    fn tell(&self) {
        self.has_news.notify_all();
        if let Some(on_news) = &self.on_news {
            on_news();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Payload> Client<P> for Outbox<P> {
    fn output(&self, output: P) {
        self.push(Ok(output));
    }

    fn done(&self, outcome: Result<(), RunError<P::Fault>>) {
        let end = match outcome {
            // The stream goes on with the next input.
            Ok(()) | Err(RunError::Interrupted) => None,
            Err(error @ (RunError::Node(_) | RunError::Interrupt(_))) => {
                self.push(Err(error));
                None
            }
            Err(error) => Some(error),
        };
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(1);
        if let Some(error) = end {
            state.is_closed = true;
            state.end.get_or_insert(error);
        }
        drop(state);
        self.tell();
    }

    fn forget(&self) {
        let mut state = self.lock();
        state.forgotten += 1;
        let outcomes = std::mem::take(&mut state.outcomes);
        drop(state);
        drop(outcomes);
        self.has_room.notify_all();
    }
}
