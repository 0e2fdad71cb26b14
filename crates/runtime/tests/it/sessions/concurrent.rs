//! Nodes that begin with an item before the one before it is done.

use std::collections::VecDeque;
use std::sync::Arc;

use remotemedia_runtime::locks::{Condvar, Mutex};
use remotemedia_runtime::{Concurrent, EndEarly, Node, Outputs, Phase, RunError, Session, Stream};
use serde_json::json;

use crate::support::{BAD, Fault, Item, Pipe, SessionUse, TIMEOUT, numbers, options, pass, stream, thread};

type Done = Box<dyn FnOnce(Result<Outputs<Item>, Fault>) + Send>;

type Begun = Mutex<VecDeque<(Item, Done)>>;

/// Keeps the items that it has begun with, until the test lets them end.
#[derive(Clone, Default)]
struct Pending(Arc<(Begun, Condvar)>);

impl Pending {
    /// Wait until so many are in progress.
    fn wait_for(&self, count: usize) {
        let mut begun = self.0.0.lock();
        let waited = self.0.1.wait_while_for(&mut begun, |begun| begun.len() < count, TIMEOUT);
        assert!(!waited, "{count} are in progress");
    }

    /// End with the one that stands there.
    fn end(&self, place: usize) {
        let (item, done) = self.0.0.lock().remove(place).expect("it is in progress");
        done(Ok(Outputs::One(item)));
    }

    fn fail(&self, place: usize) {
        let (_, done) = self.0.0.lock().remove(place).expect("it is in progress");
        done(Err(BAD));
    }

    fn under_way(&self) -> usize {
        self.0.0.lock().len()
    }
}

impl Node<Item> for Pending {
    fn process(&mut self, _: Item) -> Result<Outputs<Item>, Fault> {
        Err(Fault::Because("not one by one"))
    }

    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<Item>> {
        Some(self)
    }

    fn interrupt(&mut self) -> Result<(), Fault> {
        let begun = std::mem::take(&mut *self.0.0.lock());
        for (_, done) in begun {
            done(Err(Fault::Interrupt));
        }
        Ok(())
    }

    fn cleanup(&mut self) -> Result<(), Fault> {
        self.interrupt()
    }
}

impl Concurrent<Item> for Pending {
    fn start(&mut self, item: Item, _item_index: Option<u64>, done: Done) -> Option<EndEarly> {
        self.0.0.lock().push_back((item, done));
        self.0.1.notify_all();
        None
    }
}

fn open(node: &Pending, concurrency: usize) -> Session<Item> {
    Pipe::default().node("a", &[], node.clone()).with(options(&json!({"concurrency": concurrency}))).open()
}

#[test]
fn as_many_items_are_in_flight_as_may_be() {
    let node = Pending::default();
    let session = open(&node, 3);

    let calls = [1, 2, 3, 4].map(|number| session.call(number));
    node.wait_for(3);
    assert_eq!(node.under_way(), 3);

    node.end(0);
    node.wait_for(3);
    (0..3).for_each(|_| node.end(0));
    assert_eq!(calls.map(|call| call.outputs()), [1, 2, 3, 4].map(|number| numbers(&[number])));
}

#[test]
fn the_order_is_kept_whichever_is_done_first() {
    let node = Pending::default();
    let session = open(&node, 3);

    let calls = [1, 2, 3].map(|number| session.call(number));
    node.wait_for(3);
    node.end(2);
    node.end(1);
    assert!(!calls[2].is_done());

    node.end(0);
    assert_eq!(calls.map(|call| call.outputs()), [1, 2, 3].map(|number| numbers(&[number])));
}

#[test]
fn without_order_the_first_is_out_first() {
    let node = Pending::default();
    let options = options(&json!({"concurrency": 2, "ordered": false}));
    let session = Pipe::default().node("a", &[], node.clone()).with(options).open();

    let calls = [1, 2].map(|number| session.call(number));
    node.wait_for(2);
    node.end(1);

    assert_eq!(calls[1].outputs(), numbers(&[2]));
    node.end(0);
    assert_eq!(calls[0].outputs(), numbers(&[1]));
}

#[test]
fn a_failure_is_that_of_its_item() {
    let node = Pending::default();
    let session = open(&node, 2);

    let calls = [1, 2].map(|number| session.call(number));
    node.wait_for(2);
    node.fail(0);
    node.end(0);

    let error = calls[0].result().unwrap_err();
    assert!(
        matches!(error, RunError::Node(failure) if (failure.item_index, failure.phase) == (Some(0), Phase::Process))
    );
    assert_eq!(calls[1].outputs(), numbers(&[2]));
}

#[test]
fn the_end_of_input_waits_for_what_is_in_flight() {
    let node = Pending::default();
    let session = open(&node, 2);

    let outputs = std::thread::scope(|scope| {
        let outputs = scope.spawn(|| stream(&session, &[1, 2]));
        node.wait_for(2);
        node.end(1);
        node.end(0);
        outputs.join().unwrap()
    });

    assert_eq!(outputs.0, numbers(&[1, 2]));
}

#[test]
fn the_items_of_one_input_are_in_flight_together() {
    let node = Pending::default();
    let spread = crate::support::node(|_| Ok(crate::support::Returned::many(&[1, 2, 3])));
    let options = options(&json!({"concurrency": 2}));
    let session = Pipe::default().node("s", &[], spread).node("a", &["s"], node.clone()).with(options).open();

    let call = session.call(0);
    node.wait_for(2);
    node.end(1);
    node.wait_for(2);
    node.end(1);
    node.end(0);

    assert_eq!(call.outputs(), numbers(&[1, 2, 3]));
}

#[test]
fn a_node_without_a_beginning_of_its_own_takes_one_by_one() {
    let session = Pipe::chain([pass()]).with(options(&json!({"concurrency": 4}))).measured().open();

    assert_eq!(stream(&session, &[1, 2, 3]).0, numbers(&[1, 2, 3]));
    assert_eq!(session.metrics().unwrap().node_metrics[0].items_out, 3);
}

#[test]
fn an_interrupt_ends_what_is_in_flight() {
    let node = Pending::default();
    let session = open(&node, 2);
    let calls = [1, 2, 3].map(|number| session.call(number));
    node.wait_for(2);

    assert_eq!(session.interrupt(&|| {}), 3);

    assert!(calls.iter().all(|call| matches!(call.result(), Err(RunError::Interrupted))));
    let next = session.call(4);
    node.wait_for(1);
    node.end(0);
    assert_eq!(next.outputs(), numbers(&[4]));
}

#[test]
fn a_thousand_in_flight_need_no_thread_each() {
    let node = Pending::default();
    let session = Pipe::default()
        .node("a", &[], node.clone())
        .with(options(&json!({"concurrency": 1000, "queue_size": 1000})))
        .node("b", &["a"], pass())
        .with(thread())
        .open();

    let calls: Vec<_> = (0..1000).map(|number| session.call(number)).collect();
    node.wait_for(1000);
    (0..1000).rev().for_each(|place| node.end(place));

    assert!(calls.iter().zip(0..).all(|(call, number)| call.outputs() == numbers(&[number])));
}

/// Outputs that are made one after the other.
struct Countdown(i64);

impl Stream<Item> for Countdown {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        self.0 -= 1;
        Ok((self.0 >= 0).then_some(Item::Number(self.0)))
    }
}

#[test]
fn an_item_in_flight_may_give_several_outputs() {
    let node = Pending::default();
    let session = open(&node, 2);

    let call = session.call(1);
    node.wait_for(1);
    let (_, done) = node.0.0.lock().remove(0).unwrap();
    done(Ok(Outputs::Many(Box::new(Countdown(3)))));

    assert_eq!(call.outputs(), numbers(&[2, 1, 0]));
}
