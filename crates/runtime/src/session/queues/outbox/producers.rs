//! How the stages hand outputs over to a stream, and the ends of its inputs.

use std::sync::atomic::Ordering;

use super::{Next, Outbox, Overflow, State};
use crate::failure::RunError;
use crate::payload::Payload;
use crate::session::queues::clients::Client;
use crate::session::queues::locks::MutexGuard;

impl<P: Payload> Outbox<P> {
    /// Wait while it `is_full`. Returns `None` if outputs are no longer taken, or those of this generation are not wanted.
    fn wait_while(
        &self,
        generation: Option<u64>,
        is_full: impl Fn(&State<P>) -> bool,
    ) -> Option<MutexGuard<'_, State<P>>> {
        let mut state = self.state.lock();
        let generation = generation.unwrap_or_else(|| self.generation());
        while state.overflow == Overflow::Wait
            && is_full(&state)
            && !state.is_abandoned
            && self.generation() == generation
        {
            self.has_room.wait(&mut state);
        }
        (!state.is_abandoned && self.generation() == generation).then_some(state)
    }
}

impl<P: Payload> Client<P> for Outbox<P> {
    fn output(&self, output: P) {
        let Some(mut state) = self.wait_while(None, |state| state.outputs >= self.capacity && !self.never_waits())
        else {
            return;
        };
        if state.overflow == Overflow::Drop && state.outputs >= self.capacity {
            state.is_cut = true;
            drop(state);
            return self.abandon();
        }
        state.waiting.push_back(Next::Output(output));
        state.outputs += 1;
        self.notify(state);
    }

    fn outputs(&self, outputs: Vec<P>) {
        let mut outputs = outputs.into_iter();
        loop {
            let mut state = self.state.lock();
            if state.is_abandoned {
                return;
            }
            let room = self.capacity.saturating_sub(state.outputs);
            let before = state.waiting.len();
            state.waiting.extend(outputs.by_ref().take(room).map(Next::Output));
            state.outputs += state.waiting.len() - before;
            self.notify(state);
            // One without room waits, or is dropped.
            match outputs.next() {
                Some(output) => self.output(output),
                None => return,
            }
        }
    }

    fn room(&self) -> usize {
        self.room_in(&self.state.lock())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn fails(&self, generation: u64) {
        drop(self.wait_while(Some(generation), |state| {
            state.waiting.len() - state.outputs >= self.capacity && !self.never_waits()
        }));
    }

    fn done(&self, outcome: Result<(), RunError<P::Fault>>) {
        self.chunk_done(1, outcome);
    }

    fn chunk_done(&self, items: u64, outcome: Result<(), RunError<P::Fault>>) {
        let mut state = self.state.lock();
        state.under_way = state.under_way.saturating_sub(usize::try_from(items).unwrap_or(usize::MAX));
        match outcome {
            // The stream goes on with the next input: who waits in `next` has nothing to see, and is not woken.
            Ok(()) | Err(RunError::Interrupted | RunError::Cancelled)
                if self.on_change.is_none() && state.under_way > 0 =>
            {
                return;
            }
            Ok(()) | Err(RunError::Interrupted | RunError::Cancelled) => {}
            Err(RunError::Closed) if state.is_closed => {}
            // A stream that is left returns one failure.
            Err(_) if state.is_abandoned && !state.waiting.is_empty() => {}
            Err(_) if state.overflow == Overflow::Drop && state.waiting.len() - state.outputs >= self.capacity => {}
            Err(error) => {
                state.is_closed |= matches!(error, RunError::Closed);
                state.waiting.push_back(Next::Failed(error));
            }
        }
        self.notify(state);
    }

    fn is_left(&self) -> bool {
        let mut state = self.state.lock();
        std::mem::take(&mut state.has_begun) && !state.is_complete()
    }

    fn keeps_outputs(&self) -> bool {
        true
    }

    fn interrupted(&self, count: u64) {
        let mut state = self.state.lock();
        // The stream goes on with the next input.
        state.under_way = state.under_way.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        self.notify(state);
    }

    fn forget(&self) {
        let mut state = self.state.lock();
        self.generation.fetch_add(1, Ordering::SeqCst);
        let outputs = state.take_outputs();
        drop(state);
        drop(outputs);
        self.has_room.notify_all();
    }
}
