//! Queues are bounded: who brings too much waits, or something is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use remotemedia_runtime::{Next, Options, Outbox, Phase, Session};
use serde_json::json;

use crate::support::{
    Call, Item, Pipe, Put, Returned, SessionUse, TIMEOUT, TestNode, Valve, node, numbers, options, pass, spread,
    stream, thread,
};

/// Passes items on when the valve lets it.
fn held(valve: &Valve) -> TestNode {
    let valve = valve.clone();
    pass().doing(Phase::Process, move || valve.pass())
}

#[test]
fn one_who_puts_too_much_waits() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], held(&valve)).open();
    let outbox = Arc::new(Outbox::new(100, None));

    let puts: Vec<_> = (0..20).map(|number| session.put(&outbox, Some(number))).collect();
    valve.wait_for(1);

    // One in the node, two in the queue.
    assert_eq!(puts.iter().filter(|put| !put.is_waiting()).count(), 3);
    valve.open();
    assert!(puts.iter().all(Put::is_in));
}

#[test]
fn those_who_wait_come_in_in_their_order() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], held(&valve)).open();
    let outbox = Arc::new(Outbox::new(1000, None));
    let puts: Vec<_> = (0..100).map(|number| session.put(&outbox, Some(number))).collect();

    valve.open();

    assert!(puts.iter().all(Put::is_in));
    let outputs: Vec<Item> = (0..100)
        .map(|_| match outbox.next(TIMEOUT) {
            Next::Output(output) => output,
            other => panic!("an output, not {other:?}"),
        })
        .collect();
    assert_eq!(outputs, numbers(&(0..100).collect::<Vec<_>>()));
}

fn dropping(when_full: &str, valve: &Valve, before: Option<TestNode>) -> Session<Item> {
    let how = options(&json!({"queue_size": 2, "when_full": when_full}));
    let mut pipe = Pipe::default();
    let after: &[&str] = if before.is_some() { &["before"] } else { &[] };
    if let Some(before) = before {
        pipe = pipe.node("before", &[], before);
    }
    pipe.node("held", after, held(valve)).with(how).measured().open()
}

/// Put ten items in before a node that holds the first one, and return what comes out and how many were dropped.
fn put_ten(session: &Session<Item>, valve: &Valve) -> (Vec<Item>, u64) {
    let outbox = Arc::new(Outbox::new(100, None));
    assert!(session.put(&outbox, Some(0)).is_in());
    valve.wait_for(1);
    let puts: Vec<_> = (1..10).map(|number| session.put(&outbox, Some(number))).collect();
    assert!(puts.iter().all(Put::is_in), "nobody waits where items are dropped");
    // What was dropped before the node has ended before the node goes on.
    let deadline = std::time::Instant::now() + TIMEOUT;
    while outbox.load() > 3 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    valve.open();
    outbox.end();
    let mut outputs = Vec::new();
    loop {
        match outbox.next(TIMEOUT) {
            Next::Output(output) => outputs.push(output),
            Next::End => break,
            other => panic!("an output, not {other:?}"),
        }
    }
    let dropped = session.metrics().expect("it is measured").node_metrics.iter().map(|node| node.dropped).sum();
    (outputs, dropped)
}

#[test]
fn the_oldest_is_dropped_from_a_full_queue() {
    for before in [false, true] {
        let valve = Valve::default();
        let session = dropping("drop_oldest", &valve, before.then(pass));

        assert_eq!(put_ten(&session, &valve), (numbers(&[0, 8, 9]), 7), "with a stage before: {before}");
    }
}

#[test]
fn the_newest_is_dropped_before_a_full_queue() {
    for before in [false, true] {
        let valve = Valve::default();
        let session = dropping("drop_newest", &valve, before.then(pass));

        assert_eq!(put_ten(&session, &valve), (numbers(&[0, 1, 2]), 7), "with a stage before: {before}");
    }
}

#[test]
fn a_call_whose_item_is_dropped_ends_at_once() {
    let valve = Valve::default();
    let session = dropping("drop_oldest", &valve, None);
    let calls: Vec<_> = (0..4)
        .map(|number| {
            let call = session.call(number);
            valve.wait_for(1);
            call
        })
        .collect();

    assert_eq!(calls[1].outputs(), [0_i64; 0]);
    assert!(!calls[0].is_done());
    valve.open();
    assert_eq!([&calls[0], &calls[2], &calls[3]].map(Call::outputs), [0, 2, 3].map(|n| numbers(&[n])));
}

/// The last part of an input is dropped while the first one waits, which must come out.
#[test]
fn an_input_of_which_a_part_is_dropped_goes_on() {
    let valve = Valve::default();
    let how = options(&json!({"queue_size": 1, "when_full": "drop_newest"}));
    let session = Pipe::default()
        .node("spread", &[], spread(|number| vec![number, number + 1]))
        .node("pass", &[], pass())
        .node("merge", &["spread", "pass"], pass())
        .node("held", &["spread", "merge"], held(&valve))
        .with(how)
        .measured()
        .open();
    let dropped = || session.metrics().unwrap().node_metrics[3].dropped;
    let first = session.call(10);
    valve.wait_for(1);
    let before = dropped();

    let call = session.call(20);
    let deadline = std::time::Instant::now() + TIMEOUT;
    while dropped() < before + 4 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!call.is_done());
    valve.open();

    assert_eq!(call.outputs(), numbers(&[20]));
    assert!(first.outputs().starts_with(&numbers(&[10])));
}

#[test]
fn the_end_of_input_is_never_dropped() {
    let valve = Valve::default();
    let how = options(&json!({"queue_size": 1, "when_full": "drop_oldest"}));
    let session = Pipe::default().node("held", &[], held(&valve).flushing(&[7])).with(how).open();
    let outbox = Arc::new(Outbox::new(100, None));

    (0..5).for_each(|number| drop(session.put(&outbox, Some(number))));
    session.put(&outbox, None);
    outbox.end();
    valve.open();

    let mut outputs = Vec::new();
    while let Next::Output(output) = outbox.next(TIMEOUT) {
        outputs.push(output);
    }
    assert_eq!(outputs.last(), Some(&Item::Number(7)));
}

/// A branch that drops: the other one is not held up beyond the queues, and both meet again in order.
#[test]
fn a_branch_may_drop() {
    let valve = Valve::default();
    let how = options(&json!({"queue_size": 1, "when_full": "drop_newest"}));
    let session = Pipe::default()
        .node("held", &[], held(&valve))
        .with(how)
        .node("other", &[], pass())
        .with(thread())
        .join("join", &["held", "other"], pass())
        .measured()
        .open();
    let calls: Vec<_> = (0..30).map(|number| session.call(number)).collect();

    valve.open();

    let outputs: Vec<Item> = calls.iter().flat_map(Call::outputs).collect();
    assert_eq!(outputs.len(), 30);
    let empty =
        outputs.iter().filter(|item| matches!(item, Item::Joined(branches) if branches[0].1.is_empty())).count();
    assert_eq!(session.metrics().unwrap().node_metrics.iter().map(|node| node.dropped).sum::<u64>(), empty as u64);
}

#[test]
fn a_slow_consumer_holds_a_fast_producer() {
    const QUEUES: usize = 2 + 1 + 2 + 1 + 2 + 1;
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let counting = pass().doing(Phase::Process, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let session = Pipe::default()
        .node("a", &[], counting)
        .with(thread())
        .node("b", &["a"], pass())
        .with(Options::default())
        .open();
    let outbox = Arc::new(Outbox::new(2, None));

    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..20_000).for_each(|number| assert!(session.put(&outbox, Some(number)).is_in()));
            session.put(&outbox, None);
            outbox.end();
        });
        let mut taken = 0;
        while let Next::Output(_) = outbox.next(TIMEOUT) {
            taken += 1;
            let ahead = made.load(Ordering::SeqCst).saturating_sub(taken);
            assert!(ahead <= QUEUES, "{ahead} items were in flight");
        }
        assert_eq!(taken, 20_000);
    });
}

#[test]
fn a_generator_waits_when_its_outputs_are_not_taken() {
    let made = Arc::new(AtomicUsize::new(0));
    let session = Pipe::default().node("a", &[], endless(&made)).with(thread()).node("b", &["a"], pass()).open();
    let outbox = Arc::new(Outbox::new(2, None));

    session.put(&outbox, Some(0));
    for _ in 0..100 {
        assert!(matches!(outbox.next(TIMEOUT), Next::Output(_)));
    }
    outbox.abandon();
    session.shut();

    // The queue between the stages, that of the outputs, and one in each stage.
    assert!(made.load(Ordering::SeqCst) <= 100 + 2 + 2 + 3, "{} were made", made.load(Ordering::SeqCst));
}

/// A generator that never ends and counts what it made.
fn endless(made: &Arc<AtomicUsize>) -> TestNode {
    let made = Arc::clone(made);
    node(move |_| {
        let made = Arc::clone(&made);
        Ok(Returned::Many(Box::new((0..).map(move |number| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(Item::Number(number))
        }))))
    })
}

#[test]
fn as_many_inputs_are_under_way_as_the_plan_says() {
    let valve = Valve::default();
    let session = Pipe::default()
        .node("first", &[], pass())
        .with(thread())
        .node("held", &[], held(&valve))
        .with(thread())
        .node("merge", &["first", "held"], pass())
        .open();
    let outbox = Arc::new(Outbox::new(1000, None));

    let puts: Vec<_> = (0..100).map(|number| session.put(&outbox, Some(number))).collect();
    let is_in = puts.iter().filter(|put| !put.is_waiting()).count();

    assert!(is_in <= session.capacity(), "{is_in} are in");
    valve.open();
    assert!(puts.iter().all(Put::is_in));
    assert_eq!(stream(&session, &[]).0, [0_i64; 0]);
}
