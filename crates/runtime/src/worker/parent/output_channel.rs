//! The outputs of one item that arrive one by one: the supervisor pushes them, the thread that forwards them takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::locks::{Condvar, Mutex};

use crate::limits::DEFAULT_QUEUE_SIZE;
use crate::node::Stream;
use crate::payload::Payload;

struct State<P: Payload> {
    outputs: VecDeque<P>,
    /// Nothing more comes; the fault is why, unless the item ended well.
    end: Option<Result<(), P::Fault>>,
    /// The rest is not wanted.
    is_closed: bool,
}

impl<P: Payload> State<P> {
    fn is_full(&self) -> bool {
        self.outputs.len() >= DEFAULT_QUEUE_SIZE && !self.is_closed
    }
}

/// A bounded queue of outputs.
pub(crate) struct Channel<P: Payload> {
    state: Mutex<State<P>>,
    changed: Condvar,
}

impl<P: Payload> Channel<P> {
    pub(crate) fn new(first: P) -> Self {
        let state = State { outputs: VecDeque::from([first]), end: None, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Add an output; waits while there are many.
    pub(crate) fn push(&self, output: P) {
        if self.state.lock().is_full() {
            P::wait(|| {
                let mut state = self.state.lock();
                while state.is_full() {
                    self.changed.wait(&mut state);
                }
            });
        }
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return drop(output);
        }
        state.outputs.push_back(output);
        self.changed.notify_all();
    }

    /// Nothing more comes.
    pub(crate) fn end(&self, end: Result<(), P::Fault>) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// The rest is not wanted: end all waits.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let outputs = std::mem::take(&mut state.outputs);
        self.changed.notify_all();
        drop(state);
        drop(outputs);
    }

    fn take(&self) -> Result<Option<P>, P::Fault> {
        let mut state = self.state.lock();
        loop {
            if let Some(output) = state.outputs.pop_front() {
                self.changed.notify_all();
                return Ok(Some(output));
            }
            if state.is_closed {
                return Ok(None);
            }
            if let Some(end) = &mut state.end {
                return std::mem::replace(end, Ok(())).map(|()| None);
            }
            self.changed.wait(&mut state);
        }
    }
}

/// The taker's end of a [`Channel`].
pub(crate) struct Drawn<P: Payload>(pub(crate) Arc<Channel<P>>);

impl<P: Payload> Stream<P> for Drawn<P> {
    fn next(&mut self) -> Result<Option<P>, P::Fault> {
        P::wait(|| self.0.take())
    }

    fn close(&mut self) -> Result<(), P::Fault> {
        self.0.close();
        Ok(())
    }
}

impl<P: Payload> Drop for Drawn<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}
