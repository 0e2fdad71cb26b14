//! The queues before stages.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::options::WhenFull;
use crate::session::queues::in_flight::{InFlight, InputKind};
use crate::session::queues::inbox::{Dropped, Envelope, Inbox, Policy, Popped, Pushed};
use crate::session::queues::locks::{AtomicBool, Ordering, thread};
use crate::session::queues::loom::{Counting, Number, check, envelope, join_all};

fn inbox(when_full: WhenFull) -> Arc<Inbox<Number>> {
    Arc::new(Inbox::new(Policy { capacity: 1, when_full, is_only_way: true }))
}

/// The inputs of all envelopes until the end.
fn pop_all(inbox: &Inbox<Number>) -> Vec<u64> {
    let before = inbox.popped();
    let mut inputs = Vec::new();
    while let Popped::Envelope(number, envelope) = inbox.pop() {
        assert_eq!(number, before + inputs.len() as u64, "numbers are those of popping");
        inputs.push(envelope.input);
    }
    inputs
}

#[test]
fn each_envelope_is_popped_once() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        let push = |input| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || assert!(matches!(inbox.push(envelope(input)), Pushed::Queued)))
        };
        let pushing = [push(1), push(2)];

        let popped = [inbox.pop(), inbox.pop()].map(|popped| match popped {
            Popped::Envelope(_, envelope) => envelope.input,
            Popped::Nothing | Popped::Closed => panic!("it is never closed"),
        });

        assert_eq!(inbox.metrics().peak_len, 1, "only as many as there is room for");
        assert_eq!(BTreeSet::from(popped), BTreeSet::from([1, 2]));
        join_all(pushing);
    });
}

#[test]
fn one_who_pushes_keeps_the_order() {
    check(|| {
        let inbox = Arc::new(Inbox::new(Policy { capacity: 2, when_full: WhenFull::Wait, is_only_way: true }));
        let pushing = Arc::clone(&inbox);
        let pushing = thread::spawn(move || {
            (1..=3).for_each(|input| drop(pushing.push(envelope(input))));
            pushing.close();
        });

        assert_eq!(pop_all(&inbox), [1, 2, 3]);
        pushing.join().unwrap();
    });
}

#[test]
fn closing_wakes_all() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        let pushing = Arc::clone(&inbox);
        let pushing = thread::spawn(move || {
            let pushed = [1, 2].map(|input| pushing.push(envelope(input)));
            pushed.iter().filter(|pushed| matches!(pushed, Pushed::Queued)).count()
        });
        let popping = Arc::clone(&inbox);
        let popping = thread::spawn(move || pop_all(&popping).len());

        inbox.close();

        assert_eq!(pushing.join().unwrap(), popping.join().unwrap(), "what was queued is popped");
    });
}

#[test]
fn one_who_waits_for_room_is_refused_at_the_end() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        inbox.push(envelope(1));
        let pushing = Arc::clone(&inbox);
        let pushing = thread::spawn(move || assert!(matches!(pushing.push(envelope(2)), Pushed::Refused)));

        inbox.close();

        pushing.join().unwrap();
        assert_eq!(pop_all(&inbox), [1]);
    });
}

#[test]
fn no_wake_is_missed() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        let is_pressed = Arc::new(AtomicBool::new(false));
        let waking = (Arc::clone(&inbox), Arc::clone(&is_pressed));
        let waking = thread::spawn(move || {
            waking.1.store(true, Ordering::SeqCst);
            waking.0.wake();
        });

        loop {
            let wakes = inbox.wakes();
            if is_pressed.load(Ordering::SeqCst) {
                break;
            }
            assert!(matches!(inbox.pop_until(None, wakes), Popped::Nothing));
        }
        waking.join().unwrap();
    });
}

#[test]
fn emptying_makes_room_for_no_more_than_there_is() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        inbox.push(envelope(1));
        let push = |input| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || drop(inbox.push(envelope(input))))
        };
        let pushing = [push(2), push(3)];

        inbox.empty();
        assert!(matches!(inbox.pop(), Popped::Envelope(..)));

        join_all(pushing);
        assert_eq!(inbox.metrics().peak_len, 1);
    });
}

#[test]
fn emptying_makes_room() {
    check(|| {
        let inbox = inbox(WhenFull::Wait);
        let pushing = Arc::clone(&inbox);
        let pushing = thread::spawn(move || {
            let pushed = [1, 2].map(|input| pushing.push(envelope(input)));
            assert!(pushed.iter().all(|pushed| matches!(pushed, Pushed::Queued)));
            pushing.close();
        });

        let emptied = inbox.empty().len();
        let popped = pop_all(&inbox).len();

        pushing.join().unwrap();
        assert_eq!(emptied + popped, 2);
    });
}

#[test]
fn drops_are_reported_and_the_rest_popped() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        check(move || {
            let inbox = inbox(when_full);
            let push = |input| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || match inbox.push(envelope(input)) {
                    Pushed::Dropped(Dropped { envelope, ends_input }) => {
                        assert!(ends_input && envelope.items.len() == 1);
                        vec![envelope.input]
                    }
                    Pushed::Queued => Vec::new(),
                    Pushed::Refused => panic!("it is never closed"),
                })
            };
            let pushing = [push(1), push(2)];
            let Popped::Envelope(_, first) = inbox.pop() else { panic!("at least one stays") };

            let mut seen: Vec<u64> = pushing.into_iter().flat_map(|pushing| pushing.join().unwrap()).collect();
            assert_eq!(seen.len() as u64, inbox.metrics().dropped);
            assert_eq!(inbox.has_room(), seen.len() == 1, "a place is free when nothing waits");
            seen.push(first.input);
            inbox.close();
            seen.extend(pop_all(&inbox));

            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }
}

/// A chunk of one item that waits for its stage.
fn waiting_chunk() -> (Arc<Inbox<Number>>, Arc<InFlight<Number>>, Arc<Counting>, u64) {
    let inbox = Arc::new(Inbox::new(Policy { capacity: 4, when_full: WhenFull::Wait, is_only_way: true }));
    let (in_flight, client) = (Arc::new(InFlight::new()), Arc::new(Counting::default()));
    let input = in_flight.open(client.clone(), (), None, InputKind::Chunk(1));
    drop(inbox.push(Envelope { positions: Some(vec![0]), ..envelope(input) }));
    (inbox, in_flight, client, input)
}

#[test]
fn an_item_joins_a_chunk_before_it_is_popped_or_comes_back() {
    check(|| {
        let (inbox, in_flight, client, input) = waiting_chunk();
        let extending = (Arc::clone(&inbox), Arc::clone(&in_flight));
        let extending = thread::spawn(move || {
            let (inbox, in_flight) = extending;
            inbox.extend(input, 0, Number(7), 2, || in_flight.extend(input)).is_ok()
        });

        let Popped::Envelope(_, chunk) = inbox.pop() else { panic!("it is never closed") };
        in_flight.complete(input);

        let has_joined = extending.join().unwrap();
        assert_eq!(chunk.items.len(), 1 + usize::from(has_joined));
        assert_eq!(chunk.positions.as_deref(), Some(if has_joined { &[0, 1][..] } else { &[0] }));
        assert_eq!(client.ends.load(Ordering::SeqCst), chunk.items.len(), "each item ends once");
        assert_eq!((in_flight.len(), in_flight.items()), (0, chunk.items.len() as u64));
    });
}

#[test]
fn an_item_that_joins_a_chunk_is_interrupted_with_it_or_comes_back() {
    check(|| {
        let (inbox, in_flight, client, input) = waiting_chunk();
        let extending = (Arc::clone(&inbox), Arc::clone(&in_flight));
        let extending = thread::spawn(move || {
            let (inbox, in_flight) = extending;
            inbox.extend(input, 0, Number(7), 2, || in_flight.extend(input)).is_ok()
        });

        let clients = in_flight.take_all();
        let dropped = inbox.empty().iter().map(|chunk| chunk.items.len() as u64).sum::<u64>();
        assert_eq!(clients.count(), dropped);
        clients.interrupted();

        let has_joined = extending.join().unwrap();
        assert_eq!(dropped, 1 + u64::from(has_joined));
        assert_eq!(client.ends.load(Ordering::SeqCst) as u64, dropped, "each item ends once");
        assert_eq!(in_flight.len(), 0);
    });
}
