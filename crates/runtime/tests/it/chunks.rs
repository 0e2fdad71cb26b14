//! Fast items go in chunks: the outputs and the blame stay the same.

mod bulk;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use remotemedia_runtime::{CancelFlag, Failure, Feed, NodeLock, Phase, RunError};

use crate::support::{BAD, Fault, FnSink, Item, Log, Outcome, Pipe, Returned, add, blamed, fail_on, node, pass};

/// The item that the tests wait for.
const MARK: i64 = -1;

/// Counts up from 0, so that each item is its own index: one by one as long as the engine wants that, then in chunks of these
/// sizes. Both ways end when the last chunk is out.
struct Counting {
    next: i64,
    chunks: VecDeque<i64>,
    /// Where in the last chunk [`MARK`] stands for the number.
    mark: Option<i64>,
}

impl Counting {
    fn new(chunks: &[i64]) -> Self {
        Self { next: 0, chunks: chunks.iter().copied().collect(), mark: None }
    }

    fn with_mark_at(place: i64, chunks: &[i64]) -> Self {
        Self { mark: Some(place), ..Self::new(chunks) }
    }

    /// The index of this place in a last chunk of `size`, as failures contain it.
    fn index(&self, place: i64, size: i64) -> Option<u64> {
        u64::try_from(self.next - size + place).ok()
    }
}

impl Feed<Item> for Counting {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        if self.chunks.is_empty() {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(Item::Number(self.next - 1)))
    }

    fn next_chunk(&mut self, limit: usize) -> Option<Result<Item, Fault>> {
        assert!(limit >= 16, "the chunks of these tests fit into any limit");
        let size = self.chunks.pop_front().unwrap_or(0);
        let mark = self.mark.filter(|_| self.chunks.is_empty());
        let number = |place| if mark == Some(place) { MARK } else { self.next + place };
        let chunk = (0..size).map(|place| Item::Number(number(place))).collect();
        self.next += size;
        Some(Ok(Item::Chunk(chunk)))
    }
}

fn numbers_of(items: &Item) -> Vec<i64> {
    let Item::Chunk(items) = items else { panic!("a chunk") };
    items.iter().map(|item| if let Item::Number(number) = item { *number } else { panic!("a number") }).collect()
}

/// The numbers that came out, and how the run ended.
fn run(pipe: Pipe, feed: &mut Counting) -> (Vec<i64>, Outcome) {
    let mut outputs = Vec::new();
    let mut sink = FnSink(|output| {
        outputs.push(output);
        Ok(())
    });
    let outcome = pipe.run_through(feed, &mut sink);
    (numbers_of(&Item::Chunk(outputs)), outcome)
}

fn failure(pipe: Pipe, feed: &mut Counting) -> Failure<Fault> {
    run(pipe, feed).1.expect_err("something fails")
}

#[test]
fn chunks_without_a_bulk_go_item_by_item() {
    let log = Log::default();
    let mut feed = Counting::new(&[16, 2]);

    let (outputs, outcome) = run(Pipe::chain([add(1).named("a", &log)]), &mut feed);

    assert!(outcome.is_ok());
    assert_eq!(outputs, (1..=feed.next).collect::<Vec<_>>());
    assert_eq!(log.lines_of("process").len(), outputs.len());
}

#[test]
fn a_failure_in_a_chunk_has_the_index_of_its_item() {
    let mut feed = Counting::with_mark_at(5, &[16, 8]);

    let failure = failure(Pipe::chain([pass(), fail_on(MARK)]), &mut feed);

    assert_eq!(blamed(&failure), ("n1", feed.index(5, 8), Phase::Process, BAD));
}

#[test]
fn a_cancellation_ends_a_chunk_before_its_next_item() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();
    let stopping = node(move |item| {
        if item == MARK {
            stop.set();
        }
        Ok(Returned::One(item))
    });
    let pipe = Pipe::chain([stopping.named("a", &log)]).cancelled_by(&cancel);

    let failure = failure(pipe, &mut Counting::with_mark_at(5, &[16]));

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines_of("process").last().unwrap(), "a.process(-1)");
}

#[test]
fn a_chunk_takes_one_turn() {
    struct LoggedLock(Log);
    impl NodeLock for LoggedLock {
        fn enter(&self, work: &mut dyn FnMut()) {
            self.0.note("enter");
            work();
        }
    }
    let log = Log::default();
    let mut pipe = Pipe::chain([pass().named("a", &log)]);
    pipe.settings.node_lock = Some(Box::new(LoggedLock(log.clone())));

    assert!(run(pipe, &mut Counting::with_mark_at(0, &[3])).1.is_ok());

    let lines = log.lines();
    let mark = lines.iter().position(|line| line == "a.process(-1)").unwrap();
    assert_eq!(lines[mark - 1], "enter");
    assert!(lines[mark + 1].starts_with("a.process") && lines[mark + 2].starts_with("a.process"));
}

#[test]
fn slow_items_go_one_by_one() {
    // At this rate the pace allows five items a chunk.
    const SLOW: Duration = Duration::from_micros(200);
    let busy = pass().doing(Phase::Process, || {
        let started = Instant::now();
        while started.elapsed() < SLOW {}
    });
    let mut feed = Counting { next: -200, ..Counting::new(&[1]) };
    let pipe = Pipe::chain([busy]);

    let mut sink = FnSink(|output| if output == 0 { Err(BAD) } else { Ok(()) });
    let failure = pipe.run_through(&mut feed, &mut sink).unwrap_err();

    assert!(matches!(failure.first, Some(RunError::Sink(BAD))));
    assert_eq!(feed.chunks.len(), 1);
}
