//! Many at once: each gets exactly its own outputs, whatever is inside and however others fare.

use std::sync::Arc;

use remotemedia_runtime::{Outbox, Phase, RunError, Session};
use serde_json::json;

use crate::support::{
    Item, Log, Pipe, Returned, SessionUse, TIMEOUT, Valve, add, fail_on, joined, keep, node, numbers, options, pass,
    spread, thread,
};

/// Each of many threads calls with numbers of its own and gets what belongs to them.
fn check_calls(session: &Session<Item>, expected: impl Fn(i64) -> Vec<Item> + Sync) {
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let expected = &expected;
            scope.spawn(move || {
                for number in (caller * 1000..).take(200) {
                    assert_eq!(session.call(number).outputs(), expected(number));
                }
            });
        }
    });
}

fn replicated(after: &[&str], pipe: Pipe) -> Pipe {
    pipe.node("replicas", after, add(0))
        .with(options(&json!({"placement": "thread", "replicas": 3})))
        .replica(add(0))
        .replica(add(0))
}

#[test]
fn filters_and_generators_give_to_each_call_its_own() {
    let pipe = Pipe::default()
        .node("keep", &[], keep(|number| number % 3 != 0))
        .node("spread", &["keep"], spread(|number| vec![number, -number]))
        .with(thread());
    let session = replicated(&["spread"], pipe).open();

    check_calls(&session, |number| if number % 3 == 0 { Vec::new() } else { numbers(&[number, -number]) });
}

#[test]
fn joins_over_stages_give_to_each_call_its_own() {
    let pipe = replicated(&[], Pipe::default());
    let pipe = pipe
        .node("odd", &[], keep(|number| number % 2 == 1))
        .with(thread())
        .join("join", &["replicas", "odd"], pass())
        .node("last", &["join"], pass())
        .with(options(&json!({"batch": {"size": 3, "max_wait": 0.001}})));

    check_calls(&pipe.open(), |number| {
        let odd: &[i64] = if number % 2 == 1 { &[number] } else { &[] };
        vec![joined(&[("replicas", &[number]), ("odd", odd)])]
    });
}

#[test]
fn a_failing_call_is_none_of_the_others_business() {
    let session = Pipe::default().node("a", &[], fail_on(-1)).with(thread()).node("b", &["a"], pass()).open();

    std::thread::scope(|scope| {
        let bad = scope.spawn(|| (0..200).all(|_| session.call(-1).result().is_err()));
        check_calls(&session, |number| numbers(&[number]));
        assert!(bad.join().unwrap());
    });
}

/// A call that was abandoned in the middle once left items behind, which the next call got.
#[test]
fn what_is_left_of_an_abandoned_call_goes_to_nobody() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let halting = node(move |item| {
        let valve = in_node.clone();
        let outputs = [item.clone(), item].into_iter().enumerate().map(move |(place, item)| {
            if place == 1 {
                valve.pass();
            }
            Ok(item)
        });
        Ok(Returned::Many(Box::new(outputs)))
    });
    let half = Valve::default();
    half.open();
    let has_come = half.clone();
    let session = Pipe::default()
        .node("halting", &[], halting)
        .node("a", &["halting"], pass())
        .with(thread())
        .node("b", &["a"], pass())
        .node("c", &["a"], pass().doing(Phase::Process, move || has_come.pass()))
        .node("merge", &["b", "c"], pass())
        .open();

    let abandoned = session.call(1);
    // The first half has come to the merge.
    half.wait_for(1);
    session.abandon(&abandoned.client);
    valve.open();

    assert!(matches!(abandoned.result(), Err(RunError::Cancelled)));
    assert_eq!(session.call(2).outputs(), numbers(&[2, 2, 2, 2]));
}

#[test]
fn a_generator_ends_when_its_call_is_abandoned() {
    let log = Log::default();
    let valve = Valve::default();
    let in_node = valve.clone();
    let endless = node(move |item| {
        let valve = in_node.clone();
        Ok(Returned::Many(Box::new(std::iter::repeat_with(move || {
            valve.pass();
            Ok(item.clone())
        }))))
    });
    for pipe in [
        Pipe::chain([endless.named("a", &log), pass()]),
        Pipe::default()
            .node("a", &[], endless_of(&valve).named("a", &log))
            .with(options(&json!({"placement": "thread", "replicas": 2})))
            .replica(endless_of(&valve).named("a", &log)),
    ] {
        let session = pipe.open();
        let before = valve.arrived();
        let call = session.call(0);
        valve.wait_for(before + 1);

        session.abandon(&call.client);
        valve.open();

        assert!(matches!(call.result(), Err(RunError::Cancelled)));
        session.shut();
    }
    assert_eq!(log.lines_of("close").len(), 2);
}

fn endless_of(valve: &Valve) -> crate::support::TestNode {
    let valve = valve.clone();
    node(move |item| {
        let valve = valve.clone();
        Ok(Returned::Many(Box::new(std::iter::repeat_with(move || {
            valve.pass();
            Ok(item.clone())
        }))))
    })
}

#[test]
fn an_abandoned_call_that_waits_at_admission_is_ended() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass())]).open();
    let calls: Vec<_> = (0..20).map(|number| session.call(number)).collect();

    let last = calls.last().unwrap();
    session.abandon(&last.client);

    assert!(matches!(last.result(), Err(RunError::Cancelled)));
    valve.open();
    assert!(calls[..19].iter().zip(0..).all(|(call, number)| call.outputs() == numbers(&[number])));
}

/// A thread that waited for room was once not notified that there would be none.
#[test]
fn one_who_puts_for_an_abandoned_stream_is_notified() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass())]).open();
    let outbox = Arc::new(Outbox::new(100, None));
    let puts: Vec<_> = (0..20).map(|number| session.put(&outbox, Some(number))).collect();
    assert!(puts[19].is_waiting());

    let client: Arc<dyn remotemedia_runtime::Client<Item>> = outbox.clone();
    session.abandon(&client);

    assert!(!puts[19].is_in());
    valve.open();
}

#[test]
fn a_call_that_was_abandoned_keeps_its_place_until_it_is_through() {
    let valve = Valve::default();
    let in_node = valve.clone();
    let session = Pipe::chain([pass().doing(Phase::Process, move || in_node.pass())]).open();
    let first = session.call(0);
    valve.wait_for(1);

    session.abandon(&first.client);
    let second = session.call(1);
    valve.open();

    assert_eq!(second.outputs(), numbers(&[1]));
    let mut end = session.begin_drain();
    assert!(session.is_drained(&mut end, TIMEOUT));
    session.end_drain();
}
