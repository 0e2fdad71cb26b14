//! Nodes whose work is done in another process.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::execution::metrics::WorkerMetrics;
use crate::limits::CLOSE_TIMEOUT;
use crate::node::concurrent::{Concurrent, Done, EndEarly, EndPack, PackDone, Start};
use crate::node::{Batched, Node, NodeInfo, Outputs, RemoteStage, StepObserver, WorkerHandle};
use crate::payload::Payload;
use crate::phase::Phase;
use crate::worker::parent::client::{Life, Remote, State};
use crate::worker::parent::connection::Job;
use crate::worker::parent::jobs::Reply;
use crate::worker::parent::process::EXIT_TIMEOUT;
use crate::worker::parent::{process, supervisor};
use crate::worker::protocol::poll::POLL_INTERVAL;
use crate::worker::usage::usage;
use crate::worker::{ExitCause, ItemCodec, WorkerExit, WorkerSpec};

/// A worker that is past its time is gone after as long, unless its supervisor is held up.
const REAP_TIMEOUT: Duration = EXIT_TIMEOUT.saturating_add(Duration::from_secs(1));

/// The nodes of a stage that runs in a worker: the first one takes the items of all of them, the others nothing.
pub fn remote_nodes<P: Payload>(
    spec: WorkerSpec<P>,
    codec: Arc<dyn ItemCodec<P>>,
) -> std::io::Result<Vec<Box<dyn Node<P>>>> {
    let count = spec.node_ids.len();
    let remote = Arc::new(Remote::new(spec, codec)?);
    let node = |index| RemoteNode { remote: Arc::clone(&remote), index, supervisor: None, item_index: None };
    Ok((0..count).map(|index| Box::new(node(index)) as Box<dyn Node<P>>).collect())
}

/// One node of such a stage.
struct RemoteNode<P: Payload> {
    remote: Arc<Remote<P>>,
    /// Its number in the stage.
    index: usize,
    supervisor: Option<JoinHandle<()>>,
    /// The index of the next item, or of the first one of the next batch.
    item_index: Option<u64>,
}

impl<P: Payload> RemoteNode<P> {
    /// What drops jobs. It does not hold the worker: a job that never ends would else hold it for ever.
    fn end_early(&self, numbers: Range<u64>) -> EndEarly {
        let remote = Arc::downgrade(&self.remote);
        Box::new(move || {
            if let Some(remote) = remote.upgrade() {
                remote.drop_jobs(numbers);
            }
        })
    }

    fn take_fault(&self) -> Result<(), P::Fault> {
        let (fault, exit) = {
            let mut state = self.remote.lock();
            let exit = (self.index == 0 && state.life == Life::Failed).then(|| state.exit.clone()).flatten();
            (state.faults[self.index].take(), exit)
        };
        self.fault_or_exit(fault, exit)
    }

    fn fault_or_exit(&self, fault: Option<P::Fault>, exit: Option<WorkerExit>) -> Result<(), P::Fault> {
        fault.or_else(|| exit.map(|exit| self.remote.codec.lost(&exit))).map_or(Ok(()), Err)
    }

    fn start_supervisor(&mut self) {
        let remote = Arc::clone(&self.remote);
        remote.lock().life = Life::Starting;
        let life = move || P::live(|| supervisor::run(&remote));
        let name = format!("{}-supervisor", self.remote.spec.node_ids[0]);
        match std::thread::Builder::new().name(name).spawn(life) {
            Ok(supervisor) => self.supervisor = Some(supervisor),
            Err(error) => {
                let cause = ExitCause::NotStarted(format!("cannot start a thread for it: {error}"));
                let exit = WorkerExit { phase: Phase::Initialize, ..self.remote.first_node_exit(cause) };
                supervisor::retire(&self.remote, Life::Failed, Some(&exit));
            }
        }
    }

    /// Wait for the result of a job.
    fn ask(&self, job: Job<P>) -> Result<Outputs<P>, P::Fault> {
        let reply = |sender: SyncSender<_>| Reply::Whole(Box::new(move |result| drop(sender.send(result))));
        self.wait_for_reply(job, reply).unwrap_or(Ok(Outputs::None))
    }

    /// Begin with a job, and wait for what its reply sends; `None` if it is dropped.
    fn wait_for_reply<R: Send>(&self, job: Job<P>, reply: impl FnOnce(SyncSender<R>) -> Reply<P>) -> Option<R> {
        let (sender, receiver) = sync_channel(1);
        self.remote.begin([(job, self.item_index, reply(sender))]);
        let remote = &self.remote;
        P::wait(move || {
            remote.flush();
            receiver.recv().ok()
        })
    }

    /// Wait for the end of the worker; whether it came in time. What its supervisor hands on may hold the supervisor. A stop request to this thread,
    /// such as a second Ctrl-C, ends the worker at once, and is returned, too.
    fn wait_until_gone(&self) -> (bool, Option<P::Fault>) {
        let remote = &self.remote;
        let look = || {
            let mut state = remote.lock();
            let is_there = |state: &mut State<P>| !matches!(state.life, Life::Failed | Life::Ended | Life::Unborn);
            let is_there = remote.changed.wait_while_for(&mut state, is_there, POLL_INTERVAL);
            let end_by = state.end_by.unwrap_or_else(|| Instant::now() + CLOSE_TIMEOUT);
            (!is_there, Instant::now() >= end_by + REAP_TIMEOUT)
        };
        let mut stop_request = None;
        loop {
            let (is_gone, is_late) = P::wait(look);
            if is_gone || is_late {
                return (is_gone, stop_request);
            }
            if let Err(new) = P::check_signals() {
                stop_request = Some(new);
                remote.lock().end_by = Some(Instant::now());
                remote.wake_supervisor();
            }
        }
    }

    /// Nodes may take long to initialize: Ctrl-C ends the wait, and them.
    fn wait_until_ready(&self) -> Result<(), P::Fault> {
        let remote = &self.remote;
        let is_starting = || {
            let mut state = remote.lock();
            let is_starting = |state: &mut State<P>| state.life == Life::Starting;
            remote.changed.wait_while_for(&mut state, is_starting, POLL_INTERVAL)
        };
        while P::wait(is_starting) {
            let stop_request = P::check_signals().err();
            if stop_request.is_some() || remote.spec.cancel.is_set() {
                {
                    let mut state = remote.lock();
                    state.end_by = Some(Instant::now());
                    // It may have become ready in this moment.
                    state.is_start_cancelled = true;
                }
                remote.wake_supervisor();
                return stop_request.map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        {
            let mut state = self.remote.lock();
            state.is_closing = true;
            state.end_by.get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT);
        }
        self.remote.changed.notify_all();
        self.remote.wake_supervisor();
    }
}

impl<P: Payload> Node<P> for RemoteNode<P> {
    fn initialize(&mut self) -> Result<(), P::Fault> {
        if self.index == 0 {
            self.prepare();
        }
        self.wait_until_ready()?;
        self.take_fault()
    }

    fn process(&mut self, item: P) -> Result<Outputs<P>, P::Fault> {
        match self.remote.directly(item, self.item_index) {
            Ok(result) => result,
            Err(item) => self.ask(Job::Item(item)),
        }
    }

    fn flush(&mut self) -> Result<Outputs<P>, P::Fault> {
        if self.index > 0 {
            // The first node flushes all of them.
            return Ok(Outputs::None);
        }
        self.item_index = None;
        self.ask(Job::Flush)
    }

    fn interrupt(&mut self) -> Result<(), P::Fault> {
        if self.index == 0 {
            let remote = &self.remote;
            remote.interrupt(true);
            P::wait(|| remote.wait_until_interrupted());
        }
        Ok(())
    }

    fn cleanup(&mut self) -> Result<(), P::Fault> {
        self.end();
        let (is_gone, stop_request) = self.wait_until_gone();
        if !is_gone {
            let exit = WorkerExit { phase: Phase::Cleanup, ..self.remote.first_node_exit(ExitCause::Abandoned) };
            return Err(stop_request.unwrap_or_else(|| self.remote.codec.lost(&exit)));
        }
        if let Some(supervisor) = self.supervisor.take() {
            // A panic was already reported.
            P::wait(|| supervisor.join()).ok();
        }
        stop_request.map_or_else(|| self.take_cleanup_fault(), Err)
    }

    fn announce(&mut self, item_indices: &[u64]) {
        self.item_index = item_indices.first().copied();
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { keeps_time: true, ..NodeInfo::default() }
    }

    fn as_batch(&mut self) -> Option<&mut dyn Batched<P>> {
        Some(self)
    }

    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<P>> {
        Some(self)
    }

    fn as_remote(&mut self) -> Option<&mut dyn RemoteStage> {
        if self.index == 0 { Some(self) } else { None }
    }
}

impl<P: Payload> Batched<P> for RemoteNode<P> {
    fn process_batch(&mut self, items: Vec<P>) -> Result<Vec<Option<P>>, P::Fault> {
        let count = items.len();
        let nothing = || (0..count).map(|_| None).collect();
        let reply = |sender: SyncSender<_>| Reply::Batch(nothing(), Box::new(move |result| drop(sender.send(result))));
        self.wait_for_reply(Job::Batch(items), reply).unwrap_or_else(|| Ok(nothing()))
    }
}

impl<P: Payload> Concurrent<P> for RemoteNode<P> {
    fn start(&mut self, item: P, item_index: Option<u64>, done: Done<P>) -> Option<EndEarly> {
        let numbers = self.remote.begin([(Job::Item(item), item_index, Reply::Whole(done))]);
        numbers.into_iter().next().map(|numbers| self.end_early(numbers))
    }

    fn start_all(&mut self, starts: Vec<Start<P>>) -> Vec<Option<EndEarly>> {
        let begun = |start: Start<P>| (Job::Item(start.item), Some(start.item_index), Reply::Whole(start.done));
        let numbers = self.remote.begin(starts.into_iter().map(begun)).into_iter();
        numbers.map(|numbers| Some(self.end_early(numbers))).collect()
    }

    fn start_pack(&mut self, _context: &P::Context, items: Vec<(u64, P)>, done: &Arc<dyn PackDone<P>>) -> EndPack {
        let begun = self.remote.begin([(Job::Pack(items), None, Reply::Pack(Arc::clone(done)))]);
        let numbers = begun.into_iter().next().unwrap_or_default();
        let remote = Arc::downgrade(&self.remote);
        Box::new(move |places| {
            if let Some(remote) = remote.upgrade() {
                let number = |place: usize| (numbers.start + place as u64).min(numbers.end);
                remote.drop_jobs(number(places.start)..number(places.end));
            }
        })
    }
}

impl<P: Payload> RemoteStage for RemoteNode<P> {
    fn prepare(&mut self) {
        if self.supervisor.is_none() {
            self.start_supervisor();
        }
    }

    fn handle(&self) -> Arc<dyn WorkerHandle> {
        Arc::clone(&self.remote) as Arc<dyn WorkerHandle>
    }
}

impl<P: Payload> RemoteNode<P> {
    /// What the node's `cleanup` failed with. That the worker is gone is reported only if no call has failed with it.
    fn take_cleanup_fault(&self) -> Result<(), P::Fault> {
        let mut state = self.remote.lock();
        let is_late = |exit: &WorkerExit| exit.cause == ExitCause::Abandoned && exit.phase != Phase::Initialize;
        let is_unreported = |exit: &mut WorkerExit| is_late(exit) || exit.phase == Phase::Cleanup;
        let exit = state.exit.take_if(|exit| self.index == 0 && is_unreported(exit));
        let fault = state.faults[self.index].take();
        drop(state);
        self.fault_or_exit(fault, exit)
    }
}

impl<P: Payload> Drop for RemoteNode<P> {
    fn drop(&mut self) {
        if self.index == 0 && self.supervisor.is_some() {
            // Its supervisor ends by itself; waiting for it here could be waiting for oneself.
            self.remote.lock().end_by = Some(Instant::now());
            self.end();
        }
    }
}

impl<P: Payload> WorkerHandle for Remote<P> {
    fn discard(&self) {
        self.interrupt(false);
    }

    fn forget_items(&self) {
        Self::forget_items(self);
    }

    fn hand_over(&self) {
        self.flush();
    }

    fn end_by(&self, deadline: Instant) {
        {
            let mut state = self.lock();
            state.end_by = Some(state.end_by.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.changed.notify_all();
        self.wake_supervisor();
    }

    fn cancel_calls(&self) {
        self.lock().must_cancel_calls = true;
        self.wake_supervisor();
    }

    fn process_id(&self) -> Option<u32> {
        self.counters.process()
    }

    fn at_work(&self) -> Option<(u64, usize)> {
        let connection = self.lock().connection.clone()?;
        let (job, node) = connection.page.at_work()?;
        Some((job, node.min(self.spec.node_ids.len() - 1)))
    }

    fn busy(&self) -> Option<Duration> {
        let connection = self.lock().connection.clone().filter(|_| !self.spec.is_concurrent())?;
        Some(connection.page.busy())
    }

    fn dump_stacks(&self) {
        if let Some(process) = self.process_id() {
            process::signal_stack_dump(process);
        }
    }

    fn metrics(&self) -> WorkerMetrics {
        let counters = &self.counters;
        let connection = self.lock().connection.clone();
        let (sent, received) = connection.map_or((0, 0), |connection| connection.link.traffic());
        let usage = self.process_id().and_then(|id| usage(&id.to_string()));
        let alive = usage.unwrap_or_default();
        WorkerMetrics {
            processes: u64::from(usage.is_some()),
            process_ids: self.process_id().filter(|_| usage.is_some()).into_iter().collect(),
            restarts: counters.restarts.load(Ordering::Relaxed),
            redeliveries: counters.redeliveries.load(Ordering::Relaxed),
            sent_bytes: counters.sent_bytes.load(Ordering::Relaxed) + sent,
            received_bytes: counters.received_bytes.load(Ordering::Relaxed) + received,
            transport_us: counters.transport_ns.load(Ordering::Relaxed) / 1000,
            cpu_us: counters.ended_cpu_us.load(Ordering::Relaxed) + alive.cpu_us,
            resident_bytes: if usage.is_some() {
                alive.resident_bytes
            } else {
                counters.ended_resident_bytes.load(Ordering::Relaxed)
            },
        }
    }

    fn observe_steps(&self, observer: StepObserver) {
        // Requested once, when the session is built.
        self.step_observer.set(observer).ok();
    }
}
