//! Which ends are reported of which input.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::failure::RunError;
use crate::session::queues::clients::Client;
use crate::session::queues::in_flight::{InFlight, InputKind};
use crate::session::queues::locks::thread;
use crate::session::queues::loom::{Counting, Number, TIMEOUT, check};

fn in_flight() -> (Arc<InFlight<Number>>, Arc<Counting>, u64) {
    let (in_flight, client) = (Arc::new(InFlight::new()), Arc::new(Counting::default()));
    let input = in_flight.open(client.clone(), (), None, InputKind::Item);
    (in_flight, client, input)
}

#[test]
fn the_end_is_reported_once() {
    check(|| {
        let (in_flight, client, input) = in_flight();
        let completing = Arc::clone(&in_flight);
        let completing = thread::spawn(move || completing.complete(input));
        let failing = Arc::clone(&in_flight);
        let failing = thread::spawn(move || failing.fail(input, RunError::Cancelled));

        in_flight.take_all().fail_all(|| RunError::Closed);

        completing.join().unwrap();
        failing.join().unwrap();
        assert_eq!(client.ends.load(Ordering::SeqCst), 1);
        assert!(!in_flight.is_open(input) && in_flight.len() == 0);
    });
}

#[test]
fn nothing_is_handed_over_after_the_silence() {
    check(|| {
        let (in_flight, client, input) = in_flight();
        let working = Arc::clone(&in_flight);
        let working = thread::spawn(move || {
            working.output(input, Number(1));
            working.output(input, Number(2));
            working.complete(input);
        });

        let clients = in_flight.take_all();
        while !in_flight.is_quiet(TIMEOUT) {}
        clients.forget();
        let left = client.outputs.lock().len();

        working.join().unwrap();
        // Only an input that was through before it could be taken keeps its outputs.
        let outputs = client.outputs.lock().len();
        assert!(outputs == left && (clients.count() == 0 || outputs == 0));
    });
}

#[test]
fn one_who_waits_for_the_end_is_woken() {
    check(|| {
        let (in_flight, client, input) = in_flight();
        let second = in_flight.open(client, (), None, InputKind::Item);
        let completing = Arc::clone(&in_flight);
        let completing = thread::spawn(move || {
            completing.complete(second);
            completing.complete(input);
        });

        assert!(in_flight.wait_until_done(in_flight.end(), TIMEOUT));

        completing.join().unwrap();
    });
}

#[test]
fn the_end_of_an_abandoned_input_is_reported_once() {
    check(|| {
        let (in_flight, client, input) = in_flight();
        let working = Arc::clone(&in_flight);
        let working = thread::spawn(move || {
            working.output(input, Number(1));
            working.complete(input);
        });
        let abandoned: Arc<dyn Client<Number>> = client.clone();

        in_flight.abandon(&abandoned);

        working.join().unwrap();
        assert_eq!(client.ends.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_interruption_does_not_count_items_whose_outputs_are_taken() {
    check(|| {
        let (in_flight, client) = (Arc::new(InFlight::new()), Arc::new(Counting::default()));
        let input = in_flight.open(client.clone(), (), None, InputKind::Chunk(2));
        let working = Arc::clone(&in_flight);
        let working = thread::spawn(move || {
            working.outputs(input, vec![Number(1), Number(2)], 2, true);
            working.complete(input);
        });

        let clients = in_flight.take_all();
        // A consumer takes what is there.
        let taken = std::mem::take(&mut *client.outputs.lock()).len();
        clients.interrupted();

        working.join().unwrap();
        assert!(taken == 0 || client.interrupted.load(Ordering::SeqCst) == 0);
        assert_eq!(client.ends.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn nor_those_of_a_chunk_that_is_handed_on_in_parts() {
    check(|| {
        let (in_flight, client) = (Arc::new(InFlight::new()), Arc::new(Counting::default()));
        let input = in_flight.open(client.clone(), (), None, InputKind::Chunk(2));
        let working = Arc::clone(&in_flight);
        let working = thread::spawn(move || {
            working.outputs(input, vec![Number(1)], 1, false);
            working.outputs(input, vec![Number(2)], 2, true);
            working.complete(input);
        });

        let clients = in_flight.take_all();
        // A consumer takes what is there.
        let taken = std::mem::take(&mut *client.outputs.lock()).len();
        clients.interrupted();

        working.join().unwrap();
        assert!(taken + client.interrupted.load(Ordering::SeqCst) <= 2);
        assert_eq!(client.ends.load(Ordering::SeqCst), 2);
    });
}
