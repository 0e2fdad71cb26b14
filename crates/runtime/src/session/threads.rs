//! The threads of a session: one for each stage, more where it works in parallel, one for a source.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::batches::run_batches;
use super::concurrent::run_concurrent;
use super::core::Core;
use super::parallel::{run_forwarder, run_replica};
use super::stage::run_in_order;
use super::watch::Latch;
use crate::{Payload, RunError};

/// Stack of the thread of a stage: deep recursion in user code must end as an error of its language.
const STACK_BYTES: usize = 16 << 20;

/// What a thread does.
type Body<P> = Box<dyn FnOnce(&Arc<Core<P>>) + Send>;

/// What a thread that panicked says.
pub(super) type Panic = Box<dyn std::any::Any + Send>;

/// The threads that run, each ended by [`Threads::join`].
#[derive(Default)]
pub(super) struct Threads(Mutex<State>);

#[derive(Default)]
struct State {
    are_started: bool,
    running: Vec<Running>,
}

struct Running {
    thread: JoinHandle<()>,
    has_ended: Arc<Latch>,
    stage: usize,
}

impl Threads {
    /// Start one more thread.
    pub(super) fn start<P: Payload>(&self, core: &Arc<Core<P>>, stage: usize, body: Body<P>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.start(core, stage, body);
    }

    /// Start the threads of the stages, if none has needed them yet.
    pub(super) fn start_stages<P: Payload>(&self, core: &Arc<Core<P>>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.are_started, true) {
            return;
        }
        for stage in &core.stages {
            let index = stage.index;
            let planned = &core.plan.stages()[index];
            if stage.reorder.is_none() {
                state.start(core, index, Box::new(move |core| run_in_order(core, index)));
                continue;
            }
            state.start(core, index, Box::new(move |core| run_forwarder(core, index)));
            if planned.options.concurrency > 1 || planned.sends_ahead() {
                state.start(core, index, Box::new(move |core| run_concurrent(core, index)));
                continue;
            }
            let run = if planned.options.batch.is_some() { run_batches } else { run_replica };
            for unit in 0..stage.units.len() {
                state.start(core, index, Box::new(move |core| run(core, index, unit)));
            }
        }
    }

    /// Wait for all threads until the deadline. Answers the stages whose threads have not come back, and the first panic.
    pub(super) fn join(&self, deadline: Instant) -> (Vec<usize>, Option<Panic>) {
        let running = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).running);
        let mut left_behind = Vec::new();
        let mut panic = None;
        for Running { thread, has_ended, stage } in running {
            if has_ended.wait_until(deadline) {
                panic = panic.or(thread.join().err());
            } else {
                left_behind.push(stage);
            }
        }
        left_behind.dedup();
        (left_behind, panic)
    }
}

impl State {
    fn start<P: Payload>(&mut self, core: &Arc<Core<P>>, stage: usize, body: Body<P>) {
        // Nobody would end a thread that starts after the end.
        if core.is_closed() {
            return;
        }
        let core = Arc::clone(core);
        let has_ended = Arc::new(Latch::default());
        let guard = Arc::clone(&has_ended).guard();
        let work = move || {
            let life = catch_unwind(AssertUnwindSafe(|| P::live(|| body(&core))));
            if life.is_err() {
                // Nobody works on the inputs under way any more.
                core.break_off(|| RunError::Closed);
            }
            drop(core);
            drop(guard);
            life.unwrap_or_else(|panic| resume_unwind(panic));
        };
        let builder = std::thread::Builder::new().name(format!("remotemedia-{stage}")).stack_size(STACK_BYTES);
        let thread = builder.spawn(work).expect("the system has a thread for a stage");
        self.running.push(Running { thread, has_ended, stage });
    }
}
