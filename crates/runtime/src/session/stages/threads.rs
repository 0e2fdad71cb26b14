//! The threads of a session: one for each stage, more where it works in parallel, one for a source.
//!
//! They start when the session opens, because nodes are initialized on them, and end after the nodes are cleaned up there.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::locks::Mutex;

use crate::failure::RunError;
use crate::limits::STACK_BYTES;
use crate::payload::Payload;
use crate::session::deadline::Deadline;
use crate::session::stages::batches::run_batches;
use crate::session::stages::concurrent::run_concurrent;
use crate::session::stages::replicas::{run_forwarder, run_replica};
use crate::session::stages::shared::Core;
use crate::session::stages::source;
use crate::session::stages::tasks::Tasks;
use crate::session::stages::work::run_in_order;
use crate::session::watchdog::Latch;

/// What a thread does until the session closes.
type Body<P> = Box<dyn FnOnce(&Arc<Core<P>>) + Send>;

/// What a thread that panicked says.
pub(crate) type Panic = Box<dyn std::any::Any + Send>;

/// What a thread of a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The nodes of a replica.
    Replica(usize),
    /// The node that makes the input.
    Source,
    /// Other work, which enters no nodes but those in other processes.
    Other,
}

/// The threads that run, each ended by [`Threads::join`].
#[derive(Default)]
pub(crate) struct Threads(Mutex<State>);

#[derive(Default)]
struct State {
    are_started: bool,
    running: Vec<Running>,
}

struct Running {
    thread: JoinHandle<()>,
    /// It does nothing any more but what others ask of it.
    is_idle: Arc<Latch>,
    has_ended: Arc<Latch>,
    stage: usize,
    role: Role,
}

impl Threads {
    /// Start the threads of the stages, unless they have been started. A session of several threads is closed if one of them is refused.
    pub(crate) fn start<P: Payload>(&self, core: &Arc<Core<P>>) -> io::Result<()> {
        let mut state = self.0.lock();
        // A thread that starts after the end would never be ended.
        if state.are_started || core.is_closed() {
            return Ok(());
        }
        for stage in &core.stages {
            let index = stage.index;
            let planned = &core.plan.stages()[index];
            if stage.reorder.is_none() {
                state.start(core, (index, Role::Replica(0)), Box::new(move |core| run_in_order(core, index)))?;
                continue;
            }
            state.start(core, (index, Role::Other), Box::new(move |core| run_forwarder(core, index)))?;
            if planned.options.concurrency > 1 || planned.sends_ahead() {
                state.start(core, (index, Role::Replica(0)), Box::new(move |core| run_concurrent(core, index)))?;
                continue;
            }
            let run = if planned.options.batch.is_some() { run_batches } else { run_replica };
            for replica in 0..stage.replicas.len() {
                state.start(core, (index, Role::Replica(replica)), Box::new(move |core| run(core, index, replica)))?;
            }
        }
        if core.source_tasks.is_some() {
            let first = core.plan.stage_of(0);
            state.start(core, (first, Role::Source), Box::new(source::run_when_asked))?;
        }
        state.are_started = true;
        Ok(())
    }

    /// Wait until the threads do nothing any more but what others ask of them. Returns those that don't get there before the deadline.
    pub(crate) fn wait_until_idle<P: Payload>(&self, deadline: &mut Deadline<'_, P>) -> Vec<(usize, Role)> {
        let state = self.0.lock();
        let threads: Vec<_> =
            state.running.iter().map(|thread| (Arc::clone(&thread.is_idle), thread.stage, thread.role)).collect();
        drop(state);
        let is_busy =
            |(is_idle, stage, role): (Arc<Latch>, _, _)| (!deadline.wait_for(&is_idle)).then_some((stage, role));
        threads.into_iter().filter_map(is_busy).collect()
    }

    /// Wait for the end of all threads but the busy ones, until the deadline. The others are abandoned. Returns the first panic.
    pub(crate) fn join<P: Payload>(&self, deadline: &mut Deadline<'_, P>, busy: &[(usize, Role)]) -> Option<Panic> {
        let running = std::mem::take(&mut self.0.lock().running);
        let mut panic = None;
        for Running { thread, has_ended, stage, role, .. } in running {
            let is_busy = busy.contains(&(stage, role));
            if if is_busy { has_ended.wait_until(Instant::now()) } else { deadline.wait_for(&has_ended) } {
                panic = panic.or(thread.join().err());
            }
        }
        panic
    }
}

impl State {
    fn start<P: Payload>(&mut self, core: &Arc<Core<P>>, place: (usize, Role), body: Body<P>) -> io::Result<()> {
        let core = Arc::clone(core);
        let (is_idle, has_ended) = (Arc::new(Latch::default()), Arc::new(Latch::default()));
        let (idle_guard, end_guard) = (Arc::clone(&is_idle).guard(), Arc::clone(&has_ended).guard());
        let work = move || {
            let mut life = Ok(());
            P::live(|| life = live(&core, place, body, idle_guard));
            drop(core);
            drop(end_guard);
            life.unwrap_or_else(|panic| resume_unwind(panic));
        };
        let (stage, role) = place;
        let builder = std::thread::Builder::new().name(format!("remotemedia-{stage}")).stack_size(STACK_BYTES);
        let thread = builder.spawn(work)?;
        self.running.push(Running { thread, is_idle, has_ended, stage, role });
        Ok(())
    }
}

/// The life of a thread: its own work, and after that what others ask of it.
fn live<P: Payload>(
    core: &Arc<Core<P>>,
    (stage, role): (usize, Role),
    body: Body<P>,
    idle_guard: impl Send,
) -> std::thread::Result<()> {
    let tasks = tasks_of(core, stage, role);
    if let Some(tasks) = tasks {
        tasks.adopt_thread();
    }
    let life = catch_unwind(AssertUnwindSafe(|| body(core)));
    if life.is_err() {
        // No thread works on the inputs in flight any more.
        core.abort(|| RunError::Closed);
    }
    drop(idle_guard);
    if let Some(tasks) = tasks {
        tasks.run_until(|| false);
    }
    life
}

fn tasks_of<P: Payload>(core: &Core<P>, stage: usize, role: Role) -> Option<&Tasks> {
    match role {
        Role::Replica(replica) => core.stages[stage].replicas[replica].tasks.as_ref(),
        Role::Source => core.source_tasks.as_deref(),
        Role::Other => None,
    }
}
