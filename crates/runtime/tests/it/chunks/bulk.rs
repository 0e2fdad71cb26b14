//! Chunks go in bulk where a payload has a faster way: the outputs and the blame stay the same.

use std::sync::Arc;
use std::time::Duration;

use remotemedia_runtime::{
    Bulk, BulkEnd, BulkOutcome, Calls, CancelFlag, InProgress, Observer, Pending, Phase, Plan, RunError, Sink,
};

use super::{Counting, MARK, failure, numbers_of, run};
use crate::support::{BAD, Item, Log, Pipe, add, blamed, fail_on, pass};

/// A bulk that is a closure over the numbers of a chunk.
struct Fast<F>(F);

impl<F: FnMut(&[i64], &mut dyn Sink<Item>) -> BulkOutcome<Item> + Send> Bulk<Item> for Fast<F> {
    fn is_possible(&mut self, is_measured: bool) -> bool {
        !is_measured
    }

    fn run(&mut self, chunk: Item, sink: &mut dyn Sink<Item>) -> BulkOutcome<Item> {
        (self.0)(&numbers_of(&chunk), sink)
    }
}

fn in_bulk(
    mut pipe: Pipe,
    bulk: impl FnMut(&[i64], &mut dyn Sink<Item>) -> BulkOutcome<Item> + Send + 'static,
) -> Pipe {
    pipe.settings.bulk = Some(Box::new(Fast(bulk)));
    pipe
}

/// Adds 1 to each number of a chunk.
fn add_one_to_all(numbers: &[i64], sink: &mut dyn Sink<Item>) -> BulkOutcome<Item> {
    for number in numbers {
        sink.accept(Item::Number(number + 1)).expect("the sink takes all");
    }
    BulkOutcome::new(numbers.len(), BulkEnd::Done)
}

#[test]
fn fast_items_go_in_bulk_and_come_out_in_order() {
    let log = Log::default();
    let sizes = log.clone();
    let mut feed = Counting::new(&[16, 3]);
    let pipe = in_bulk(Pipe::chain([add(1)]), move |numbers, sink| {
        sizes.note(numbers.len().to_string());
        add_one_to_all(numbers, sink)
    });

    let (outputs, outcome) = run(pipe, &mut feed);

    assert!(outcome.is_ok());
    assert_eq!(outputs, (1..=feed.next).collect::<Vec<_>>());
    assert_eq!(log.lines()[..2], ["16", "3"]);
}

#[test]
fn nodes_are_flushed_after_the_last_chunk() {
    let pipe = in_bulk(Pipe::chain([add(1).flushing(&[-7])]), add_one_to_all);

    let (outputs, _) = run(pipe, &mut Counting::new(&[2]));

    assert_eq!(outputs.last(), Some(&-7));
}

#[test]
fn a_fault_in_bulk_is_blamed_with_node_and_index() {
    let mut feed = Counting::with_mark_at(2, &[10, 8]);
    let pipe = in_bulk(Pipe::chain([pass(), pass()]), |numbers, sink| {
        match numbers.iter().position(|number| *number == MARK) {
            Some(place) => BulkOutcome::new(place + 1, BulkEnd::Fault(1, BAD)),
            None => add_one_to_all(numbers, sink),
        }
    });

    let failure = failure(pipe, &mut feed);

    assert_eq!(blamed(&failure), ("n1", feed.index(2, 8), Phase::Process, BAD));
}

#[test]
fn a_sink_that_fails_in_bulk_is_not_blamed_on_a_node() {
    let pipe = in_bulk(Pipe::chain([pass()]), |_, _| BulkOutcome::new(1, BulkEnd::SinkFault(BAD)));

    let failure = failure(pipe, &mut Counting::new(&[10]));

    assert!(matches!(failure.first, Some(RunError::Sink(BAD))));
}

#[test]
fn a_refused_chunk_and_those_after_it_go_item_by_item() {
    let mut feed = Counting::new(&[16, 2]);
    let pipe = in_bulk(Pipe::chain([add(1)]), |numbers, _| {
        let chunk = Item::Chunk(numbers.iter().copied().map(Item::Number).collect());
        BulkOutcome::new(0, BulkEnd::Refused(chunk))
    });

    let (outputs, outcome) = run(pipe, &mut feed);

    assert!(outcome.is_ok());
    assert_eq!(outputs, (1..=feed.next).collect::<Vec<_>>());
}

/// Node 0 returns a value for the third item of the first chunk that the bulk cannot finish: an output, and [`MARK`].
fn unfinished(numbers: &[i64], _: &mut dyn Sink<Item>) -> BulkOutcome<Item> {
    let output = Item::Chunk(vec![Item::Number(numbers[2] + 1), Item::Number(MARK)]);
    let rest = numbers[3..].iter().copied().map(Item::Number).collect();
    BulkOutcome::new(3, BulkEnd::Unfinished { node: 0, output, rest })
}

#[test]
fn an_unfinished_chunk_goes_on_item_by_item() {
    let mut feed = Counting::new(&[5, 1]);
    let pipe = in_bulk(Pipe::chain([add(1), add(10)]), unfinished);

    let (outputs, outcome) = run(pipe, &mut feed);

    assert!(outcome.is_ok());
    let third = feed.next - 6 + 2 + 11;
    assert_eq!(outputs[outputs.len() - 5..], [third, MARK + 10, third + 1, third + 2, third + 3]);
}

#[test]
fn what_a_bulk_has_in_progress_goes_on_after_the_unfinished_output() {
    let pipe = in_bulk(Pipe::chain([pass(), add(10)]), |numbers, sink| {
        let work = vec![Pending::Outputs { node: 0, returned: Item::Chunk(vec![Item::Number(1), Item::Number(2)]) }];
        let end = BulkEnd::Unfinished { node: 1, output: Item::Number(MARK), rest: Vec::new() };
        let BulkOutcome { taken, .. } = add_one_to_all(numbers, sink);
        BulkOutcome { left: InProgress { work, ..InProgress::default() }, ..BulkOutcome::new(taken, end) }
    });

    let (outputs, outcome) = run(pipe, &mut Counting::new(&[3]));

    assert!(outcome.is_ok());
    assert_eq!(outputs[outputs.len() - 3..], [MARK, 11, 12]);
}

#[test]
fn a_bulk_that_was_stopped_ends_its_run() {
    let pipe = in_bulk(Pipe::chain([pass()]), |_, _| BulkOutcome::new(1, BulkEnd::Stopped));

    let failure = failure(pipe, &mut Counting::new(&[3]));

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
}

#[test]
fn an_output_that_a_bulk_cannot_finish_is_interpreted_by_its_node() {
    let log = Log::default();
    let pipe = in_bulk(Pipe::chain([pass().named("a", &log), pass().named("b", &log)]), unfinished);

    assert!(run(pipe, &mut Counting::new(&[3])).1.is_ok());

    assert_eq!(log.lines_of("interpret").len(), 1);
    let last = log.lines_of("b.process");
    assert_eq!(last.last().unwrap(), "b.process(-1)");
}

#[test]
fn a_failure_on_an_unfinished_output_has_the_index_of_its_item() {
    let mut feed = Counting::new(&[5]);
    let pipe = in_bulk(Pipe::chain([pass(), fail_on(MARK)]), unfinished);

    let failure = failure(pipe, &mut feed);

    assert_eq!(blamed(&failure), ("n1", feed.index(2, 5), Phase::Process, BAD));
}

#[test]
fn a_failure_after_an_unfinished_output_has_the_index_of_its_item() {
    let mut feed = Counting::with_mark_at(4, &[6]);
    let pipe = in_bulk(Pipe::chain([fail_on(MARK), pass()]), unfinished);

    let failure = failure(pipe, &mut feed);

    assert_eq!(blamed(&failure), ("n0", feed.index(4, 6), Phase::Process, BAD));
}

#[test]
fn a_chunk_that_a_cancellation_emptied_is_not_the_end_of_input() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();
    let pipe = in_bulk(Pipe::chain([pass().named("a", &log)]), move |_, _| {
        stop.set();
        BulkOutcome::new(0, BulkEnd::Done)
    });

    let failure = failure(pipe.cancelled_by(&cancel), &mut Counting::new(&[16]));

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines_of("flush"), [""; 0]);
}

/// A bulk that is not possible, and records when it is asked.
struct Impossible(Log);

impl Bulk<Item> for Impossible {
    fn is_possible(&mut self, _: bool) -> bool {
        self.0.note("asked");
        false
    }

    fn run(&mut self, _: Item, _: &mut dyn Sink<Item>) -> BulkOutcome<Item> {
        panic!("it reported that it is not possible")
    }
}

#[test]
fn a_bulk_that_is_not_possible_is_asked_once_and_left_alone() {
    let log = Log::default();
    let mut pipe = Pipe::chain([pass()]);
    pipe.settings.bulk = Some(Box::new(Impossible(log.clone())));
    let mut feed = Counting::new(&[16, 16]);

    let (outputs, outcome) = run(pipe, &mut feed);

    assert!(outcome.is_ok());
    assert_eq!(outputs, (0..feed.next).collect::<Vec<_>>());
    assert_eq!(log.lines(), ["asked"]);
}

#[test]
fn measured_items_do_not_go_by_a_bulk_that_cannot_measure() {
    let mut pipe = Pipe::chain([pass()]).measured();
    pipe.settings.bulk = Some(Box::new(Fast(|_: &[i64], _: &mut dyn Sink<Item>| panic!("nobody would see the items"))));
    let mut feed = Counting::new(&[16]);

    let metrics = run(pipe, &mut feed).1.unwrap().unwrap();

    assert_eq!(Some(metrics.node_metrics[0].items_in), feed.index(0, 0));
}

/// Takes one nanosecond for each item, and hands no output to the sink.
struct Measuring;

impl Bulk<Item> for Measuring {
    fn is_possible(&mut self, is_measured: bool) -> bool {
        is_measured
    }

    fn run(&mut self, chunk: Item, _: &mut dyn Sink<Item>) -> BulkOutcome<Item> {
        let count = numbers_of(&chunk).len();
        let taken = u64::try_from(count).expect("a small number");
        let calls = Calls { items_in: taken, items_out: taken, durations: vec![(Duration::from_nanos(1), taken)] };
        BulkOutcome { past_sink: taken, calls: vec![calls], ..BulkOutcome::new(count, BulkEnd::Done) }
    }
}

#[test]
fn what_a_bulk_measures_is_in_the_metrics() {
    let mut pipe = Pipe::chain([pass()]).measured();
    pipe.settings.bulk = Some(Box::new(Measuring));
    let mut feed = Counting::new(&[10]);

    let metrics = run(pipe, &mut feed).1.unwrap().unwrap();

    let total = u64::try_from(feed.next).unwrap();
    let node = &metrics.node_metrics[0];
    assert_eq!([metrics.items_in, metrics.items_out, node.items_in, node.items_out], [total; 4]);
    assert!(node.min_duration_us <= 0.001);
}

#[test]
fn observed_items_do_not_go_in_bulk() {
    struct Deaf;
    impl Observer for Deaf {
        fn opened(&self, _: &Plan) {}
        fn stepped(&self, _: &str, _: Phase, _: Option<u64>, _: Duration) {}
    }
    let mut pipe = Pipe::chain([pass()]);
    pipe.settings.observer = Some(Arc::new(Deaf));
    pipe.settings.bulk = Some(Box::new(Fast(|_: &[i64], _: &mut dyn Sink<Item>| panic!("nobody would see the items"))));

    assert!(run(pipe, &mut Counting::new(&[16])).1.is_ok());
}
