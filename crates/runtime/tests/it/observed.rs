//! What the engine reports while it runs: each step to an observer, counts and durations in the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_runtime::{CLOSE_TIMEOUT, Metrics, Observer, Phase, Plan};

use crate::support::{BAD, Fault, FnFeed, FnSink, Item, Log, Pipe, Returned, add, fail_on, keep, pass, source, spread};

struct Watching(Log);

impl Observer for Watching {
    fn opened(&self, plan: &Plan) {
        self.0.note(format!("opened {} with {} node(s)", plan.name(), plan.nodes().len()));
    }

    fn stepped(&self, node_id: &str, phase: Phase, item_index: Option<u64>, _: Duration) {
        let index = item_index.map_or(String::new(), |index| format!(" of {index}"));
        self.0.note(format!("{node_id}: {}{index}", phase.name()));
    }
}

fn watched(mut pipe: Pipe, log: &Log) -> Pipe {
    pipe.settings.observer = Some(Arc::new(Watching(log.clone())));
    pipe
}

/// The metrics of a run, whether it fails or not.
fn measure(pipe: Pipe, input: impl IntoIterator<Item = i64>) -> Metrics {
    let mut input = input.into_iter();
    let (session, _) = pipe.measured().open_run().expect("the nodes initialize");
    // Its metrics count, also those of a failure.
    drop(session.run(&mut FnFeed(|| Ok(input.next().map(Item::Number))), &mut FnSink(|_| Ok(())), None));
    session.close(CLOSE_TIMEOUT, &|| {}).metrics.expect("the run is measured")
}

/// Items in, items out and errors of each node.
fn counts(metrics: &Metrics) -> Vec<(u64, u64, u64)> {
    metrics.node_metrics.iter().map(|node| (node.items_in, node.items_out, node.errors)).collect()
}

#[test]
fn an_observer_is_notified_of_each_step() {
    let log = Log::default();

    watched(Pipe::chain([keep(|number| number > 1), pass()]), &log).outputs([1, 2]);

    let opening = ["opened test with 2 node(s)", "n0: initialize", "n1: initialize"];
    let items = ["n0: process of 0", "n0: process of 1", "n1: process of 1"];
    assert_eq!(log.lines(), [&opening[..], &items, &["n1: cleanup", "n0: cleanup"]].concat());
}

#[test]
fn a_generator_is_one_step_that_ends_with_its_last_output() {
    let log = Log::default();

    watched(Pipe::chain([spread(|_| vec![1, 2]), pass()]), &log).outputs([0]);

    assert_eq!(log.lines_of("process"), ["n1: process of 0", "n1: process of 0", "n0: process of 0"]);
}

#[test]
fn a_flush_is_a_step_when_it_gives_something() {
    let log = Log::default();

    watched(Pipe::chain([pass().flushing(&[1]), pass()]), &log).outputs([]);

    assert_eq!(log.lines_of("flush"), ["n0: flush"]);
}

#[test]
fn an_observer_is_notified_of_the_step_that_failed() {
    let log = Log::default();

    watched(Pipe::chain([fail_on(1).failing(Phase::Cleanup, BAD)]), &log).failure([1]);

    assert_eq!(log.lines()[2..], ["n0: process of 0", "n0: cleanup"]);
}

#[test]
fn a_run_that_is_not_measured_has_no_metrics() {
    let (_, outcome) = Pipe::chain([pass()]).run([1]);

    assert!(outcome.unwrap().is_none());
}

#[test]
fn metrics_name_the_pipeline_and_its_nodes_in_plan_order() {
    let metrics = measure(Pipe::chain([pass(), pass()]), []);

    assert_eq!(metrics.pipeline, "test");
    let nodes: Vec<_> = metrics.node_metrics.iter().map(|node| (&*node.node_id, &*node.placement)).collect();
    assert_eq!(nodes, [("n0", "inline"), ("n1", "inline")]);
}

#[test]
fn items_are_counted_at_each_node_and_in_all() {
    let metrics =
        measure(Pipe::chain([keep(|number| number > 1), spread(|number| vec![number; 3]), add(1)]), [1, 2, 3]);

    assert_eq!(counts(&metrics), [(3, 2, 0), (2, 6, 0), (6, 6, 0)]);
    assert_eq!((metrics.items_in, metrics.items_out, metrics.errors), (3, 6, 0));
}

#[test]
fn flushed_items_are_counted() {
    let metrics = measure(Pipe::chain([pass().flushing(&[1, 2]), pass()]), [0]);

    assert_eq!(counts(&metrics), [(1, 3, 0), (3, 3, 0)]);
}

#[test]
fn items_of_branches_and_merges_are_counted() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], keep(|number| number > 1))
        .node("merge", &["in", "a"], pass())
        .join("join", &["in", "a"], pass());

    let metrics = measure(pipe, [1, 2]);

    assert_eq!(counts(&metrics), [(2, 2, 0), (2, 1, 0), (3, 3, 0), (2, 2, 0)]);
    assert_eq!(metrics.items_out, 5);
}

#[test]
fn the_outputs_of_a_source_are_the_items_in() {
    let metrics = measure(Pipe::chain([source(|| Ok(Returned::many(&[1, 2]))), pass()]), []);

    assert_eq!(counts(&metrics), [(0, 2, 0), (2, 2, 0)]);
    assert_eq!(metrics.items_in, 2);
}

#[test]
fn an_error_is_counted_at_the_node_that_failed() {
    let metrics = measure(Pipe::chain([pass(), fail_on(2)]), [1, 2, 3]);

    assert_eq!(counts(&metrics), [(2, 2, 0), (2, 1, 1)]);
    assert_eq!((metrics.items_in, metrics.items_out, metrics.errors), (2, 1, 1));
}

#[test]
fn an_interrupt_is_not_an_error() {
    let metrics = measure(Pipe::chain([pass().failing(Phase::Process, Fault::Interrupt)]), [1]);

    assert_eq!(metrics.errors, 0);
}

const WORK: Duration = Duration::from_millis(2);

/// What is measured of it at least: calls are timed by the processor's counter, which agrees with the system's clock only nearly.
const MEASURED: u64 = 1980;

fn work() {
    let started = Instant::now();
    while started.elapsed() < WORK {}
}

#[test]
fn durations_are_those_of_the_calls() {
    let metrics = measure(Pipe::chain([pass().doing(Phase::Process, work), pass()]), [1, 2]);

    let node = &metrics.node_metrics[0];
    let measured = (node.min_duration_us, node.avg_duration_us, node.total_duration_us);
    assert!(measured.0 >= 1980.0 && measured.1 >= 1980.0 && measured.2 >= 2 * MEASURED, "{measured:?}");
    let rising = [node.min_duration_us, node.p50_duration_us, node.p95_duration_us, node.p99_duration_us];
    assert!(rising.is_sorted() && node.p99_duration_us <= node.max_duration_us);
    assert!(metrics.node_metrics[1].min_duration_us < node.min_duration_us);
}

#[test]
fn the_time_inside_a_generator_is_that_of_its_node() {
    let slow = crate::support::node(|item| {
        let outputs = [item.clone(), item].into_iter().inspect(|_| work());
        Ok(Returned::Many(Box::new(outputs.map(Ok))))
    });

    let metrics = measure(Pipe::chain([slow]), [1]);

    assert!(metrics.node_metrics[0].total_duration_us >= 2 * MEASURED);
}

#[test]
fn overhead_is_the_time_outside_of_the_nodes() {
    let slow = pass().doing(Phase::Initialize, work).doing(Phase::Process, work);

    let metrics = measure(Pipe::chain([slow]), [1]);

    let node = &metrics.node_metrics[0];
    assert!(node.initialize_duration_us >= MEASURED);
    let inside = node.initialize_duration_us + node.total_duration_us;
    assert!((metrics.total_duration_us - inside).abs_diff(metrics.overhead_us) <= 2);
}
