//! What crosses to a worker and back.

use std::sync::Arc;

use remotemedia_runtime::{Next, Outbox};
use serde_json::json;

use super::{Fault, TIMEOUT, Thing, good, open};

#[test]
fn items_go_to_a_worker_and_back_in_order() {
    let workers = open(&["double"], json!({}));

    let outputs = workers.map(0..1000);

    assert_eq!(outputs, good((0..1000).map(|number| number * 2)));
    assert_eq!(workers.close(), []);
}

#[test]
fn a_group_shares_one_worker() {
    let workers = open(&["double", "odd", "sum"], json!({"group": "g"}));
    assert_eq!(workers.session.plan().stages().len(), 1);

    assert_eq!(workers.map([1, 2, 3]), good([0]));
    let workers = open(&["odd", "double", "sum"], json!({"group": "g"}));
    assert_eq!(workers.map([1, 2, 3]), good([2, 8, -8]));
}

#[test]
fn outputs_of_a_generator_come_one_by_one() {
    let workers = open(&["count"], json!({}));

    assert_eq!(workers.map([3, 0, 2]), good([1, 2, 3, 1, 2]));
    assert_eq!(workers.close(), []);
}

#[test]
fn large_buffers_are_read_in_place_and_come_back_unchanged() {
    let workers = open(&["pass"], json!({}));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();

    for _ in 0..5 {
        workers.put(Some(Thing::Bytes(bytes.clone())));
        let Ok(Thing::Seen(view)) = workers.next() else { panic!("bytes were expected") };
        assert_eq!(&*view, &bytes[..]);
        drop(view);
    }
    assert_eq!(workers.close(), []);
}

#[test]
fn a_view_outlives_its_session() {
    let workers = open(&["copy"], json!({}));
    workers.put(Some(Thing::Bytes(vec![7; 200_000])));
    let view = workers.next();

    workers.close();

    assert!(matches!(view, Ok(Thing::Seen(view)) if view.iter().all(|&byte| byte == 7)));
}

#[test]
fn a_failure_names_its_node_and_the_worker_goes_on() {
    let workers = open(&["double", "fail"], json!({"group": "g"}));

    workers.put(Some(Thing::Number(1)));
    assert_eq!(workers.number(), Ok(2));
    let workers = open(&["fail"], json!({}));
    let outputs = workers.map([12, 13, 14]);
    assert_eq!(outputs[0], Ok(12));
    assert_eq!(outputs[1], Err(Fault::StdStream("fail in process: StdStream(\"thirteen\")".into())));
    assert_eq!(outputs.get(2), Some(&Ok(14)));
}

#[test]
fn an_output_that_cannot_be_packed_is_a_failure_of_its_item() {
    let workers = open(&["unpackable"], json!({}));

    workers.put(Some(Thing::Number(1)));

    assert_eq!(
        workers.number(),
        Err(Fault::StdStream("unpackable in process: StdStream(\"cannot be packed\")".into()))
    );
    assert_eq!(workers.close(), []);
}

#[test]
fn replicas_work_side_by_side_and_order_is_kept() {
    let workers = open(&["double"], json!({"replicas": 3}));

    assert_eq!(workers.map(0..500), good((0..500).map(|number| number * 2)));
    assert_eq!(workers.session.worker_processes().len(), 3);
}

#[test]
fn a_batch_crosses_in_one_call() {
    let workers = open(&["double"], json!({"batch": 8}));

    assert_eq!(workers.map(0..20), good((0..20).map(|number| number * 2)));
}

#[test]
fn what_a_worker_says_arrives() {
    let workers = open(&["note"], json!({}));

    assert_eq!(workers.map([1, 2]), good([1, 2]));

    let clerk = Arc::clone(&workers.clerk);
    workers.close();
    assert_eq!(clerk.notes.lock().len(), 2);
    let lines = clerk.lines.lock();
    assert!(lines.contains(&"Err: thing 1".to_owned()), "{lines:?}");
}

#[test]
fn an_interruption_drops_what_is_under_way() {
    let workers = open(&["hang"], json!({}));
    for number in [1, 13, 14, 15] {
        workers.put(Some(Thing::Number(number)));
    }
    assert_eq!(workers.number(), Ok(1));

    let dropped = workers.session.interrupt(&|| {});

    // The end of the first one may not have been reported yet.
    assert!((3..=4).contains(&dropped), "{dropped}");
    let outbox = Arc::new(Outbox::new(10, None));
    outbox.expect_input();
    workers.session.submit(Some(Thing::Number(5)), outbox.clone(), false, None);
    assert!(matches!(outbox.next(TIMEOUT), Next::Output(Thing::Number(5))));
}
