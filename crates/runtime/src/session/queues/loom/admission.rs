//! Where inputs wait for room.

use std::sync::Arc;

use crate::session::queues::admission::{AdmissionQueue, Entered};
use crate::session::queues::locks::{AtomicUsize, Mutex, Ordering, thread};
use crate::session::queues::loom::{check, join_all};

/// The number of free places, and the visitors that were let in.
struct Room {
    free: Mutex<usize>,
    inside: crate::locks::Mutex<Vec<u32>>,
    looks: AtomicUsize,
}

impl Room {
    fn new(free: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(free), inside: crate::locks::Mutex::default(), looks: AtomicUsize::new(0) })
    }

    fn has_room(&self) -> bool {
        let has_room = *self.free.lock() > 0;
        // The checker switches before such a step, but not before a lock is given back.
        self.looks.fetch_add(1, Ordering::Relaxed);
        has_room
    }

    fn admit(&self, visitor: u32) {
        *self.free.lock() -= 1;
        self.inside.lock().push(visitor);
    }

    fn enter(&self, admission_queue: &AdmissionQueue<u32>, visitor: u32) -> Entered<u32, ()> {
        let entered = admission_queue.enter(visitor, || self.has_room(), |visitor| self.admit(visitor));
        if matches!(entered, Entered::Later) {
            self.let_in(admission_queue);
        }
        entered
    }

    fn let_in(&self, admission_queue: &AdmissionQueue<u32>) {
        admission_queue.let_in(|_| 1, |_| self.has_room(), |visitor| self.admit(visitor), |()| {});
    }

    fn make_room(&self, admission_queue: &AdmissionQueue<u32>) {
        *self.free.lock() += 1;
        self.let_in(admission_queue);
    }

    fn inside(&self) -> Vec<u32> {
        self.inside.lock().clone()
    }
}

type Place = (Arc<AdmissionQueue<u32>>, Arc<Room>);

fn place(free: usize) -> Place {
    (Arc::new(AdmissionQueue::new()), Room::new(free))
}

fn spawn(place: &Place, work: impl FnOnce(&AdmissionQueue<u32>, &Room) + Send + 'static) -> thread::JoinHandle<()> {
    let (admission_queue, room) = place.clone();
    thread::spawn(move || work(&admission_queue, &room))
}

/// The holder of the admission queue once left although there was room, and the thread that made room had found the queue locked.
#[test]
fn nobody_waits_while_there_is_room() {
    check(|| {
        let place = place(0);
        let entering = spawn(&place, |admission_queue, room| {
            room.enter(admission_queue, 1);
        });
        let leaving = spawn(&place, |admission_queue, room| room.make_room(admission_queue));

        entering.join().unwrap();
        leaving.join().unwrap();

        assert_eq!(place.1.inside(), [1]);
    });
}

#[test]
fn all_come_in_when_all_leave() {
    check(|| {
        let place = place(0);
        place.1.enter(&place.0, 1);
        place.1.enter(&place.0, 2);
        let leaving = [(); 2].map(|()| spawn(&place, |admission_queue, room| room.make_room(admission_queue)));

        join_all(leaving);

        assert_eq!(place.1.inside(), [1, 2], "in the order in which they came");
    });
}

#[test]
fn one_who_comes_does_not_pass_one_who_waits() {
    check(|| {
        let place = place(0);
        place.1.enter(&place.0, 1);
        let entering = spawn(&place, |admission_queue, room| {
            room.enter(admission_queue, 2);
        });
        let leaving = spawn(&place, |admission_queue, room| {
            room.make_room(admission_queue);
            room.make_room(admission_queue);
        });

        entering.join().unwrap();
        leaving.join().unwrap();

        assert_eq!(place.1.inside(), [1, 2]);
    });
}

#[test]
fn nothing_is_admitted_while_the_queue_is_held_and_all_after_it() {
    check(|| {
        let place = place(1);
        let waiting = place.0.hold();
        assert!(waiting.is_empty());
        let entering =
            spawn(&place, |admission_queue, room| assert_eq!(room.enter(admission_queue, 1), Entered::Later));
        entering.join().unwrap();
        assert!(place.1.inside().is_empty());
        let second = spawn(&place, |admission_queue, room| {
            room.enter(admission_queue, 2);
        });
        let leaving = spawn(&place, |admission_queue, room| room.make_room(admission_queue));

        place.0.release();
        place.1.let_in(&place.0);

        second.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(place.1.inside(), [1, 2]);
    });
}

#[test]
fn each_is_let_in_or_turned_away() {
    check(|| {
        let place = place(0);
        let entering = spawn(&place, |admission_queue, room| {
            if let Entered::Never(visitor) = room.enter(admission_queue, 1) {
                room.inside.lock().push(visitor);
            }
        });
        let leaving = spawn(&place, |admission_queue, room| room.make_room(admission_queue));

        let turned_away = place.0.close();

        entering.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(place.1.inside().len() + turned_away.len(), 1);
    });
}

#[test]
fn one_behind_a_forgotten_one_comes_in() {
    check(|| {
        let place = place(0);
        place.1.enter(&place.0, 1);
        place.1.enter(&place.0, 2);
        let leaving = spawn(&place, |admission_queue, room| room.make_room(admission_queue));

        let forgotten = place.0.forget(|&visitor| visitor == 1);
        place.1.let_in(&place.0);

        leaving.join().unwrap();
        assert_eq!(place.1.inside(), if forgotten.is_empty() { [1] } else { [2] });
    });
}

#[test]
fn nothing_is_admitted_by_a_closed_queue() {
    check(|| {
        let place = place(0);
        assert!(place.0.close().is_empty());
        let entering =
            spawn(&place, |admission_queue, room| assert_eq!(room.enter(admission_queue, 1), Entered::Never(1)));

        place.1.make_room(&place.0);

        entering.join().unwrap();
        assert!(place.1.inside().is_empty());
    });
}
