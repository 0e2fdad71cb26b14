//! The end of a session with workers, whatever they are at.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use remotemedia_runtime::worker::ExitCause;
use serde_json::json;

use super::{Fault, HOLD_UP, STUMBLE, TIMEOUT, Thing, cause, open};

#[test]
fn a_cleanup_that_fails_is_reported() {
    let workers = open(&["fail late"], json!({}));

    assert_eq!(workers.close(), [Fault::StdStream("fail late in cleanup: StdStream(\"at the end\")".into())]);
}

#[test]
fn a_worker_that_hangs_does_not_hold_up_the_end() {
    let workers = open(&["hang for ever"], json!({}));
    workers.put(Some(Thing::Number(13)));
    let begun = Instant::now();
    while workers.clerk.notes.lock().is_empty() && begun.elapsed() < TIMEOUT {
        std::thread::yield_now();
    }

    let closed = workers.session.close(Duration::from_millis(300), &|| {});

    assert!(begun.elapsed() < TIMEOUT);
    let causes: Vec<ExitCause> = closed.cleanups.into_iter().map(|failure| cause(failure.fault)).collect();
    assert_eq!(causes, [ExitCause::Abandoned]);
}

#[test]
fn no_worker_is_started_for_a_session_that_should_have_ended() {
    let workers = open(&["pid"], json!({"replicas": 2, "max_restarts": 1000}));
    let worker = workers.session.worker_processes()[0];

    // The end of the first replica is not reported to the second one before the first has ended.
    let closed = workers.session.close(Duration::ZERO, &|| {});

    let metrics = closed.metrics.unwrap();
    assert_eq!(metrics.node_metrics[0].restarts, 0);
    assert!(!is_running(worker));
}

#[test]
fn a_supervisor_that_panics_fails_its_session_and_leaves_no_process() {
    let workers = open(&["double"], json!({}));
    let worker = workers.session.worker_processes()[0];

    let outputs = workers.map([STUMBLE / 2]);

    let Err(Fault::Lost(exit)) = &outputs[0] else { panic!("a lost worker was expected: {outputs:?}") };
    assert!(exit.is_final && matches!(&exit.cause, ExitCause::NotStarted(why) if why.contains("panicked")), "{exit:?}");
    assert!(!is_running(worker));
    assert_eq!(workers.close(), []);
}

#[test]
fn a_supervisor_that_is_held_up_does_not_hold_up_the_end() {
    let workers = open(&["double"], json!({}));
    let clerk = Arc::clone(&workers.clerk);
    let held = clerk.hold.lock();
    workers.put(Some(Thing::Number(HOLD_UP / 2)));
    while !clerk.is_held_up.load(Ordering::Acquire) {
        std::thread::yield_now();
    }

    let closed = workers.session.close(Duration::from_millis(100), &|| {});

    let causes: Vec<ExitCause> = closed.cleanups.into_iter().map(|failure| cause(failure.fault)).collect();
    assert_eq!(causes, [ExitCause::Abandoned]);
    drop(held);
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn a_flush_that_begins_while_its_session_closes_does_not_hold_up_the_end() {
    for round in 0..300 {
        let worker = open(&["fail"], json!({}));
        worker.put(Some(Thing::Number(13)));
        worker.put(None);
        assert!(worker.next().is_err());

        let closed = worker.session.close(TIMEOUT, &|| {});

        assert!(closed.abandoned.is_empty(), "in round {round}: {:?}", closed.abandoned);
    }
}
