//! Memory that two processes share, and a third one.

use crate::worker::protocol::shared_memory::*;

/// The two ends of the memory of a parent and a worker.
struct Ends {
    parent: Memory,
    worker: Memory,
}

impl Ends {
    fn new() -> Self {
        let ends = Self { parent: Memory::default(), worker: Memory::default() };
        ends.parent.keep_files(true);
        ends
    }

    /// The bytes that the worker lends, as the parent sees them.
    fn lend_from_worker(&self, bytes: &[u8]) -> View {
        let (place, lease) = self.worker.lend(bytes).expect("there is shared memory");
        lease.hand_over();
        receive(&self.worker, &self.parent, place)
    }

    /// Those bytes as the worker sees them, if the parent passes them on.
    fn pass_to_worker(&self, view: &View) -> Option<View> {
        let (place, lease) = self.parent.pass_on(view)?;
        lease.hand_over();
        Some(receive(&self.parent, &self.worker, place))
    }
}

fn receive(from: &Memory, to: &Memory, place: Place) -> View {
    from.take_closed().into_iter().for_each(|id| to.give_back(id));
    if let Some((PassedFile(ref file), slot)) = from.introduce(place.segment) {
        to.borrow(place.segment, file.try_clone().unwrap(), slot).unwrap();
    }
    to.view(place).unwrap()
}

fn has_free_segment(memory: &Memory) -> bool {
    memory.state.lock().lent.iter().any(|segment| segment.is_free())
}

#[test]
fn what_is_passed_on_is_read_where_it_was_written_and_given_back_by_all() {
    let (first, second) = (Ends::new(), Ends::new());

    let here = first.lend_from_worker(b"written once");
    let there = second.pass_to_worker(&here).unwrap();
    let once_more = second.pass_to_worker(&here).unwrap();

    assert_eq!((&*there, &*once_more), (&b"written once"[..], &b"written once"[..]));
    for view in [here, there, once_more] {
        assert!(!has_free_segment(&first.worker), "a view is left");
        drop(view);
    }
    assert!(has_free_segment(&first.worker));
    assert_eq!(second.parent.state.lock().passed_on.len(), 1);
}

#[test]
fn the_reader_of_what_is_passed_on_writes_its_results_elsewhere() {
    let (first, second) = (Ends::new(), Ends::new());
    let here = first.lend_from_worker(b"item");
    let there = second.pass_to_worker(&here).unwrap();

    let (same, same_lease) = second.worker.lend(&there).unwrap();
    drop((here, there));
    let (other, other_lease) = second.worker.lend(b"result").unwrap();

    assert_eq!((same.is_readers, other.is_readers), (false, false));
    drop((same_lease, other_lease));
}

#[test]
fn what_a_worker_used_when_it_died_is_given_back() {
    let (first, second) = (Ends::new(), Ends::new());
    let here = first.lend_from_worker(b"item");
    let (held, unread) = (second.pass_to_worker(&here).unwrap(), second.parent.pass_on(&here).unwrap().1);
    unread.hand_over();
    let unsent = second.parent.pass_on(&here).unwrap().1;

    // A process that dies drops nothing.
    std::mem::forget(held);
    second.parent.reclaim();

    drop(here);
    assert!(!has_free_segment(&first.worker), "what was not sent is this process's own");
    drop(unsent);
    assert!(has_free_segment(&first.worker));
}

#[test]
fn a_segment_that_was_passed_on_is_forgotten_with_the_worker_that_lent_it() {
    let (first, second) = (Ends::new(), Ends::new());
    let here = first.lend_from_worker(b"item");
    let there = second.pass_to_worker(&here).unwrap();

    drop((first, here));
    let closed = second.parent.take_closed();

    assert_eq!(closed, [0]);
    assert!(second.parent.state.lock().passed_on.is_empty());
    second.worker.give_back(0);
    assert_eq!(&*there, b"item");
}

#[test]
fn bytes_of_a_segment_whose_file_was_not_kept_are_not_passed_on() {
    let (first, second) = (Ends::new(), Ends::new());
    first.parent.keep_files(false);

    let here = first.lend_from_worker(b"item");

    assert!(second.pass_to_worker(&here).is_none());
}
