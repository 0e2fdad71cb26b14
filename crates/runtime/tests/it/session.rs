//! Sessions: items in from any thread, outputs out, both ends bounded, and a good end in every state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use remotemedia_runtime::{Ended, Failure, Phase, RunError, Session};

use crate::support::{Answer, BAD, Fault, Item, Log, Pipe, add, blamed, facts, fail_on, node, pass};

const QUEUE_SIZE: usize = 2;

fn open(pipe: Pipe) -> Result<Session<Item>, Failure<Fault>> {
    let (plan, nodes, settings) = pipe.parts();
    Session::open(plan, nodes, settings, QUEUE_SIZE)
}

/// Puts items until the session takes no more.
fn put_until_ended(session: &Session<Item>) {
    while session.put(Item::Number(0)).is_ok() {}
}

#[test]
fn outputs_come_in_the_order_of_the_items() {
    let mut session = open(Pipe::chain([add(1)])).unwrap();

    session.put(Item::Number(1)).unwrap();
    session.put(Item::Number(2)).unwrap();
    session.end();

    assert_eq!(std::iter::from_fn(|| session.next_output()).collect::<Vec<_>>(), [2, 3]);
    assert!(session.close().is_ok());
}

#[test]
fn an_output_comes_while_the_input_is_open() {
    let session = open(Pipe::chain([add(1)])).unwrap();

    for number in 0..3 {
        session.put(Item::Number(number)).unwrap();

        assert_eq!(session.next_output().unwrap(), number + 1);
    }
}

#[test]
fn nodes_are_ready_when_a_session_is_open() {
    let log = Log::default();

    let _session = open(Pipe::chain([pass().named("a", &log)])).unwrap();

    assert_eq!(log.lines(), ["a.initialize"]);
}

#[test]
fn a_session_does_not_open_when_initialize_fails() {
    let log = Log::default();

    let failure = open(Pipe::chain([pass().named("a", &log).failing(Phase::Initialize, BAD)])).err().unwrap();

    assert_eq!(blamed(&failure), ("n0", None, Phase::Initialize, BAD));
    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn one_who_puts_faster_than_outputs_are_taken_waits() {
    // One item may be in each place of the queues, one in the nodes, and one taken but not yet counted.
    const MOST_UNDER_WAY: usize = 2 * QUEUE_SIZE + 2;
    let session = open(Pipe::chain([pass()])).unwrap();
    let taken = AtomicUsize::new(0);

    let most_ahead = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let put_one = |put: usize| {
                session.put(Item::Number(0)).unwrap();
                put - taken.load(Ordering::SeqCst).min(put)
            };
            (1..=1000).map(put_one).max()
        });
        for _ in 0..1000 {
            std::thread::yield_now();
            session.next_output().unwrap();
            taken.fetch_add(1, Ordering::SeqCst);
        }
        producer.join().unwrap().unwrap()
    });

    assert!(most_ahead <= MOST_UNDER_WAY, "{most_ahead} items were under way");
}

#[test]
fn nodes_wait_when_their_outputs_are_not_taken() {
    let made = Arc::new(AtomicUsize::new(0));
    let session = open(Pipe::chain([endless(&made)])).unwrap();

    session.put(Item::Number(0)).unwrap();
    for _ in 0..10 {
        session.next_output().unwrap();
    }
    drop(session);

    // Those taken, those in the queue, and the one that waited for room.
    assert!(made.load(Ordering::SeqCst) <= 10 + QUEUE_SIZE + 1);
}

/// A generator that never ends and counts what it made.
fn endless(made: &Arc<AtomicUsize>) -> crate::support::TestNode {
    let made = Arc::clone(made);
    node(move |_| {
        let made = Arc::clone(&made);
        Ok(Answer::Many(Box::new((0..).map(move |number| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(Item::Number(number))
        }))))
    })
}

#[test]
fn dropping_a_session_stops_nodes_that_wait_for_room() {
    let log = Log::default();
    let session = open(Pipe::chain([endless(&Arc::default()).named("a", &log)])).unwrap();
    session.put(Item::Number(0)).unwrap();
    session.next_output().unwrap();

    drop(session);

    assert_eq!(log.lines().last().unwrap(), "a.cleanup");
    assert_eq!(log.lines_of("flush"), [""; 0]);
}

#[test]
fn dropping_a_session_stops_nodes_that_wait_for_items() {
    let log = Log::default();
    let session = open(Pipe::chain([pass().named("a", &log)])).unwrap();

    drop(session);

    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn a_session_stops_when_the_one_who_has_it_panics() {
    let log = Log::default();
    let session = open(Pipe::chain([pass().named("a", &log)])).unwrap();

    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _session = session;
        panic!("on purpose");
    }));

    assert!(outcome.is_err());
    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn closing_a_session_whose_input_has_ended_runs_it_to_its_end() {
    let log = Log::default();
    let mut session = open(Pipe::chain([pass().named("a", &log)]).measured()).unwrap();
    let numbers = 1..=i64::try_from(QUEUE_SIZE).unwrap();

    numbers.for_each(|number| session.put(Item::Number(number)).unwrap());
    session.end();
    let metrics = session.close().unwrap().unwrap();

    assert_eq!((metrics.items_in, metrics.items_out), (2, 2));
    assert_eq!(log.lines()[1..], ["a.process(1)", "a.process(2)", "a.flush", "a.cleanup"]);
}

#[test]
fn closing_a_session_whose_input_is_open_cancels_it() {
    let log = Log::default();
    let session = open(Pipe::chain([pass().named("a", &log)])).unwrap();

    let failure = session.close().unwrap_err();

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn a_session_takes_no_more_items_after_a_failure() {
    let session = open(Pipe::chain([fail_on(0)])).unwrap();

    put_until_ended(&session);

    assert_eq!(session.put(Item::Number(1)), Err(Ended));
    assert_eq!(session.next_output(), None);
}

#[test]
fn closing_a_session_tells_what_ended_it() {
    let session = open(Pipe::chain([fail_on(0).failing(Phase::Cleanup, BAD)])).unwrap();
    put_until_ended(&session);

    let failure = session.close().unwrap_err();

    assert_eq!(blamed(&failure), ("n0", Some(0), Phase::Process, BAD));
    assert_eq!(facts(&failure.cleanups[0]), ("n0", None, Phase::Cleanup, BAD));
}

#[test]
fn outputs_before_a_failure_can_be_taken_after_it() {
    let session = open(Pipe::chain([fail_on(0)])).unwrap();
    session.put(Item::Number(7)).unwrap();

    put_until_ended(&session);

    assert_eq!(session.next_output().unwrap(), 7);
}

#[test]
fn a_session_takes_no_items_after_its_end() {
    let mut session = open(Pipe::chain([pass()])).unwrap();

    session.end();

    assert_eq!(session.put(Item::Number(1)), Err(Ended));
}

#[test]
fn a_panic_of_a_node_reaches_the_one_who_closes() {
    let log = Log::default();
    let session = open(Pipe::chain([pass().named("a", &log).doing(Phase::Process, || panic!("on purpose"))])).unwrap();
    put_until_ended(&session);

    let panic = catch_unwind(AssertUnwindSafe(|| session.close())).err().unwrap();

    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
}
