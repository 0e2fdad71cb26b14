//! Who is told what of which input.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;

use crate::RunError;
use crate::session::queues::in_flight::{Client, Tracker};
use crate::session::queues::loom::{Counting, Number, PATIENCE, check};

fn tracker() -> (Arc<Tracker<Number>>, Arc<Counting>, u64) {
    let (tracker, client) = (Arc::new(Tracker::new()), Arc::new(Counting::default()));
    let input = tracker.open(client.clone(), (), None, true);
    (tracker, client, input)
}

#[test]
fn the_end_is_told_once() {
    check(|| {
        let (tracker, client, input) = tracker();
        let completing = Arc::clone(&tracker);
        let completing = thread::spawn(move || completing.complete(input));
        let failing = Arc::clone(&tracker);
        let failing = thread::spawn(move || failing.fail(input, RunError::Cancelled));

        tracker.take_all().tell(|| RunError::Closed);

        completing.join().unwrap();
        failing.join().unwrap();
        assert_eq!(client.ends.load(Ordering::SeqCst), 1);
        assert!(!tracker.is_open(input) && tracker.len() == 0);
    });
}

#[test]
fn nothing_is_handed_over_after_the_silence() {
    check(|| {
        let (tracker, client, input) = tracker();
        let working = Arc::clone(&tracker);
        let working = thread::spawn(move || {
            working.output(input, Number(1));
            working.output(input, Number(2));
            working.complete(input);
        });

        let clients = tracker.take_all();
        while !tracker.is_quiet(PATIENCE) {}
        clients.forget();
        let left = client.outputs.lock().expect("no model panics in here").len();

        working.join().unwrap();
        // Only an input that was through before it could be taken keeps its outputs.
        let outputs = client.outputs.lock().expect("no model panics in here").len();
        assert!(outputs == left && (clients.count() == 0 || outputs == 0));
    });
}

#[test]
fn one_who_waits_for_the_end_is_woken() {
    check(|| {
        let (tracker, client, input) = tracker();
        let second = tracker.open(client, (), None, true);
        let completing = Arc::clone(&tracker);
        let completing = thread::spawn(move || {
            completing.complete(second);
            completing.complete(input);
        });

        assert!(tracker.wait_until_done(tracker.end(), PATIENCE));

        completing.join().unwrap();
    });
}

#[test]
fn an_abandoned_input_is_told_once() {
    check(|| {
        let (tracker, client, input) = tracker();
        let working = Arc::clone(&tracker);
        let working = thread::spawn(move || {
            working.output(input, Number(1));
            working.complete(input);
        });
        let abandoned: Arc<dyn Client<Number>> = client.clone();

        tracker.abandon(&abandoned);

        working.join().unwrap();
        assert_eq!(client.ends.load(Ordering::SeqCst), 1);
    });
}
