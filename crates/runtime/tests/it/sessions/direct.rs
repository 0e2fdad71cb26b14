//! Calls on the caller's own thread.

use std::time::Duration;

use remotemedia_runtime::{Direct, Phase, RunError, Session};
use serde_json::json;

use crate::support::{
    BAD, Item, Log, Pipe, SessionUse, TIMEOUT, Valve, add, fail_on, keep, numbers, options, pass, spread, thread,
};

fn direct(session: &Session<Item>, number: i64) -> Result<Vec<Item>, RunError<crate::support::Fault>> {
    let mut outputs = Vec::new();
    let mut item = Some(Item::Number(number));
    loop {
        match session.direct(item, &mut outputs) {
            Direct::Done => return Ok(outputs),
            Direct::Failed(error) => return Err(error),
            Direct::Busy(back) => item = back,
        }
        session.wait_until_free(TIMEOUT);
    }
}

#[test]
fn only_all_inline_plans_are_direct() {
    assert!(Pipe::chain([pass(), pass()]).open().is_direct());
    assert!(!Pipe::chain([pass()]).with(thread()).open().is_direct());
    assert!(!Pipe::chain([pass()]).with(options(&json!({"queue_size": 3}))).open().is_direct());
    assert!(!Pipe::chain([pass()]).with(options(&json!({"timeout": 3}))).open().is_direct());
}

#[test]
fn nodes_run_on_the_thread_that_calls() {
    let here = std::thread::current().id();
    let session = Pipe::chain([
        pass().doing(Phase::Process, move || assert_eq!(std::thread::current().id(), here)),
        spread(|number| vec![number, number]),
        keep(|number| number > 1),
    ])
    .open();

    assert_eq!(direct(&session, 1).unwrap(), [0_i64; 0]);
    assert_eq!(direct(&session, 2).unwrap(), numbers(&[2, 2]));
}

#[test]
fn a_call_that_fails_leaves_the_session_open() {
    let log = Log::default();
    let session = Pipe::chain([spread(|number| vec![number; 2]).named("a", &log), fail_on(2)]).open();

    let error = direct(&session, 2).unwrap_err();

    assert!(matches!(error, RunError::Node(failure) if (failure.item_index, failure.fault) == (Some(0), BAD)));
    assert_eq!(log.lines_of("close"), ["a.close"]);
    assert_eq!(direct(&session, 3).unwrap(), numbers(&[3, 3]));
}

#[test]
fn callers_take_turns() {
    let session = Pipe::chain([add(1), pass()]).open();

    std::thread::scope(|scope| {
        for caller in 0..8 {
            let session = &session;
            scope.spawn(move || {
                for number in (caller * 1000..).take(500) {
                    assert_eq!(direct(session, number).unwrap(), numbers(&[number + 1]));
                }
            });
        }
    });
}

#[test]
fn direct_calls_and_queued_ones_take_turns() {
    let session = Pipe::chain([spread(|number| vec![number, number]), add(1)]).open();

    std::thread::scope(|scope| {
        for caller in 0..4 {
            let session = &session;
            scope.spawn(move || {
                for number in (caller * 1000..).take(200) {
                    let outputs =
                        if caller % 2 == 0 { direct(session, number).unwrap() } else { session.call(number).outputs() };
                    assert_eq!(outputs, numbers(&[number + 1, number + 1]));
                }
            });
        }
    });
}

#[test]
fn a_call_that_is_interrupted_says_so_and_is_counted() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass()), pass()]).measured().open();

    std::thread::scope(|scope| {
        let call = scope.spawn(|| direct(&session, 1));
        valve.wait_for(1);
        assert_eq!(session.interrupt(&|| valve.open()), 1);
        assert!(matches!(call.join().unwrap(), Err(RunError::Interrupted)));
    });
    assert_eq!(session.metrics().unwrap().interrupted, 1);
    assert_eq!(direct(&session, 2).unwrap(), numbers(&[2]));
}

/// A wait for another caller's node once lasted beyond the end of the session.
#[test]
fn one_who_waits_for_another_caller_is_notified_of_the_end() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass())]).open();

    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| direct(&session, 1));
        valve.wait_for(1);
        let waiting = scope.spawn(|| direct(&session, 2));

        let closed = session.close(Duration::from_millis(50), &|| {});

        assert_eq!(closed.abandoned.len(), 1);
        assert!(matches!(waiting.join().unwrap(), Err(RunError::Closed)));
        valve.open();
        drop(hanging.join().unwrap());
    });
}

#[test]
fn waiting_for_another_caller_ends_in_time() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass())]).open();

    std::thread::scope(|scope| {
        let call = scope.spawn(|| direct(&session, 1));
        valve.wait_for(1);
        assert!(!session.wait_until_free(Duration::from_millis(5)));
        valve.open();
        assert!(session.wait_until_free(TIMEOUT));
        call.join().unwrap().unwrap();
    });
}
