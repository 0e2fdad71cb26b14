//! Parallel work that is put in order again.

use std::sync::Arc;

use crate::session::queues::locks::{Mutex, thread};
use crate::session::queues::loom::{Number, TIMEOUT, check, envelope, join_all};
use crate::session::queues::reorder::{Begin, Completion, Reorder};

fn completion(input: u64) -> Completion<Number> {
    Completion { header: envelope(input).header(), outputs: Vec::new(), visited_exits: Vec::new() }
}

fn next(reorder: &Reorder<Number>) -> u64 {
    reorder.next().expect("it is never closed").header.input
}

#[test]
fn what_is_done_is_handed_on_in_order() {
    check(|| {
        let reorder = Arc::new(Reorder::new(true, 2, 2));
        let work = |number: u64| {
            let reorder = Arc::clone(&reorder);
            thread::spawn(move || {
                assert!(reorder.begin());
                reorder.complete(number, completion(number));
            })
        };
        let working = [work(1), work(0)];

        assert_eq!([next(&reorder), next(&reorder)], [0, 1]);
        join_all(working);
    });
}

#[test]
fn those_who_help_and_the_forwarder_hand_on_all_in_order() {
    check(|| {
        let reorder = Arc::new(Reorder::new(true, 2, 2));
        let handed_on = Arc::new(Mutex::new(Vec::new()));
        // The first may go without waiting, the second is left to the forwarder.
        let may_go = |completion: &Completion<Number>| completion.header.input == 0;
        let work = |number: u64| {
            let (reorder, handed_on) = (Arc::clone(&reorder), Arc::clone(&handed_on));
            thread::spawn(move || {
                assert!(reorder.begin());
                let mut next = reorder.complete_and_help(number, completion(number), may_go);
                while let Some(completion) = next {
                    handed_on.lock().push(completion.header.input);
                    next = reorder.next_to_help(may_go);
                }
            })
        };
        let working = [work(1), work(0)];

        while let Some(completion) = reorder.next() {
            let mut handed_on = handed_on.lock();
            handed_on.push(completion.header.input);
            if handed_on.len() == 2 {
                reorder.close();
            }
        }

        assert_eq!(*handed_on.lock(), [0, 1]);
        join_all(working);
    });
}

#[test]
fn without_order_all_is_handed_on() {
    check(|| {
        let reorder = Arc::new(Reorder::new(false, 1, 1));
        let work = |number: u64| {
            let reorder = Arc::clone(&reorder);
            thread::spawn(move || {
                assert!(reorder.begin());
                reorder.complete(number, completion(number));
            })
        };
        let working = [work(1), work(0)];

        assert_eq!(next(&reorder) + next(&reorder), 1);
        join_all(working);
    });
}

#[test]
fn one_who_waits_for_several_places_goes_on_when_they_are_free() {
    check(|| {
        let reorder = Arc::new(Reorder::new(true, 2, 2).in_steps_of(2));
        assert!(reorder.begin() && reorder.begin());
        let working = Arc::clone(&reorder);
        let working = thread::spawn(move || {
            working.complete(1, completion(1));
            working.complete(0, completion(0));
            assert_eq!([next(&working), next(&working)], [0, 1]);
        });

        assert!(reorder.begin());
        join_all([working]);
    });
}

#[test]
fn places_are_given_back() {
    check(|| {
        let reorder = Arc::new(Reorder::<Number>::new(true, 1, 1));
        let idle = Arc::clone(&reorder);
        let idle = thread::spawn(move || {
            assert!(idle.begin());
            idle.unbegin();
        });

        assert!(reorder.begin());
        reorder.unbegin();
        idle.join().unwrap();
    });
}

#[test]
fn one_who_waits_for_those_before_is_woken() {
    check(|| {
        let reorder = Arc::new(Reorder::new(true, 2, 2));
        assert!(reorder.begin() && reorder.begin());
        let working = Arc::clone(&reorder);
        let working = thread::spawn(move || {
            working.complete(1, completion(1));
            working.complete(0, completion(0));
        });

        while !reorder.is_done_before(2, TIMEOUT) {}
        assert_eq!([next(&reorder), next(&reorder)], [0, 1]);
        working.join().unwrap();
    });
}

/// A thread has number 0 and waits for another place, while number 1 is done and takes the last.
#[test]
fn nobody_waits_for_itself() {
    check(|| {
        let reorder = Arc::new(Reorder::new(true, 2, 2));
        assert!(reorder.begin() && reorder.begin());
        let other = Arc::clone(&reorder);
        let other = thread::spawn(move || other.complete(1, completion(1)));

        assert_eq!(reorder.begin_besides(Some(0), || false), Begin::AllWait);
        reorder.complete(0, completion(0));

        assert_eq!([next(&reorder), next(&reorder)], [0, 1]);
        other.join().unwrap();
    });
}

#[test]
fn closing_wakes_all() {
    check(|| {
        let reorder = Arc::new(Reorder::<Number>::new(true, 1, 1));
        assert!(reorder.begin());
        let beginning = Arc::clone(&reorder);
        let beginning = thread::spawn(move || assert!(!beginning.begin()));
        let taking = Arc::clone(&reorder);
        let taking = thread::spawn(move || assert!(taking.next().is_none()));

        reorder.close();

        beginning.join().unwrap();
        taking.join().unwrap();
    });
}

#[test]
fn one_who_waits_for_room_for_an_item_is_woken_by_an_envelope_that_is_done() {
    check(|| {
        // There is room for several only when nothing runs.
        let reorder = Arc::new(Reorder::new(true, 2, 4).in_steps_of(2));
        assert!(reorder.begin_at_once() && reorder.begin_items_at_once(1));
        let working = Arc::clone(&reorder);
        let done = thread::spawn(move || working.complete(0, completion(0)));

        assert!(reorder.begin_items(1));

        done.join().unwrap();
    });
}
