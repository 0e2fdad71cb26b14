//! Workers that die, or do not return.

use std::time::Duration;

use remotemedia_runtime::worker::ExitCause;
use serde_json::json;

use super::{Fault, Thing, WorkerLoop, cause, good, open, try_open};

#[test]
fn a_node_that_does_not_initialize_fails_as_itself() {
    let failed = try_open(&["double", "refuse"], json!({"group": "g"})).err();

    assert_eq!(failed, Some(Fault::StdStream("refuse in initialize: StdStream(\"not today\")".into())));
}

#[test]
fn a_worker_that_dies_in_initialize_is_named() {
    let failed = try_open(&["die early"], json!({})).err().expect("it cannot be opened");

    assert_eq!(cause(failed), ExitCause::Killed(6));
}

#[test]
fn unfinished_items_are_given_again_when_a_worker_is_killed() {
    let workers = open(&["pid"], json!({"max_restarts": 100}));
    let mut killed = Vec::new();

    for number in 0..300 {
        workers.put(Some(Thing::Number(number)));
        let process = workers.number().unwrap();
        if number % 50 == 25 {
            killed.push(process);
            for extra in 0..10 {
                workers.put(Some(Thing::Number(extra)));
            }
            kill(process);
            for _ in 0..10 {
                workers.number().unwrap();
            }
        }
    }

    killed.dedup();
    assert_eq!(killed.len(), 6);
    assert_eq!(workers.close(), []);
}

fn kill(process: i64) {
    let process = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
}

#[test]
fn an_item_that_kills_twice_fails_and_the_stream_goes_on() {
    let workers = open(&["abort"], json!({}));

    let mut outputs = workers.map([11, 12, 13, 14, 15]);

    let fault = outputs.remove(2).unwrap_err();
    assert_eq!(cause(fault), ExitCause::Killed(6));
    assert_eq!(outputs, good([11, 12, 14, 15]));
    assert_eq!(workers.close(), []);
}

#[test]
fn a_worker_that_always_dies_fails_its_session() {
    let workers = open(&["exit"], json!({"max_restarts": 1}));

    let outputs = workers.map([13, 14]);

    assert!(matches!(&outputs[0], Err(Fault::Lost(exit)) if exit.cause == ExitCause::Exited(3) && exit.is_final));
}

#[test]
fn a_worker_that_takes_too_long_is_replaced() {
    let workers = open(&["hang for ever"], json!({"timeout": 0.5}));

    let mut outputs = workers.map([12, 13, 14]);

    let fault = outputs.remove(1).unwrap_err();
    assert_eq!(cause(fault), ExitCause::TimedOut(Duration::from_millis(500)));
    assert_eq!(outputs, good([12, 14]));
}

#[test]
fn a_state_is_brought_to_the_next_worker() {
    let workers = open(&["sum"], json!({"snapshot_every": 7, "max_restarts": 10}));
    let mut sum = 0;

    for number in 1..=100 {
        workers.put(Some(Thing::Number(number)));
        sum += number;
        assert_eq!(workers.number(), Ok(sum));
        if number % 30 == 5 {
            kill_worker(&workers);
        }
    }

    assert_eq!(workers.close(), []);
}

fn kill_worker(workers: &WorkerLoop) {
    let pid = workers.session.worker_processes().into_iter().next().expect("there is a worker");
    kill(i64::from(pid));
}
