//! The outputs of a stream.

use std::sync::Arc;

use crate::failure::{NodeFailure, RunError};
use crate::phase::Phase;
use crate::session::queues::clients::Client;
use crate::session::queues::in_flight::{InFlight, InputKind};
use crate::session::queues::locks::thread;
use crate::session::queues::loom::{Number, TIMEOUT, check, join_all};
use crate::session::queues::outbox::{Next, Outbox};

fn outbox(inputs: usize) -> Arc<Outbox<Number>> {
    let outbox = Arc::new(Outbox::new(1, None));
    (0..inputs).for_each(|_| outbox.expect_input());
    outbox.end();
    outbox
}

fn put(outbox: &Arc<Outbox<Number>>, outputs: &'static [u64]) -> thread::JoinHandle<()> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || {
        for &output in outputs {
            outbox.output(Number(output));
        }
        outbox.done(Ok(()));
    })
}

fn take_all(outbox: &Outbox<Number>) -> Vec<u64> {
    let mut outputs = Vec::new();
    loop {
        match outbox.next(TIMEOUT) {
            Next::Output(Number(output)) => outputs.push(output),
            Next::End => return outputs,
            Next::Nothing => {}
            Next::Failed(error) => panic!("nothing fails: {error:?}"),
        }
    }
}

#[test]
fn all_outputs_come_out_in_order() {
    check(|| {
        let outbox = outbox(1);
        let putting = put(&outbox, &[1, 2, 3]);

        assert_eq!(take_all(&outbox), [1, 2, 3]);
        putting.join().unwrap();
    });
}

#[test]
fn two_stages_may_bring_outputs() {
    check(|| {
        let outbox = outbox(2);
        let putting = [put(&outbox, &[1]), put(&outbox, &[2])];

        assert_eq!(take_all(&outbox).iter().sum::<u64>(), 3);
        join_all(putting);
    });
}

#[test]
fn nobody_waits_for_one_who_takes_no_more() {
    check(|| {
        let outbox = outbox(1);
        let putting = put(&outbox, &[1, 2]);

        outbox.abandon();

        putting.join().unwrap();
        assert!(matches!(outbox.next(TIMEOUT), Next::End));
    });
}

#[test]
fn forgetting_wakes_one_who_waits_for_room() {
    check(|| {
        let outbox = outbox(1);
        outbox.output(Number(1));
        let putting = put(&outbox, &[2]);

        outbox.forget();

        putting.join().unwrap();
    });
}

#[test]
fn an_interrupt_ends_the_wait_of_a_consumer() {
    check(|| {
        let outbox = outbox(2);
        let interrupting = Arc::clone(&outbox);
        let interrupting = thread::spawn(move || interrupting.interrupted(2));

        assert_eq!(take_all(&outbox), [0; 0]);
        interrupting.join().unwrap();
    });
}

fn failure() -> RunError<()> {
    RunError::Node(NodeFailure { node_id: "node".into(), item_index: None, phase: Phase::Process, fault: () })
}

#[test]
fn one_who_brings_an_error_waits_for_room() {
    check(|| {
        let outbox = outbox(2);
        outbox.done(Err(failure()));
        let bringing = Arc::clone(&outbox);
        let bringing = thread::spawn(move || {
            bringing.fails(bringing.generation());
            bringing.done(Err(failure()));
        });

        for _ in 0..2 {
            assert!(matches!(outbox.next(TIMEOUT), Next::Failed(_)));
        }
        assert!(matches!(outbox.next(TIMEOUT), Next::End));
        bringing.join().unwrap();
    });
}

#[test]
fn one_who_brings_an_error_does_not_wait_for_what_is_forgotten() {
    check(|| {
        let outbox = outbox(2);
        outbox.done(Err(failure()));
        let in_flight = Arc::new(InFlight::new());
        let input = in_flight.open(outbox.clone(), (), None, InputKind::Item);
        in_flight.fail(input, failure());
        let completing = Arc::clone(&in_flight);
        let completing = thread::spawn(move || completing.complete(input));

        in_flight.take_all().forget();

        completing.join().unwrap();
    });
}

#[test]
fn a_producer_does_not_wait_when_all_its_inputs_are_done() {
    check(|| {
        let outbox = Arc::new(Outbox::new(1, None));
        outbox.expect_input();
        // Its item is filtered out.
        let putting = put(&outbox, &[]);

        assert!(matches!(outbox.next_ready(TIMEOUT, &mut Vec::new()), Next::Nothing));
        putting.join().unwrap();
    });
}
