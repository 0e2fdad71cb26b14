//! A failure is returned to the caller that put the item in; other items continue.

use std::sync::Arc;
use std::time::Duration;

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{
    CancelFlag, Concurrent, Done, EndEarly, ErrorBudget, Node, OnError, Options, Outputs, Phase, Policy, PolicyNode,
    RunError, Start,
};
use serde_json::json;

use crate::support::{
    BAD, Fault, Item, Log, Pipe, Returned, SessionUse, TestNode, fail_on, node, numbers, options, pass, spread, stream,
    thread,
};

/// The facts of a node's failure.
fn blamed(error: &RunError<Fault>) -> (&str, Option<u64>, Phase, Fault) {
    match error {
        RunError::Node(failure) => crate::support::facts(failure),
        other => panic!("a node failed: {other:?}"),
    }
}

#[test]
fn a_failure_names_node_and_item() {
    let session = Pipe::default().node("a", &[], pass()).node("b", &["a"], fail_on(2)).with(thread()).open();
    session.call(1).outputs();

    let error = session.call(2).result().unwrap_err();

    assert_eq!(blamed(&error), ("b", Some(1), Phase::Process, BAD));
}

#[test]
fn a_stream_reports_what_failed_and_goes_on() {
    let session = Pipe::default().node("a", &[], fail_on(2)).with(thread()).open();

    let (outputs, error) = stream(&session, &[1, 2, 3]);

    assert_eq!(outputs, numbers(&[1, 3]));
    assert_eq!(blamed(&error.unwrap()), ("a", Some(1), Phase::Process, BAD));
}

#[test]
fn what_fails_at_the_end_of_input_is_reported_there() {
    let session = Pipe::default()
        .node("a", &[], pass().flushing(&[7]))
        .node("b", &["a"], pass().failing(Phase::Flush, BAD))
        .with(thread())
        .open();

    let (outputs, error) = stream(&session, &[1]);

    assert_eq!(outputs, numbers(&[1, 7]));
    assert_eq!(blamed(&error.unwrap()), ("b", None, Phase::Flush, BAD));
}

#[test]
fn generators_are_closed_when_a_node_after_them_fails() {
    let log = Log::default();
    let session = Pipe::chain([spread(|_| vec![1, 2, 3]).named("a", &log), fail_on(2)]).open();

    session.call(0).result().unwrap_err();

    assert_eq!(log.lines_of("close"), ["a.close"]);
}

#[test]
fn errors_are_counted_in_every_kind_of_stage() {
    for how in [
        json!({}),
        json!({"placement": "thread"}),
        json!({"placement": "thread", "replicas": 2}),
        json!({"batch": 1}),
        json!({"concurrency": 2}),
    ] {
        let mut pipe = Pipe::default().node("a", &[], fail_on(2)).with(options(&how));
        if how.get("replicas").is_some() {
            pipe = pipe.replica(fail_on(2));
        }
        let session = pipe.measured().open();

        assert_eq!(blamed(&session.call(2).result().unwrap_err()), ("a", Some(0), Phase::Process, BAD), "{how}");
        session.call(1).outputs();

        let metrics = session.metrics().unwrap();
        let counts = (metrics.errors, metrics.node_metrics[0].items_in, metrics.node_metrics[0].items_out);
        assert_eq!(counts, (1, 2, 1), "{how}");
    }
}

fn guarded(node: TestNode, options: &Options, log: Option<&Log>) -> PolicyNode<Item> {
    let log = log.cloned();
    let dead_letter = log.map(|log| -> remotemedia_runtime::DeadLetter<Item> {
        Arc::new(move |item, index, fault| {
            log.note(format!("{item} at {index:?}: {fault:?}"));
            Ok(Outputs::None)
        })
    });
    PolicyNode::new(Box::new(node), Policy::new(options, dead_letter, CancelFlag::default()))
}

/// Fails so often, then works.
fn flaky(failures: usize, log: &Log) -> TestNode {
    let left = Mutex::new(failures);
    let log = log.clone();
    node(move |item| {
        log.note(format!("try {item}"));
        let mut left = left.lock();
        if *left > 0 {
            *left -= 1;
            return Err(BAD);
        }
        Ok(Returned::One(item))
    })
}

/// A node that receives several items at once, if its producer passes them together.
struct Together(Log);

impl Node<Item> for Together {
    fn process(&mut self, item: Item) -> Result<Outputs<Item>, Fault> {
        Ok(Outputs::One(item))
    }

    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<Item>> {
        Some(self)
    }
}

impl Concurrent<Item> for Together {
    fn start(&mut self, _: Item, _: Option<u64>, _: Done<Item>) -> Option<EndEarly> {
        panic!("one by one")
    }

    fn start_all(&mut self, starts: Vec<Start<Item>>) -> Vec<Option<EndEarly>> {
        self.0.note(format!("{:?}", starts.iter().map(|start| start.item_index).collect::<Vec<_>>()));
        let end = |Start { item, done, .. }: Start<Item>| {
            done(if item == Item::Number(2) { Err(BAD) } else { Ok(Outputs::One(item)) });
            None
        };
        starts.into_iter().map(end).collect()
    }
}

#[test]
fn a_node_under_a_policy_is_given_several_items_at_once() {
    let (log, failed) = (Log::default(), Log::default());
    let policy = |log: &Log| {
        let log = log.clone();
        let dead_letter: remotemedia_runtime::DeadLetter<Item> = Arc::new(move |item, index, fault| {
            log.note(format!("{item} at {index:?}: {fault:?}"));
            Ok(Outputs::None)
        });
        Policy::new(&Options::default(), Some(dead_letter), CancelFlag::default())
    };
    let mut node = PolicyNode::new(Box::new(Together(log.clone())), policy(&failed));
    let done = Arc::new(Mutex::new(Vec::new()));
    let starts = [1_i64, 2, 3].map(|number| {
        let done = Arc::clone(&done);
        let done: Done<Item> = Box::new(move |result| done.lock().push((number, result.is_ok())));
        Start { item_index: number.unsigned_abs() + 10, context: (), item: Item::Number(number), done }
    });

    node.as_concurrent().expect("a policy starts several").start_all(starts.into());

    assert_eq!(log.lines(), ["[11, 12, 13]"]);
    assert_eq!(failed.lines(), [format!("2 at Some(12): {BAD:?}")]);
    assert_eq!(*done.lock(), [(1, true), (2, true), (3, true)]);
}

#[test]
fn a_failed_item_is_tried_again() {
    let log = Log::default();
    let how = Options { retries: 2, ..thread() };
    let session = Pipe::default().node("a", &[], guarded(flaky(2, &log), &how, None)).with(how).open();

    assert_eq!(session.call(1).outputs(), numbers(&[1]));
    assert_eq!(log.lines(), ["try 1"; 3]);
}

#[test]
fn an_item_that_fails_too_often_has_failed() {
    let log = Log::default();
    let how = Options { retries: 1, ..thread() };
    let session = Pipe::default().node("a", &[], guarded(flaky(2, &log), &how, None)).with(how).open();

    assert_eq!(blamed(&session.call(1).result().unwrap_err()), ("a", Some(0), Phase::Process, BAD));
    assert_eq!(session.call(2).outputs(), numbers(&[2]));
}

#[test]
fn retries_wait_longer_each_time() {
    const DELAY: Duration = Duration::from_millis(20);
    let how = Options { retries: 2, retry_delay: DELAY, ..Options::default() };
    let session = Pipe::default().node("a", &[], guarded(flaky(2, &Log::default()), &how, None)).open();

    let started = std::time::Instant::now();
    session.call(1).outputs();

    // Jitter takes at most half of each pause, and the second pause is twice the first.
    assert!(started.elapsed() >= (DELAY + 2 * DELAY) / 2, "{:?}", started.elapsed());
}

/// The time for one call once ran through all attempts and the pauses between them.
#[test]
fn each_attempt_has_its_own_time() {
    const TIMEOUT: Duration = Duration::from_millis(40);
    let how = Options { retries: 1, retry_delay: TIMEOUT * 2, timeout: Some(TIMEOUT), ..Options::default() };
    let node = guarded(flaky(1, &Log::default()), &how, None);
    let session = Pipe::default().node("a", &[], node).with(how).open();

    assert_eq!(session.call(1).outputs(), numbers(&[1]));
}

#[test]
fn a_skipped_item_has_no_output() {
    let how = Options { on_error: OnError::Skip, ..thread() };
    let policy = Policy::new(&how, None, CancelFlag::default());
    let guarded = PolicyNode::new(Box::new(fail_on(2)), policy);
    let session = Pipe::default().node("a", &[], guarded).with(how).measured().open();

    let (outputs, error) = stream(&session, &[1, 2, 3]);

    assert_eq!((outputs, error.is_none()), (numbers(&[1, 3]), true));
    let metrics = session.metrics().unwrap();
    assert_eq!((metrics.failures, metrics.errors, metrics.skipped, metrics.dead_lettered), (1, 1, 1, 0));
}

#[test]
fn items_fail_without_an_error_as_long_as_the_budget_lasts() {
    for (limit, skipped) in [(None, 3), (Some(2), 2), (Some(0), 0)] {
        let how = Options { on_error: OnError::Skip, ..thread() };
        let budget = Arc::new(ErrorBudget::new(limit));
        let policy = Policy::new(&how, None, CancelFlag::default()).within(Arc::clone(&budget), "a");
        let node = PolicyNode::new(Box::new(fail_on(2)), policy);
        let session = Pipe::default().node("a", &[], node).with(how).open();

        let results = [2, 2, 2].map(|item| session.call(item).result());

        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), skipped);
        assert_eq!((budget.skipped(), budget.dead_lettered()), (skipped as u64, 0));
        let first = budget.first().map(crate::support::facts);
        assert_eq!(first, (skipped > 0).then_some(("a", Some(0), Phase::Process, BAD)));
    }
}

#[test]
fn a_dead_letter_gets_the_item_its_index_and_the_fault() {
    let log = Log::default();
    for how in [Options::default(), thread(), options(&json!({"batch": 1})), options(&json!({"concurrency": 2}))] {
        let node = guarded(fail_on(2), &how, Some(&log));
        let session = Pipe::default().node("a", &[], node).with(how).open();

        assert_eq!(session.call(3).outputs(), numbers(&[3]));
        assert_eq!(session.call(2).outputs(), [0_i64; 0]);
    }
    assert_eq!(log.lines(), vec![format!("2 at Some(1): {BAD:?}"); 4]);
}

#[test]
fn what_a_generator_gave_before_it_failed_stays() {
    let log = Log::default();
    let how = Options { on_error: OnError::Skip, ..Options::default() };
    let failing = node(|_| Ok(Returned::Many(Box::new([Ok(Item::Number(1)), Err(BAD)].into_iter()))));
    let session = Pipe::default().node("a", &[], guarded(failing, &how, Some(&log))).open();

    assert_eq!(session.call(0).outputs(), numbers(&[1]));
    assert_eq!(log.lines(), [format!("0 at Some(0): {BAD:?}")]);
}

#[test]
fn a_panic_of_a_node_ends_the_session() {
    let log = Log::default();
    let session = Pipe::default()
        .node("a", &[], pass().named("a", &log).doing(Phase::Process, || panic!("on purpose")))
        .with(thread())
        .node("b", &["a"], pass())
        .open();

    let first = session.call(0).result();
    let second = session.call(1).result();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session.shut()));

    assert!(matches!((first, second), (Err(RunError::Closed), Err(RunError::Closed))));
    assert_eq!(panic.err().unwrap().downcast_ref(), Some(&"on purpose"));
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
}
