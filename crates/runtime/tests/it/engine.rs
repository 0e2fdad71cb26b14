//! How items go through a chain: one at a time, depth first, and what is reported about them when one fails.

use remotemedia_runtime::{Phase, RunError};

use crate::support::{
    BAD, Fault, Item, Log, Pipe, Returned, TestNode, add, blamed, fail_on, keep, node, pass, source, spread,
};

#[test]
fn a_chain_takes_each_item_through_all_nodes() {
    let log = Log::default();
    let named = |name| add(1).named(name, &log);

    let outputs = Pipe::chain([named("a"), named("b"), named("c")]).outputs([1]);

    assert_eq!(outputs, [4]);
    assert_eq!(log.lines_of("process"), ["a.process(1)", "b.process(2)", "c.process(3)"]);
}

#[test]
fn an_item_ends_at_a_node_that_returns_nothing() {
    let log = Log::default();

    let outputs = Pipe::chain([keep(|number| number > 1), pass().named("after", &log)]).outputs([1, 2]);

    assert_eq!(outputs, [2]);
    assert_eq!(log.lines_of("process"), ["after.process(2)"]);
}

#[test]
fn an_item_is_through_before_the_next_one_enters() {
    let log = Log::default();

    Pipe::chain([pass().named("a", &log), pass().named("b", &log)]).outputs([1, 2]);

    assert_eq!(log.lines_of("process"), ["a.process(1)", "b.process(1)", "a.process(2)", "b.process(2)"]);
}

#[test]
fn an_item_is_asked_for_when_the_one_before_is_out() {
    let log = Log::default();
    let mut input = 0..2;

    let outcome = Pipe::chain([pass()]).run_with(
        || Ok(input.next().inspect(|number| log.note(format!("in {number}"))).map(Item::Number)),
        |output| {
            log.note(format!("out {output}"));
            Ok(())
        },
    );

    assert!(outcome.is_ok());
    assert_eq!(log.lines(), ["in 0", "out 0", "in 1", "out 1"]);
}

#[test]
fn an_output_of_a_generator_is_through_before_the_next_is_made() {
    let log = Log::default();

    Pipe::chain([spread(|_| vec![1, 2]).named("a", &log), spread(|_| vec![3]).named("b", &log)]).outputs([0]);

    let first = ["a.process(0)", "a.yield(1)", "b.process(1)", "b.yield(3)", "b.end"];
    let second = ["a.yield(2)", "b.process(2)", "b.yield(3)", "b.end", "a.end"];
    assert_eq!(log.lines()[2..12], [first, second].concat());
}

#[test]
fn a_generator_without_outputs_ends_the_item() {
    let outputs =
        Pipe::chain([spread(|number| vec![number; usize::try_from(number).unwrap()]), add(1)]).outputs([0, 2]);

    assert_eq!(outputs, [3, 3]);
}

#[test]
fn a_generator_that_fails_is_blamed_after_its_outputs_are_out() {
    let failing = node(|item| Ok(Returned::Many(Box::new([Ok(item), Err(BAD)].into_iter()))));

    let (outputs, failure) = Pipe::chain([pass(), failing, pass()]).failure([7, 8]);

    assert_eq!(outputs, [7]);
    assert_eq!(blamed(&failure), ("n1", Some(0), Phase::Process, BAD));
}

#[test]
fn a_failure_names_the_node_and_the_index_of_the_input() {
    let (outputs, failure) = Pipe::chain([add(1), fail_on(13), pass()]).failure([10, 11, 12, 13]);

    assert_eq!(outputs, [11, 12]);
    assert_eq!(blamed(&failure), ("n1", Some(2), Phase::Process, BAD));
}

#[test]
fn a_failure_behind_a_generator_has_the_index_of_the_input() {
    let (_, failure) = Pipe::chain([spread(|number| vec![number, -number]), fail_on(-2)]).failure([1, 2, 3]);

    assert_eq!(blamed(&failure), ("n1", Some(1), Phase::Process, BAD));
}

#[test]
fn an_interrupt_is_not_blamed_on_a_node() {
    let (_, failure) = Pipe::chain([pass().failing(Phase::Process, Fault::Interrupt)]).failure([1]);

    assert!(matches!(failure.first, Some(RunError::Interrupt(Fault::Interrupt))));
}

#[test]
fn a_failing_input_is_not_blamed_on_a_node() {
    let mut input = [Ok(Some(Item::Number(1))), Err(BAD)].into_iter();
    let mut outputs = Vec::new();

    let outcome = Pipe::chain([pass()]).run_with(
        || input.next().unwrap(),
        |output| {
            outputs.push(output);
            Ok(())
        },
    );

    assert!(matches!(outcome.unwrap_err().first, Some(RunError::Feed(BAD))));
    assert_eq!(outputs, [1]);
}

#[test]
fn a_failing_sink_is_not_blamed_on_a_node() {
    let outcome = Pipe::chain([pass()]).run_with(|| Ok(Some(Item::Number(1))), |_| Err(BAD));

    assert!(matches!(outcome.unwrap_err().first, Some(RunError::Sink(BAD))));
}

#[test]
fn each_output_of_a_source_is_an_input_of_the_rest() {
    let counting = source(|| Ok(Returned::many(&[5, 6, 7])));

    let (outputs, failure) = Pipe::chain([counting, add(1), fail_on(8)]).failure([]);

    assert_eq!(outputs, [6, 7]);
    assert_eq!(blamed(&failure), ("n2", Some(2), Phase::Process, BAD));
}

#[test]
fn a_source_makes_an_output_when_the_one_before_is_through() {
    let log = Log::default();

    Pipe::chain([source(|| Ok(Returned::many(&[1, 2]))).named("a", &log), pass().named("b", &log)]).outputs([]);

    let steps = ["a.produce", "a.yield(1)", "b.process(1)", "a.yield(2)", "b.process(2)", "a.end"];
    assert_eq!(log.lines()[2..8], steps);
}

#[test]
fn a_source_that_returns_a_value_gives_one_input() {
    let outputs = Pipe::chain([source(|| Ok(Returned::One(Item::Number(3)))), add(1)]).outputs([]);

    assert_eq!(outputs, [4]);
}

#[test]
fn a_source_without_outputs_is_followed_by_the_flush() {
    let outputs = Pipe::chain([source(|| Ok(Returned::Nothing)), pass().flushing(&[9])]).outputs([]);

    assert_eq!(outputs, [9]);
}

#[test]
fn a_failing_source_is_blamed_with_the_index_of_the_output_it_owed() {
    let failing = source(|| Ok(Returned::Many(Box::new([Ok(Item::Number(1)), Err(BAD)].into_iter()))));

    let (outputs, failure) = Pipe::chain([failing, pass()]).failure([]);

    assert_eq!(outputs, [1]);
    assert_eq!(blamed(&failure), ("n0", Some(1), Phase::Process, BAD));
}

#[test]
fn a_source_is_closed_when_a_node_after_it_fails() {
    let log = Log::default();

    Pipe::chain([source(|| Ok(Returned::many(&[1, 2]))).named("a", &log), fail_on(1)]).failure([]);

    assert_eq!(log.lines()[1..], ["a.produce", "a.yield(1)", "a.close", "a.cleanup"]);
}

#[test]
fn nodes_are_flushed_in_plan_order_at_the_end_of_input() {
    let log = Log::default();

    let outputs =
        Pipe::chain([pass().flushing(&[1, 2]).named("a", &log), add(10).flushing(&[3]).named("b", &log)]).outputs([0]);

    assert_eq!(outputs, [10, 11, 12, 3]);
    assert_eq!(log.lines_of("flush"), ["a.flush", "b.flush"]);
}

#[test]
fn an_output_of_a_flush_is_through_before_the_next_is_made() {
    let log = Log::default();

    Pipe::chain([pass().flushing(&[1, 2]).named("a", &log), pass().named("b", &log)]).outputs([]);

    let steps = ["a.flush", "a.yield(1)", "b.process(1)", "a.yield(2)", "b.process(2)", "a.end", "b.flush"];
    assert_eq!(log.lines()[2..9], steps);
}

#[test]
fn nodes_are_not_flushed_after_a_failure() {
    let log = Log::default();

    Pipe::chain([fail_on(1).flushing(&[2]).named("a", &log)]).failure([1]);

    assert_eq!(log.lines(), ["a.initialize", "a.process(1)", "a.cleanup"]);
}

#[test]
fn a_failing_flush_is_blamed_without_an_index() {
    let (outputs, failure) = Pipe::chain([pass(), pass().failing(Phase::Flush, BAD)]).failure([4]);

    assert_eq!(outputs, [4]);
    assert_eq!(blamed(&failure), ("n1", None, Phase::Flush, BAD));
}

#[test]
fn a_chain_of_a_hundred_thousand_nodes_runs() {
    let outputs = Pipe::chain((0..100_000).map(|_| add(1))).outputs([0, 1]);

    assert_eq!(outputs, [100_000, 100_001]);
}

#[test]
fn ten_thousand_generators_run_inside_each_other() {
    let outputs = Pipe::chain((0..10_000).map(|_| spread(|number| vec![number + 1]))).outputs([0]);

    assert_eq!(outputs, [10_000]);
}

#[test]
fn ten_thousand_generators_are_closed_innermost_first() {
    let log = Log::default();
    let generators = (0..10_000).map(|_| spread(|number| vec![number])).collect::<Vec<TestNode>>();
    let outer = spread(|number| vec![number]).named("outer", &log);
    let inner = spread(|number| vec![number]).named("inner", &log);

    Pipe::chain([outer].into_iter().chain(generators).chain([inner, fail_on(1)])).failure([1]);

    assert_eq!(log.lines_of("close"), ["inner.close", "outer.close"]);
}
