//! Pipelines that make their own input.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use remotemedia_runtime::{Client, Next, Outbox, Phase, RunError, Session};
use serde_json::json;

use crate::support::{
    BAD, Item, Log, Pipe, Returned, SessionUse, TIMEOUT, TestNode, Valve, add, numbers, options, pass, source, thread,
};

/// Let the source run, into a short outbox.
fn start(session: &Session<Item>) -> Arc<Outbox<Item>> {
    let outbox = Arc::new(Outbox::new(2, None));
    outbox.expect_input();
    let expecting = Arc::clone(&outbox);
    let client: Arc<dyn Client<Item>> = outbox.clone();
    session.start_source(client, (), Box::new(move || expecting.expect_input()));
    outbox.end();
    outbox
}

fn drain(outbox: &Outbox<Item>) -> (Vec<Item>, Option<RunError<crate::support::Fault>>) {
    let mut outputs = Vec::new();
    loop {
        match outbox.next(TIMEOUT) {
            Next::Output(output) => outputs.push(output),
            Next::Failed(error) => return (outputs, Some(error)),
            Next::End => return (outputs, None),
            Next::Nothing => panic!("a source comes to its end"),
        }
    }
}

/// Makes numbers for ever and counts them.
fn endless(made: &Arc<AtomicUsize>) -> TestNode {
    let made = Arc::clone(made);
    source(move || {
        let made = Arc::clone(&made);
        Ok(Returned::Many(Box::new((0..).map(move |number| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(Item::Number(number))
        }))))
    })
}

#[test]
fn the_outputs_of_a_source_are_the_input() {
    for how in [json!({}), json!({"placement": "thread"}), json!({"batch": 2})] {
        let session = Pipe::default()
            .node("source", &[], source(|| Ok(Returned::many(&[1, 2, 3]))))
            .node("a", &["source"], add(10).flushing(&[7]))
            .with(options(&how))
            .open();

        assert!(session.has_source());
        let (outputs, error) = drain(&start(&session));
        assert!(error.is_none());
        assert_eq!(outputs, numbers(&[11, 12, 13, 7]), "{how}");
    }
}

#[test]
fn a_source_may_make_one_item_or_none() {
    for (result, expected) in [(Some(5), numbers(&[5])), (None, Vec::new())] {
        let make = move || Ok(result.map_or(Returned::Nothing, |number| Returned::One(Item::Number(number))));
        let session = Pipe::chain([source(make), pass()]).open();

        assert_eq!(drain(&start(&session)).0, expected);
    }
}

#[test]
fn a_source_is_no_further_ahead_than_the_queues_hold() {
    let made = Arc::new(AtomicUsize::new(0));
    let session =
        Pipe::default().node("source", &[], endless(&made)).node("a", &["source"], pass()).with(thread()).open();
    let outbox = start(&session);

    for taken in 1..500 {
        assert!(matches!(outbox.next(TIMEOUT), Next::Output(_)));
        let ahead = made.load(Ordering::SeqCst) - taken;
        // Two queues, the outbox, one in each stage, and the one that waits to be put in.
        assert!(ahead <= 2 + 2 + 2 + 3, "{ahead} are ahead");
    }
}

#[test]
fn closing_ends_a_source_and_closes_its_generator() {
    let log = Log::default();
    let made = Arc::new(AtomicUsize::new(0));
    let session = Pipe::chain([endless(&made).named("source", &log), pass()]).open();
    let outbox = start(&session);
    assert!(matches!(outbox.next(TIMEOUT), Next::Output(_)));

    session.shut();

    assert_eq!(log.lines_of("close"), ["source.close"]);
    assert_eq!(log.lines_of("cleanup"), ["source.cleanup"]);
}

/// The failure once overtook the items before it.
#[test]
fn a_source_that_fails_ends_its_stream_after_the_items_before() {
    let session =
        Pipe::chain([source(|| Ok(Returned::Many(Box::new([Ok(Item::Number(1)), Err(BAD)].into_iter())))), pass()])
            .open();

    let (outputs, error) = drain(&start(&session));

    assert!(
        matches!(error, Some(RunError::Node(failure)) if (&*failure.node_id, failure.phase) == ("n0", Phase::Process))
    );
    assert_eq!(outputs, numbers(&[1]));
}

/// A source that hangs was not named, and was cleaned up while it was still at work.
#[test]
fn a_source_that_hangs_is_named_and_abandoned() {
    let (valve, log) = (Valve::default(), Log::default());
    let in_source = valve.clone();
    let hanging = source(move || {
        let valve = in_source.clone();
        Ok(Returned::Many(Box::new(std::iter::repeat_with(move || {
            valve.pass();
            Ok(Item::Number(0))
        }))))
    });
    let session = Pipe::chain([hanging.named("source", &log), pass().named("a", &log)]).open();
    let _outbox = start(&session);
    valve.wait_for(1);

    let closed = session.close(Duration::from_millis(50), &|| {});

    let named: Vec<_> = closed.abandoned.iter().map(|stall| (&*stall.node_id, stall.item_index)).collect();
    assert_eq!(named, [("n0", Some(0))]);
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
    valve.open();
}

#[test]
fn a_source_goes_on_after_an_interrupt() {
    let made = Arc::new(AtomicUsize::new(0));
    let session =
        Pipe::default().node("source", &[], endless(&made)).node("a", &["source"], pass()).with(thread()).open();
    let outbox = start(&session);
    while made.load(Ordering::SeqCst) < 5 {
        std::thread::yield_now();
    }

    session.interrupt(&|| {});

    // The last one that was made may not have been in.
    let Next::Output(Item::Number(next)) = outbox.next(TIMEOUT) else { panic!("it goes on") };
    assert!(next >= 4, "{next} is old");
}

#[test]
fn what_a_source_makes_is_counted() {
    let session = Pipe::chain([source(|| Ok(Returned::many(&[1, 2, 3]))), pass()]).measured().open();

    drain(&start(&session));

    let metrics = session.metrics().unwrap();
    assert_eq!((metrics.items_in, metrics.items_out), (3, 3));
    assert_eq!(metrics.node_metrics.iter().map(|node| node.items_out).collect::<Vec<_>>(), [3, 3]);
}
