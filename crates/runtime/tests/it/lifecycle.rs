//! What nodes can rely on: `initialize` first, one `cleanup` for each of them, and an end that can be asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use remotemedia_runtime::{
    CLOSE_TIMEOUT, CancelFlag, Closed, Hindrance, Node, NodeLock, Outputs, Phase, RunError, Session, SessionSettings,
    Source, Stream,
};

use crate::support::{
    BAD, Fault, FnFeed, FnSink, Item, Log, Pipe, Returned, TestNode, blamed, facts, fail_on, node, pass, source, spread,
};

const ALSO_BAD: Fault = Fault::Because("also bad");

/// Three nodes that log, `a`, `b` and `c`, the second of which the test may change.
fn three(log: &Log, change: impl FnOnce(TestNode) -> TestNode) -> Pipe {
    Pipe::chain([pass().named("a", log), change(pass().named("b", log)), pass().named("c", log)])
}

/// A generator that never ends, and counts.
fn endless() -> TestNode {
    node(|_| Ok(Returned::Many(Box::new((0..).map(|number| Ok(Item::Number(number)))))))
}

#[test]
fn nodes_are_initialized_in_order_and_cleaned_up_in_reverse() {
    let log = Log::default();

    three(&log, |node| node).outputs([]);

    assert_eq!(log.lines()[..3], ["a.initialize", "b.initialize", "c.initialize"]);
    assert_eq!(log.lines()[6..], ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
fn all_nodes_are_cleaned_up_once_after_a_failure() {
    let log = Log::default();

    three(&log, |node| node.failing(Phase::Process, BAD)).failure([1, 2]);

    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
fn what_was_entered_is_cleaned_up_when_initialize_fails() {
    let log = Log::default();

    let (_, failure) = three(&log, |node| node.failing(Phase::Initialize, BAD)).failure([1]);

    assert_eq!(blamed(&failure), ("n1", None, Phase::Initialize, BAD));
    assert_eq!(log.lines(), ["a.initialize", "b.initialize", "b.cleanup", "a.cleanup"]);
}

#[test]
fn an_interrupt_in_initialize_passes_through_after_cleanup() {
    let log = Log::default();

    let (_, failure) = three(&log, |node| node.failing(Phase::Initialize, Fault::Interrupt)).failure([1]);

    assert!(matches!(failure.first, Some(RunError::Interrupt(Fault::Interrupt))));
    assert_eq!(log.lines_of("cleanup"), ["b.cleanup", "a.cleanup"]);
}

#[test]
fn nodes_are_cleaned_up_when_the_input_or_the_sink_fails() {
    let log = Log::default();

    let input = three(&log, |node| node).run_with(|| Err(BAD), |_| Ok(()));
    let sink = three(&log, |node| node).run_with(|| Ok(Some(Item::Number(1))), |_| Err(BAD));

    assert!(input.is_err() && sink.is_err());
    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"].repeat(2));
}

#[test]
fn every_node_is_cleaned_up_though_a_cleanup_fails() {
    let log = Log::default();

    let (outputs, failure) = three(&log, |node| node.failing(Phase::Cleanup, BAD)).failure([1]);

    assert_eq!(outputs, [1]);
    assert!(failure.first.is_none());
    assert_eq!(failure.cleanups.iter().map(facts).collect::<Vec<_>>(), [("n1", None, Phase::Cleanup, BAD)]);
    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
fn failing_cleanups_are_reported_after_the_failure_before_them() {
    let failing = || pass().failing(Phase::Cleanup, ALSO_BAD);

    let (_, failure) = Pipe::chain([failing(), fail_on(1), failing()]).failure([1]);

    assert_eq!(blamed(&failure), ("n1", Some(0), Phase::Process, BAD));
    let cleanup = |id| (id, None, Phase::Cleanup, ALSO_BAD);
    assert_eq!(failure.cleanups.iter().map(facts).collect::<Vec<_>>(), [cleanup("n2"), cleanup("n0")]);
}

/// A generator that cannot be stopped in good order, at the start of a pipeline or in it.
struct Stubborn {
    is_source: bool,
}

impl Node<Item> for Stubborn {
    fn as_source(&mut self) -> Option<&mut dyn Source<Item>> {
        if self.is_source { Some(self) } else { None }
    }

    fn process(&mut self, _: Item) -> Result<Outputs<Item>, Fault> {
        Ok(Outputs::Many(Box::new(StubbornStream)))
    }
}

impl Source<Item> for Stubborn {
    fn produce(&mut self) -> Result<Outputs<Item>, Fault> {
        Ok(Outputs::Many(Box::new(StubbornStream)))
    }
}

struct StubbornStream;

impl Stream<Item> for StubbornStream {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        Ok(Some(Item::Number(1)))
    }

    fn close(&mut self) -> Result<(), Fault> {
        Err(ALSO_BAD)
    }
}

#[test]
fn generators_that_fail_to_close_are_reported_after_the_failure_before_them() {
    let pipe = Pipe::default()
        .node("source", &[], Stubborn { is_source: true })
        .node("generator", &["source"], Stubborn { is_source: false })
        .node("end", &["generator"], fail_on(1));

    let (_, failure) = pipe.failure([]);

    assert_eq!(blamed(&failure), ("end", Some(0), Phase::Process, BAD));
    let close = |id| (id, None, Phase::Process, ALSO_BAD);
    assert_eq!(failure.cleanups.iter().map(facts).collect::<Vec<_>>(), [close("generator"), close("source")]);
}

#[test]
fn a_run_without_end_is_cancelled_from_another_thread() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let (started, has_started) = sync_channel(1);
    let signalling = pass().named("a", &log).doing(Phase::Process, move || started.try_send(()).unwrap_or(()));
    let pipe = Pipe::chain([signalling]).cancelled_by(&cancel);

    let canceller = std::thread::spawn(move || {
        has_started.recv().unwrap();
        cancel.set();
    });
    let (_, failure) = pipe.failure(0..);

    canceller.join().unwrap();
    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines_of("flush"), [""; 0]);
    assert_eq!(log.lines_of("cleanup"), ["a.cleanup"]);
}

#[test]
fn a_cancelled_run_stops_before_the_next_node() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();

    three(&log, |node| node.doing(Phase::Process, move || stop.set())).cancelled_by(&cancel).failure([1]);

    assert_eq!(log.lines_of("process"), ["a.process(1)", "b.process(1)"]);
}

#[test]
fn a_cancelled_generator_is_closed_before_its_node_is_cleaned_up() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();
    let ending = pass().doing(Phase::Process, move || stop.set());

    Pipe::chain([endless().named("a", &log), ending]).cancelled_by(&cancel).failure([1]);

    assert_eq!(log.lines()[1..], ["a.process(1)", "a.yield(0)", "a.close", "a.cleanup"]);
}

#[test]
fn a_cancelled_source_is_closed_before_its_node_is_cleaned_up() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();
    let counting = source(|| Ok(Returned::Many(Box::new((0..).map(|number| Ok(Item::Number(number)))))));

    let ending = pass().doing(Phase::Process, move || stop.set());
    Pipe::chain([counting.named("a", &log), ending]).cancelled_by(&cancel).failure([]);

    assert_eq!(log.lines()[1..], ["a.produce", "a.yield(0)", "a.close", "a.cleanup"]);
}

#[test]
fn a_run_that_is_cancelled_before_it_starts_initializes_nothing() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    cancel.set();

    let (_, failure) = three(&log, |node| node).cancelled_by(&cancel).failure([1]);

    assert!(matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn a_run_that_is_cancelled_in_initialize_cleans_up_what_was_entered() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();

    three(&log, |node| node.doing(Phase::Initialize, move || stop.set())).cancelled_by(&cancel).failure([1]);

    assert_eq!(log.lines(), ["a.initialize", "b.initialize", "b.cleanup", "a.cleanup"]);
}

#[test]
fn an_input_that_ends_because_of_a_cancellation_is_not_flushed() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();

    let outcome = three(&log, |node| node).cancelled_by(&cancel).run_with(
        || {
            stop.set();
            Ok(None)
        },
        |_| Ok(()),
    );

    assert!(matches!(outcome.unwrap_err().first, Some(RunError::Cancelled)));
    assert_eq!(log.lines_of("flush"), [""; 0]);
}

#[test]
fn a_run_that_is_cancelled_in_a_flush_stops_before_the_next_one() {
    let log = Log::default();
    let cancel = CancelFlag::default();
    let stop = cancel.clone();

    three(&log, |node| node.doing(Phase::Flush, move || stop.set())).cancelled_by(&cancel).failure([]);

    assert_eq!(log.lines_of("flush"), ["a.flush", "b.flush"]);
}

#[test]
fn nodes_are_cleaned_up_after_a_panic() {
    let log = Log::default();
    let pipe = three(&log, |node| node.doing(Phase::Process, || panic!("on purpose")));

    let outcome = catch_unwind(AssertUnwindSafe(|| pipe.run([1])));

    assert!(outcome.is_err());
    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
fn every_node_is_cleaned_up_once_though_a_cleanup_panics() {
    let log = Log::default();
    let pipe = three(&log, |node| node.doing(Phase::Cleanup, || panic!("on purpose")));

    let outcome = catch_unwind(AssertUnwindSafe(|| pipe.run([1])));

    assert!(outcome.is_err());
    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
fn a_session_of_a_run_that_is_dropped_cleans_up() {
    let log = Log::default();

    drop(three(&log, |node| node).open_run().unwrap());

    assert_eq!(log.lines_of("cleanup"), ["c.cleanup", "b.cleanup", "a.cleanup"]);
}

#[test]
#[should_panic(expected = "one entry for each of its nodes")]
fn a_plan_is_not_opened_with_too_few_nodes() {
    let (plan, mut nodes, _) = Pipe::chain([pass(), pass()]).replicated();
    nodes.pop();

    drop(Session::open(plan, nodes, &SessionSettings::default(), &|_, _| None));
}

/// Logs when it is entered and left.
struct LoggedLock(Log);

impl NodeLock for LoggedLock {
    fn enter(&self, work: &mut dyn FnMut()) {
        self.0.note("enter");
        work();
        self.0.note("leave");
    }
}

#[test]
fn each_item_and_the_flush_take_a_turn() {
    let log = Log::default();
    let mut pipe = Pipe::chain([pass().named("a", &log)]);
    pipe.settings.node_lock = Some(Box::new(LoggedLock(log.clone())));

    pipe.outputs([1, 2]);

    let locked = |step| ["enter", step, "leave"];
    let steps = [locked("a.process(1)"), locked("a.process(2)"), locked("a.flush")].concat();
    assert_eq!(log.lines()[1..], [&steps[..], &["a.cleanup"]].concat());
}

/// Others are inside for ever, so a cancelled run never gets the lock.
struct NeverFree;

impl NodeLock for NeverFree {
    fn enter(&self, _work: &mut dyn FnMut()) {
        panic!("waits for ever");
    }

    fn enter_unless(&self, cancel: &CancelFlag, _work: &mut dyn FnMut()) -> Result<(), Hindrance> {
        cancel.set();
        Err(Hindrance::Cancelled)
    }
}

#[test]
fn a_run_that_is_cancelled_while_it_waits_for_its_turn_ends() {
    let log = Log::default();
    let mut pipe = Pipe::chain([pass().named("a", &log)]);
    pipe.settings.node_lock = Some(Box::new(NeverFree));

    let (outputs, failure) = pipe.failure([1]);

    assert!(outputs.is_empty() && matches!(failure.first, Some(RunError::Cancelled)));
    assert_eq!(log.lines(), ["a.initialize", "a.cleanup"]);
}

#[test]
fn a_generator_is_closed_in_a_turn() {
    let log = Log::default();
    let mut pipe = Pipe::chain([spread(|_| vec![1, 2]).named("a", &log), fail_on(1)]);
    pipe.settings.node_lock = Some(Box::new(LoggedLock(log.clone())));

    pipe.failure([0]);

    assert_eq!(log.lines()[3..], ["a.yield(1)", "leave", "enter", "a.close", "leave", "a.cleanup"]);
}

#[test]
fn a_run_that_ended_is_closed_with_what_failed_then() {
    let (session, _) = Pipe::chain([pass().failing(Phase::Cleanup, BAD)]).open_run().unwrap();

    let outcome = session.run(&mut FnFeed(|| Ok(None)), &mut FnSink(|_| Ok(())), None);
    let Closed { metrics, cleanups, .. } = session.close(CLOSE_TIMEOUT, &|| {});

    assert!(outcome.is_ok() && metrics.is_none());
    assert_eq!(cleanups.iter().map(facts).collect::<Vec<_>>(), [("n0", None, Phase::Cleanup, BAD)]);
}
