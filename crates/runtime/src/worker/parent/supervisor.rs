//! The thread that keeps a worker: it starts one, attends to it until its end, and puts another in its place.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::payload::Payload;
use crate::worker::parent::client::{Life, Remote, State};
use crate::worker::parent::connection::Connection;
use crate::worker::parent::jobs::Jobs;
use crate::worker::parent::monitor::held_output::HeldBack;
use crate::worker::parent::monitor::{End, monitor};
use crate::worker::parent::process::Process;
use crate::worker::parent::process::launch::launch;
use crate::worker::protocol::connection::{Link, pair};
use crate::worker::protocol::frame::{Head, Kind, Wishes};
use crate::worker::protocol::status_page::Page;
use crate::worker::{ExitCause, WorkerExit};

/// The pause before the second of several restarts; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The life of the supervisor's thread.
pub(crate) fn run<P: Payload>(remote: &Arc<Remote<P>>) {
    let life = catch_unwind(AssertUnwindSafe(|| supervise(remote)));
    if life.is_err() {
        // The panic was printed already; end every wait for its worker.
        let exit = remote.first_node_exit(ExitCause::NotStarted("its supervisor thread panicked".to_owned()));
        retire(remote, Life::Failed, Some(&exit));
    }
}

fn supervise<P: Payload>(remote: &Arc<Remote<P>>) {
    let mut restarts: Vec<Instant> = Vec::new();
    let mut has_been_ready = false;
    let mut held_back = HeldBack::default();
    loop {
        let mut end = match start(remote) {
            Ok(process) => monitor(remote, process, &mut held_back),
            Err(cause) => End {
                cause,
                process: None,
                stderr: String::new(),
                crash_output: Vec::new(),
                reading: None,
                begun: 0,
                was_ready: false,
                is_in_order: false,
                has_failed_restore: false,
            },
        };
        has_been_ready |= end.was_ready;
        if end.is_in_order && (end.was_ready || !has_been_ready) {
            held_back.add(remote, end.crash_output, None, None);
            return retire(remote, Life::Ended, None);
        }
        let now = Instant::now();
        restarts.retain(|then| now.duration_since(*then) < remote.spec.options.restart_window);
        let counts = !(end.was_ready && matches!(end.cause, ExitCause::TimedOut(_)));
        let is_spent = counts && restarts.len() >= remote.spec.options.max_restarts;
        let is_final = remote.is_ending() || !has_been_ready || is_spent || end.has_failed_restore;
        let exit = remote.worker_exit(&end, restarts.len(), is_final);
        if has_been_ready && !remote.is_ending() {
            remote.codec.log_exit(&remote.spec.node_ids, &exit);
        }
        if end.has_failed_restore {
            remote.fail_oldest_job();
        }
        let (crash_output, item) =
            (std::mem::take(&mut end.crash_output), end.reading.and_then(|reading| reading.input));
        if is_final {
            held_back.add(remote, crash_output, item, Some(&exit));
            return retire(remote, Life::Failed, Some(&exit));
        }
        if counts {
            restarts.push(now);
        }
        remote.counters.restarts.fetch_add(1, Ordering::Relaxed);
        let is_reported = end.was_ready && remote.fail_poison_items(&exit, &end);
        held_back.add(remote, crash_output, item, is_reported.then_some(&exit));
        pause(remote, restarts.len());
    }
}

/// A worker that dies again and again is not started at once.
fn pause<P: Payload>(remote: &Remote<P>, restarts: usize) {
    let Some(doublings) = restarts.checked_sub(2) else { return };
    let exponent = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << exponent).min(LONGEST_PAUSE);
    let goes_on = |state: &mut State<P>| !state.is_closing && state.end_by.is_none();
    remote.changed.wait_while_for(&mut remote.lock(), goes_on, pause);
}

/// The worker is gone for good: fail all pending replies.
pub(crate) fn retire<P: Payload>(remote: &Remote<P>, life: Life, exit: Option<&WorkerExit>) {
    remote.forget_supervisor();
    remote.counters.forget_process();
    let (unfinished, former) = {
        let mut state = remote.lock();
        state.life = life;
        state.exit = exit.cloned();
        (std::mem::replace(&mut state.pending, Jobs::new()), state.connection.take())
    };
    remote.note_traffic(former.as_deref());
    remote.changed.notify_all();
    for pending in unfinished.into_values() {
        let exit = exit.cloned().unwrap_or_else(|| remote.has_closed());
        pending.fail(remote, remote.codec.lost(&exit));
    }
    remote.changed.notify_all();
}

/// Start a process and send it what its nodes are.
fn start<P: Payload>(remote: &Arc<Remote<P>>) -> Result<Process, ExitCause> {
    let failed = |error: io::Error| ExitCause::NotStarted(error.to_string());
    let (data, data_there) = pair().map_err(failed)?;
    let (control, control_there) = pair().map_err(failed)?;
    let (page, page_there) = Page::create().map_err(failed)?;
    page.progress.leave();
    let (spec, begun) = (&remote.spec, Instant::now());
    let is_in_time = || begun.elapsed() < spec.options.initialize_timeout && !remote.is_ending();
    let process = launch(spec.program.clone(), spec.arguments.clone(), data_there, is_in_time);
    let process = process.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut if remote.is_ending() => ExitCause::Abandoned,
        io::ErrorKind::TimedOut => ExitCause::TimedOut(spec.options.initialize_timeout),
        _ => ExitCause::NotStarted(format!("{}: {error}", spec.program.to_string_lossy())),
    })?;
    if let Some(former) = remote.counters.note_process(process.id()) {
        remote.codec.log_restart(&remote.spec.node_ids, process.id(), former);
    }
    let connection = Arc::new(Connection { link: Link::new(data), control: Link::new(control), page });
    connection.link.keep_files(spec.passes_on);
    let wishes = Wishes {
        with_metrics: remote.spec.with_metrics,
        is_timed: remote.spec.timeout.is_some(),
        snapshot_every: remote.spec.options.snapshot_every,
        careful_below: remote.first_unsent(),
    };
    let wishes = serde_json::to_vec(&wishes).expect("numbers and flags are JSON");
    connection.link.post_files(Head::new(Kind::Hello, 0), &wishes, vec![control_there, page_there]);
    let mut message = connection.link.message();
    let written = (remote.spec.setup)(&mut message);
    let missing = message.missing();
    connection.link.post(Head::new(Kind::Setup, 0), message);
    if let Err(fault) = written.and_then(|()| missing.map_or(Ok(()), |bytes| Err(remote.codec.no_memory(bytes)))) {
        remote.note_fault(0, fault);
        return Err(ExitCause::NotStarted("its nodes cannot be serialized".to_owned()));
    }
    let mut state = remote.lock();
    state.life = Life::Starting;
    state.connection = Some(connection);
    state.interruptions.1 = state.interruptions.0;
    remote.changed.notify_all();
    Ok(process)
}
