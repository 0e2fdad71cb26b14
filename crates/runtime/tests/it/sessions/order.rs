//! Outputs come in the order of the items, whatever works on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use remotemedia_runtime::{Phase, Session};
use serde_json::json;

use crate::support::{
    Item, Log, Pipe, SessionUse, TestNode, Valve, add, keep, node, numbers, options, pass, spread, stream, thread,
};

fn outputs(session: &Session<Item>, input: &[i64]) -> Vec<Item> {
    let (outputs, error) = stream(session, input);
    assert!(error.is_none(), "{error:?}");
    outputs
}

fn ascending(count: i64) -> Vec<i64> {
    (0..count).collect()
}

#[test]
fn stages_on_threads_keep_the_order() {
    let pipe = Pipe::default()
        .node("a", &[], add(1))
        .with(thread())
        .node("b", &["a"], spread(|number| vec![number, number * 10]))
        .with(options(&json!({"placement": "thread", "queue_size": 1})))
        .node("c", &["b"], add(1));
    let session = pipe.open();

    let outputs = outputs(&session, &ascending(200));

    let expected: Vec<i64> = (1..=200).flat_map(|number| [number + 1, number * 10 + 1]).collect();
    assert_eq!(outputs, numbers(&expected));
}

#[test]
fn two_stages_are_at_work_at_the_same_time() {
    let (first, second) = (Valve::default(), Valve::default());
    let (in_first, in_second) = (first.clone(), second.clone());
    let pipe = Pipe::default()
        .node("a", &[], pass().doing(Phase::Process, move || in_first.pass()))
        .with(thread())
        .node("b", &["a"], pass().doing(Phase::Process, move || in_second.pass()))
        .with(options(&json!({"placement": "thread", "queue_size": 1})));
    let session = pipe.open();

    let calls = [session.call(0), session.call(1)];
    first.let_pass(1);
    second.wait_for(1);
    first.wait_for(2);

    first.open();
    second.open();
    assert_eq!(calls.map(|call| call.outputs()), [numbers(&[0]), numbers(&[1])]);
}

/// A node that holds the even numbers until an odd one comes by in another replica.
fn slow_for_even(valve: &Valve) -> TestNode {
    let valve = valve.clone();
    node(move |item| {
        if let Item::Number(number) = item {
            if number % 2 == 0 {
                valve.pass();
            } else {
                valve.let_pass(1);
            }
        }
        Ok(crate::support::Returned::One(item))
    })
}

#[test]
fn replicas_keep_the_order() {
    let valve = Valve::default();
    let pipe = Pipe::default()
        .node("a", &[], slow_for_even(&valve))
        .with(options(&json!({"placement": "thread", "replicas": 2})))
        .replica(slow_for_even(&valve));
    let session = pipe.open();

    assert_eq!(outputs(&session, &ascending(100)), numbers(&ascending(100)));
}

#[test]
fn replicas_without_order_overtake() {
    let valve = Valve::default();
    let pipe = Pipe::default()
        .node("a", &[], slow_for_even(&valve))
        .with(options(&json!({"placement": "thread", "replicas": 2, "ordered": false})))
        .replica(slow_for_even(&valve));
    let session = pipe.open();

    let slow = session.call(0);
    valve.wait_for(1);
    let fast = session.call(1);

    // The fast one opens the way for the slow one, so which of the two is done first is not known, but both are.
    assert_eq!((slow.outputs(), fast.outputs()), (numbers(&[0]), numbers(&[1])));
    let mut outputs = outputs(&session, &ascending(100));
    outputs.sort_by_key(ToString::to_string);
    let mut expected = numbers(&ascending(100));
    expected.sort_by_key(ToString::to_string);
    assert_eq!(outputs, expected);
}

#[test]
fn a_fast_replica_overtakes_a_hanging_one() {
    let valve = Valve::default();
    let holds = |valve: &Valve| {
        let valve = valve.clone();
        node(move |item| {
            if item == 0 {
                valve.pass();
            }
            Ok(crate::support::Returned::One(item))
        })
    };
    let pipe = Pipe::default()
        .node("a", &[], holds(&valve))
        .with(options(&json!({"placement": "thread", "replicas": 2, "ordered": false})))
        .replica(holds(&valve));
    let session = pipe.open();

    let slow = session.call(0);
    valve.wait_for(1);
    assert_eq!(session.call(1).outputs(), numbers(&[1]));
    assert!(!slow.is_done());

    valve.open();
    assert_eq!(slow.outputs(), numbers(&[0]));
}

#[test]
fn all_replicas_are_flushed_at_the_end_of_input() {
    let pipe = Pipe::default()
        .node("a", &[], pass().flushing(&[7]))
        .with(options(&json!({"placement": "thread", "replicas": 3})))
        .replica(pass().flushing(&[7]))
        .replica(pass().flushing(&[7]));
    let session = pipe.open();

    assert_eq!(outputs(&session, &[1, 2]), numbers(&[1, 2, 7, 7, 7]));
}

#[test]
fn replicas_are_flushed_after_all_items() {
    let log = Log::default();
    let work = Arc::new(AtomicUsize::new(0));
    let slow = |log: &Log| {
        let work = Arc::clone(&work);
        pass().named("a", log).doing(Phase::Process, move || {
            for _ in 0..100 {
                std::thread::yield_now();
            }
            work.fetch_add(1, Ordering::SeqCst);
        })
    };
    let pipe = Pipe::default()
        .node("a", &[], slow(&log))
        .with(options(&json!({"placement": "thread", "replicas": 2})))
        .replica(slow(&log));
    let session = pipe.open();

    outputs(&session, &ascending(50));

    let lines = log.lines();
    let first_flush = lines.iter().position(|line| line == "a.flush").expect("they are flushed");
    assert_eq!(lines[..first_flush].iter().filter(|line| line.contains("process")).count(), 50);
}

#[test]
fn what_is_flushed_goes_through_parallel_stages() {
    for parallel in [json!({"placement": "thread", "replicas": 2}), json!({"batch": 4}), json!({"concurrency": 2})] {
        let mut pipe = Pipe::default().node("a", &[], pass().flushing(&[8, 9])).node("b", &["a"], add(100));
        pipe = pipe.with(options(&parallel));
        if parallel.get("replicas").is_some() {
            pipe = pipe.replica(add(100));
        }
        let session = pipe.node("c", &["b"], pass()).open();

        assert_eq!(outputs(&session, &[1]), numbers(&[101, 108, 109]), "{parallel}");
    }
}

#[test]
fn a_stream_may_end_more_than_once() {
    let pipe = Pipe::default().node("a", &[], pass().flushing(&[7])).node("b", &["a"], pass()).with(thread());
    let session = pipe.open();

    assert_eq!(outputs(&session, &[1]), numbers(&[1, 7]));
    assert_eq!(outputs(&session, &[2]), numbers(&[2, 7]));
}

#[test]
fn filters_and_generators_keep_the_order_in_replicas() {
    let spreading = || spread(|number| vec![number; usize::try_from(number % 3).unwrap()]);
    let pipe = Pipe::default()
        .node("keep", &[], keep(|number| number % 2 == 0))
        .node("spread", &["keep"], spreading())
        .with(options(&json!({"placement": "thread", "replicas": 3})))
        .replica(spreading())
        .replica(spreading())
        .node("last", &["spread"], pass())
        .with(thread());
    let session = pipe.open();

    let expected: Vec<i64> = (0..60)
        .filter(|number| number % 2 == 0)
        .flat_map(|number| vec![number; usize::try_from(number % 3).unwrap()])
        .collect();
    assert_eq!(outputs(&session, &ascending(60)), numbers(&expected));
}
