//! Batches: full ones at once, partial ones when it is time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_runtime::locks::Mutex;
use remotemedia_runtime::{Batched, Node, Outbox, Outputs, Phase, RunError, Session};
use serde_json::json;

use crate::support::{
    BAD, Fault, Item, Pipe, SessionUse, TIMEOUT, Valve, joined, keep, numbers, options, pass, spread, stream, thread,
};

/// A node that remembers the sizes of its batches.
#[derive(Clone, Default)]
struct Batching {
    sizes: Arc<Mutex<Vec<usize>>>,
    called: Valve,
    fails_on: Option<i64>,
}

impl Batching {
    fn new() -> Self {
        let batching = Self::default();
        batching.called.open();
        batching
    }

    fn sizes(&self) -> Vec<usize> {
        self.sizes.lock().clone()
    }
}

impl Node<Item> for Batching {
    fn process(&mut self, _: Item) -> Result<Outputs<Item>, Fault> {
        Err(Fault::Because("not one by one"))
    }

    fn as_batch(&mut self) -> Option<&mut dyn Batched<Item>> {
        Some(self)
    }
}

impl Batched<Item> for Batching {
    fn process_batch(&mut self, items: Vec<Item>) -> Result<Vec<Option<Item>>, Fault> {
        self.sizes.lock().push(items.len());
        self.called.pass();
        if items.iter().any(|item| self.fails_on.is_some_and(|number| *item == number)) {
            return Err(BAD);
        }
        Ok(items.into_iter().map(|item| Some(item).filter(|item| *item != 13)).collect())
    }
}

fn batching(node: &Batching, batch: &serde_json::Value) -> Session<Item> {
    Pipe::default().node("batch", &[], node.clone()).with(options(&json!({"batch": batch}))).open()
}

/// Put items in without anybody waiting for them.
fn put_all(session: &Session<Item>, input: &[i64]) -> Arc<Outbox<Item>> {
    let outbox = Arc::new(Outbox::new(1000, None));
    for number in input {
        assert!(session.put(&outbox, Some(*number)).is_in());
    }
    outbox
}

#[test]
fn a_full_batch_goes_at_once() {
    let node = Batching::new();
    let session = batching(&node, &json!(3));

    put_all(&session, &[1, 2, 3, 4]);
    node.called.wait_for(1);

    assert_eq!(node.sizes(), [3]);
}

#[test]
fn the_end_of_input_ends_a_batch() {
    let node = Batching::new();
    let session = batching(&node, &json!(3));

    let (outputs, _) = stream(&session, &[1, 2, 3, 4]);

    assert_eq!(outputs, numbers(&[1, 2, 3, 4]));
    assert_eq!(node.sizes().iter().sum::<usize>(), 4);
    assert!(node.sizes().iter().all(|&size| size <= 3));
}

#[test]
fn a_batch_goes_after_its_longest_wait() {
    const MAX_WAIT: Duration = Duration::from_millis(30);
    let node = Batching::new();
    let session = batching(&node, &json!({"size": 100, "max_wait": MAX_WAIT.as_secs_f64()}));

    let started = Instant::now();
    put_all(&session, &[1, 2]);
    node.called.wait_for(1);

    assert!(started.elapsed() >= MAX_WAIT);
    assert_eq!(node.sizes(), [2]);
}

#[test]
fn a_batch_does_not_wait_when_somebody_waits_for_it() {
    let node = Batching::new();
    let session = batching(&node, &json!(100));

    assert_eq!(session.call(1).outputs(), numbers(&[1]));
}

#[test]
fn a_call_takes_those_along_who_wait() {
    let node = Batching::new();
    let session = batching(&node, &json!(100));

    put_all(&session, &[1, 2]);
    session.call(3).outputs();

    assert_eq!(node.sizes().iter().sum::<usize>(), 3);
}

#[test]
fn draining_ends_a_batch() {
    let node = Batching::new();
    let session = batching(&node, &json!(100));
    put_all(&session, &[1, 2]);

    let mut end = session.begin_drain();
    let is_drained = session.is_drained(&mut end, TIMEOUT);
    session.end_drain();

    assert!(is_drained);
    assert_eq!(node.sizes().iter().sum::<usize>(), 2);
}

/// Draining once lost its wake, when it came while the thread looked whether there was one.
#[test]
fn draining_ends_a_batch_at_any_moment() {
    let node = Batching::new();
    let session = batching(&node, &json!(100));
    for round in 0..300 {
        put_all(&session, &[round]);
        let mut end = session.begin_drain();
        let deadline = Instant::now() + TIMEOUT;
        while !session.is_drained(&mut end, Duration::from_millis(1)) {
            assert!(Instant::now() < deadline, "it is drained");
        }
        session.end_drain();
    }
}

/// Inputs of which nothing reaches the batch once took up its places, and nothing went any more.
#[test]
fn a_batch_is_made_of_what_is_not_filtered() {
    let node = Batching::new();
    let pipe = Pipe::default()
        .node("keep", &[], keep(|number| number >= 100))
        .node("batch", &["keep"], node.clone())
        .with(options(&json!({"batch": 2})));
    let session = pipe.open();

    let (outputs, _) = stream(&session, &[&[0; 50], &[100, 101][..]].concat());

    assert_eq!(outputs, numbers(&[100, 101]));
    assert_eq!(node.sizes(), [2]);
}

#[test]
fn a_batch_is_never_larger_than_its_size() {
    let node = Batching::new();
    let pipe = Pipe::default()
        .node("spread", &[], spread(|number| vec![number; 10]))
        .with(thread())
        .node("batch", &["spread"], node.clone())
        .with(options(&json!({"batch": 4})));
    let session = pipe.open();

    let (outputs, _) = stream(&session, &[1, 2, 3]);

    assert_eq!(outputs, numbers(&[[1; 10], [2; 10], [3; 10]].concat()));
    assert!(node.sizes().iter().all(|&size| size <= 4), "{:?}", node.sizes());
}

#[test]
fn items_of_a_batch_may_have_no_output() {
    let session = batching(&Batching::new(), &json!(3));

    let (outputs, _) = stream(&session, &[12, 13, 14]);

    assert_eq!(outputs, numbers(&[12, 14]));
}

#[test]
fn a_batch_that_fails_fails_for_those_in_it() {
    let node = Batching { fails_on: Some(2), ..Batching::new() };
    let session = batching(&node, &json!(2));
    node.called.wait_for(0);

    let calls: Vec<_> = [1, 3].map(|number| session.call(number)).into();
    assert!(calls.iter().all(|call| call.result().is_ok()));
    let error = session.call(2).result().unwrap_err();

    assert!(matches!(error, RunError::Node(failure) if (failure.phase, failure.fault) == (Phase::Process, BAD)));
    assert_eq!(session.call(4).outputs(), numbers(&[4]));
}

#[test]
fn the_end_of_input_is_reached_after_a_batch_that_failed() {
    let node = Batching { fails_on: Some(2), ..Batching::new() };
    let session = batching(&node, &json!(2));

    let (outputs, error) = stream(&session, &[1, 2, 3]);

    assert!(error.is_some());
    assert!(outputs.contains(&Item::Number(3)) || node.sizes() == [2, 1] || node.sizes().len() < 3);
    session.shut();
}

/// The end of input once came to one replica only, and the batch of the other one waited for ever.
#[test]
fn the_end_of_input_ends_the_batches_of_all_replicas() {
    for _ in 0..20 {
        let node = Batching::new();
        let pipe = Pipe::default()
            .node("batch", &[], node.clone())
            .with(options(&json!({"batch": 3, "placement": "thread", "replicas": 2})))
            .replica(node.clone());
        let session = pipe.open();

        let (outputs, _) = stream(&session, &[1, 2, 3, 4, 5]);

        assert_eq!(outputs, numbers(&[1, 2, 3, 4, 5]));
    }
}

/// A replica once waited for company that could not come before its own batch was done.
#[test]
fn batches_of_replicas_do_not_wait_for_each_other() {
    for _ in 0..10 {
        let node = Batching::new();
        let pipe = Pipe::default()
            .node("batch", &[], node.clone())
            .with(options(&json!({"batch": 2, "placement": "thread", "replicas": 2})))
            .replica(node.clone());
        let session = pipe.open();
        let input: Vec<i64> = (20..300).collect();

        let (outputs, _) = stream(&session, &input);

        assert_eq!(outputs, numbers(&input));
    }
}

#[test]
fn a_batch_is_made_of_joined_items() {
    let node = Batching::new();
    let pipe = Pipe::default()
        .node("a", &[], pass())
        .node("b", &[], keep(|number| number > 1))
        .join("batch", &["a", "b"], node.clone())
        .with(options(&json!({"batch": 2})));
    let session = pipe.open();

    let (outputs, _) = stream(&session, &[1, 2]);

    assert_eq!(outputs, [joined(&[("a", &[1]), ("b", &[])]), joined(&[("a", &[2]), ("b", &[2])])]);
}
