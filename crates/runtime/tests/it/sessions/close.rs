//! The end comes within its deadline, in every state, and names what it abandons.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_runtime::{Next, Outbox, Phase, RunError, Stall};
use serde_json::json;

use crate::support::{
    BAD, Item, Log, Pipe, Returned, SessionUse, TIMEOUT, TestNode, Valve, facts, node, numbers, options, pass, stream,
    thread,
};

/// Short, for nodes that never return.
const DEADLINE: Duration = Duration::from_millis(100);

fn hanging(valve: &Valve) -> TestNode {
    let valve = valve.clone();
    pass().doing(Phase::Process, move || valve.pass())
}

#[test]
fn nodes_are_cleaned_up_in_reverse_order() {
    let log = Log::default();
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .node("b", &["a"], pass().named("b", &log))
        .with(thread())
        .node("c", &["b"], pass().named("c", &log))
        .open();
    session.call(1).outputs();

    session.shut();

    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
    assert_eq!(log.lines_of("initialize"), ["a.initialize", "b.initialize", "c.initialize"]);
}

#[test]
fn every_replica_is_initialized_and_cleaned_up_once() {
    let log = Log::default();
    let session = Pipe::default()
        .node("a", &[], pass().named("first", &log))
        .with(options(&json!({"placement": "thread", "replicas": 2})))
        .replica(pass().named("second", &log))
        .open();

    session.shut();

    assert_eq!(log.lines(), ["first.initialize", "second.initialize", "second.cleanup", "first.cleanup"]);
}

#[test]
fn a_session_that_fails_to_open_is_cleaned_up() {
    let log = Log::default();
    let failure = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .node("b", &["a"], pass().named("b", &log).failing(Phase::Initialize, BAD))
        .with(thread())
        .node("c", &["b"], pass().named("c", &log))
        .try_open()
        .err()
        .unwrap();

    assert_eq!(crate::support::blamed(&failure), ("b", None, Phase::Initialize, BAD));
    assert_eq!(log.lines(), ["a.initialize", "b.initialize", "b.cleanup", "a.cleanup"]);
}

#[test]
fn opening_ends_between_two_nodes_when_it_is_stopped() {
    let log = Log::default();
    let cancel = remotemedia_runtime::CancelFlag::default();
    let stop = cancel.clone();
    let stopping = pass().named("a", &log).doing(Phase::Initialize, move || stop.set());
    let pipe = Pipe::chain([stopping, pass().named("b", &log)]).cancelled_by(&cancel);

    let failure = pipe.try_open().err().unwrap();

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn dropping_a_session_closes_it() {
    let log = Log::default();

    drop(Pipe::chain([pass().named("a", &log)]).open());

    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn calls_that_are_pending_are_notified() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], hanging(&valve)).with(thread()).node("b", &["a"], pass()).open();
    let calls: Vec<_> = (0..20).map(|number| session.call(number)).collect();
    valve.wait_for(1);

    session.close(TIMEOUT, &|| valve.open());

    assert!(calls.iter().all(|call| matches!(call.result(), Err(RunError::Closed))));
}

#[test]
fn nothing_goes_into_a_closed_session() {
    let session = Pipe::chain([pass()]).open();
    session.shut();

    assert!(matches!(session.call(1).result(), Err(RunError::Closed)));
    let outbox = Arc::new(Outbox::new(1, None));
    assert!(!session.put(&outbox, Some(1)).is_in());
}

#[test]
fn closing_again_does_nothing() {
    let log = Log::default();
    let session = Pipe::chain([pass().named("a", &log)]).open();

    session.shut();
    session.shut();

    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
}

#[test]
fn a_producer_that_waits_for_room_is_refused() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], hanging(&valve)).open();
    let outbox = Arc::new(Outbox::new(100, None));
    let puts: Vec<_> = (0..10).map(|number| session.put(&outbox, Some(number))).collect();
    assert!(puts[9].is_waiting());

    session.close(TIMEOUT, &|| valve.open());

    assert!(!puts[9].is_in());
}

#[test]
fn a_stage_that_waits_for_room_ends() {
    let valve = Valve::default();
    let log = Log::default();
    let endless = node(|item| Ok(Returned::Many(Box::new(std::iter::repeat_with(move || Ok(item.clone()))))));
    let session = Pipe::default()
        .node("a", &[], endless.named("a", &log))
        .with(thread())
        .node("b", &["a"], hanging(&valve))
        .with(thread())
        .open();
    let call = session.call(0);
    valve.wait_for(1);

    session.close(TIMEOUT, &|| valve.open());

    assert!(call.result().is_err());
    assert_eq!(log.lines_of("close"), ["a.close"]);
}

#[test]
fn a_stage_whose_outputs_nobody_takes_ends() {
    let session = Pipe::default().node("a", &[], pass()).with(thread()).open();
    let outbox = Arc::new(Outbox::new(1, None));
    let _puts: Vec<_> = (0..10).map(|number| session.put(&outbox, Some(number))).collect();

    session.shut();

    let mut last = outbox.next(TIMEOUT);
    while let Next::Output(_) = last {
        last = outbox.next(TIMEOUT);
    }
    assert!(matches!(last, Next::Failed(RunError::Closed)), "{last:?}");
}

/// The kinds of stages in which a node may hang.
fn hanging_pipes(valve: &Valve) -> Vec<(Pipe, &'static str)> {
    let kinds = [
        (json!({}), "inline"),
        (json!({"placement": "thread"}), "thread"),
        (json!({"placement": "thread", "replicas": 2}), "replicas"),
        (json!({"batch": 1}), "batch"),
        (json!({"concurrency": 2}), "concurrency"),
    ];
    let pipe = |how: &serde_json::Value| {
        let pipe = Pipe::default().node("before", &[], pass()).node("hangs", &["before"], hanging(valve));
        let pipe = pipe.with(options(how));
        if how.get("replicas").is_some() { pipe.replica(hanging(valve)) } else { pipe }
    };
    kinds.iter().map(|(how, name)| (pipe(how), *name)).collect()
}

#[test]
fn a_node_that_hangs_is_named_and_abandoned() {
    let valve = Valve::default();
    for (pipe, kind) in hanging_pipes(&valve) {
        let session = pipe.open();
        let arrived = valve.arrived();
        let call = session.call(1);
        valve.wait_for(arrived + 1);

        let started = Instant::now();
        let closed = session.close(DEADLINE, &|| {});

        assert!(started.elapsed() < DEADLINE * 10, "{kind}");
        let named: Vec<_> = closed.abandoned.iter().map(|stall| (&*stall.node_id, stall.item_index)).collect();
        assert_eq!(named, [("hangs", Some(0))], "{kind}");
        assert!(matches!(call.result(), Err(RunError::Closed)), "{kind}");
    }
    valve.open();
}

#[test]
fn the_nodes_of_other_stages_are_cleaned_up_when_one_hangs() {
    let (valve, log) = (Valve::default(), Log::default());
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .node("b", &["a"], hanging(&valve).named("b", &log))
        .with(thread())
        .open();
    let _call = session.call(1);
    valve.wait_for(1);

    session.close(DEADLINE, &|| {});

    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
    valve.open();
}

/// Closing once waited for an interrupt that waited for a node.
#[test]
fn closing_ends_an_interrupt_that_waits_for_a_node() {
    let valve = Valve::default();
    for (pipe, kind) in hanging_pipes(&valve) {
        let session = Arc::new(pipe.open());
        let arrived = valve.arrived();
        let call = session.call(1);
        valve.wait_for(arrived + 1);
        let interrupting = {
            let session = Arc::clone(&session);
            let is_notified = Valve::default();
            let notify = is_notified.clone();
            notify.open();
            let thread = std::thread::spawn(move || session.interrupt(&|| notify.pass()));
            is_notified.wait_for(1);
            thread
        };

        let closed = session.close(DEADLINE, &|| {});

        interrupting.join().unwrap();
        assert_eq!(closed.abandoned.len(), 1, "{kind}");
        assert!(matches!(call.result(), Err(RunError::Closed)), "{kind}");
    }
    valve.open();
}

#[test]
fn draining_ends_when_a_session_closes() {
    let valve = Valve::default();
    let session = Pipe::default().node("a", &[], hanging(&valve)).with(thread()).open();
    let _call = session.call(1);
    valve.wait_for(1);
    let mut end = session.begin_drain();
    assert!(!session.is_drained(&mut end, Duration::ZERO));

    std::thread::scope(|scope| {
        let draining = scope.spawn(|| while !session.is_drained(&mut end, TIMEOUT) {});
        session.close(DEADLINE, &|| {});
        draining.join().unwrap();
    });
    valve.open();
}

#[test]
fn a_cleanup_that_fails_is_reported_and_the_others_run() {
    let log = Log::default();
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log))
        .node("b", &["a"], pass().failing(Phase::Cleanup, BAD))
        .with(thread())
        .open();

    let closed = session.shut();

    assert_eq!(closed.cleanups.iter().map(facts).collect::<Vec<_>>(), [("b", None, Phase::Cleanup, BAD)]);
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
}

#[test]
fn all_that_went_in_comes_out_when_it_is_drained_first() {
    let session = Pipe::default().node("a", &[], pass()).with(options(&json!({"batch": 50}))).open();
    let outbox = Arc::new(Outbox::new(100, None));
    (0..40).for_each(|number| assert!(session.put(&outbox, Some(number)).is_in()));

    let mut end = session.begin_drain();
    while !session.is_drained(&mut end, TIMEOUT) {}
    session.end_drain();
    session.shut();

    let outputs: Vec<Item> = (0..40)
        .map(|_| match outbox.next(TIMEOUT) {
            Next::Output(output) => output,
            other => panic!("an output, not {other:?}"),
        })
        .collect();
    assert_eq!(outputs, numbers(&(0..40).collect::<Vec<_>>()));
}

#[test]
fn a_session_closes_while_many_use_it() {
    for round in 0..30 {
        let session = Pipe::default()
            .node("a", &[], pass())
            .with(thread())
            .node("b", &["a"], pass())
            .with(options(&json!({"batch": 3})))
            .node("c", &["b"], pass())
            .open();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while session.call(round).result().is_ok() {});
            }
            scope.spawn(|| while !matches!(stream(&session, &[round]).1, Some(RunError::Closed)) {});
            let abandoned: Vec<Stall> = session.close(TIMEOUT, &|| {}).abandoned;
            assert_eq!(abandoned, []);
        });
    }
}
