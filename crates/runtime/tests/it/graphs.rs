//! How items part and meet again: fan-out, merges, joins, several starts and several ends.

use remotemedia_runtime::Phase;

use crate::support::{BAD, Log, Pipe, Returned, add, blamed, fail_on, joined, keep, pass, source, spread};

#[test]
fn every_branch_gets_every_item() {
    let pipe = Pipe::default().node("in", &[], pass()).node("a", &["in"], add(10)).node("b", &["in"], add(20));

    assert_eq!(pipe.outputs([1, 2]), [11, 21, 12, 22]);
}

#[test]
fn branches_are_entered_in_plan_order_each_to_its_end() {
    let log = Log::default();

    Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], spread(|number| vec![number + 1, number + 2]).named("a", &log))
        .node("b", &["in"], pass().named("b", &log))
        .node("a2", &["a"], pass().named("a2", &log))
        .outputs([0]);

    let first = ["a.process(0)", "a.yield(1)", "a2.process(1)", "a.yield(2)", "a2.process(2)", "a.end"];
    assert_eq!(log.lines()[3..10], [&first[..], &["b.process(0)"]].concat());
}

#[test]
fn a_fan_out_finishes_each_output_before_the_generator_goes_on() {
    let log = Log::default();

    Pipe::default()
        .node("in", &[], spread(|_| vec![1, 2]).named("in", &log))
        .node("a", &["in"], pass().named("a", &log))
        .node("b", &["in"], pass().named("b", &log))
        .outputs([0]);

    let steps =
        ["in.yield(1)", "a.process(1)", "b.process(1)", "in.yield(2)", "a.process(2)", "b.process(2)", "in.end"];
    assert_eq!(log.lines()[4..11], steps);
}

#[test]
fn a_merge_takes_items_by_input_and_then_by_the_order_of_after() {
    let pipe = Pipe::default().node("in", &[], pass()).node("a", &["in"], add(10)).node("b", &["in"], add(20)).node(
        "merge",
        &["b", "a"],
        pass(),
    );

    assert_eq!(pipe.outputs([1, 2]), [21, 11, 22, 12]);
}

#[test]
fn a_merge_waits_until_all_other_work_of_the_input_is_done() {
    let log = Log::default();

    Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], spread(|number| vec![number, number]))
        .node("b", &["in"], pass())
        .node("merge", &["a", "b"], pass().named("merge", &log))
        .node("other", &["b"], pass().named("other", &log))
        .outputs([1]);

    let merged = ["merge.process(1)"; 3];
    assert_eq!(log.lines_of("process"), [&["other.process(1)"], &merged[..]].concat());
}

#[test]
fn a_node_after_another_and_after_the_upstream_of_it_is_a_merge() {
    let pipe =
        Pipe::default().node("in", &[], pass()).node("a", &["in"], add(10)).node("merge", &["in", "a"], add(100));

    assert_eq!(pipe.outputs([1, 2]), [101, 111, 102, 112]);
}

#[test]
fn an_upstream_that_stands_twice_counts_once() {
    let pipe = Pipe::default().node("in", &[], pass()).node("a", &["in", "in"], add(10));

    assert_eq!(pipe.outputs([1]), [11]);
}

#[test]
fn merges_open_in_plan_order() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], add(10))
        .node("second", &["first", "in"], add(1000))
        .node("first", &["a", "in"], add(100));

    assert_eq!(pipe.outputs([1]), [1111, 1101, 1001]);
}

#[test]
fn what_a_merge_generates_is_through_before_its_next_item_enters() {
    let log = Log::default();

    Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], add(1))
        .node("merge", &["in", "a"], spread(|number| vec![number + 10]).named("merge", &log))
        .node("end", &["merge"], pass().named("end", &log))
        .outputs([0]);

    let steps = ["merge.process(0)", "end.process(10)", "merge.process(1)", "end.process(11)"];
    assert_eq!(log.lines_of("process"), steps);
}

#[test]
fn a_join_gets_one_item_an_input_with_the_outputs_in_the_order_of_after() {
    let pipe = Pipe::default().node("in", &[], pass()).node("a", &["in"], add(10)).node("b", &["in"], add(20)).join(
        "join",
        &["b", "a"],
        pass(),
    );

    let expected = [joined(&[("b", &[21]), ("a", &[11])]), joined(&[("b", &[22]), ("a", &[12])])];
    assert_eq!(pipe.outputs([1, 2]), expected);
}

#[test]
fn a_join_holds_no_output_or_several_of_a_branch() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("none", &["in"], keep(|_| false))
        .node("several", &["in"], spread(|number| vec![number, number + 1, number + 2]))
        .join("join", &["none", "several"], pass());

    assert_eq!(pipe.outputs([1]), [joined(&[("none", &[]), ("several", &[1, 2, 3])])]);
}

#[test]
fn a_join_gets_an_item_even_when_no_branch_has_an_output() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], keep(|_| false))
        .node("b", &["in"], keep(|_| false))
        .join("join", &["a", "b"], pass());

    assert_eq!(pipe.outputs([1]), [joined(&[("a", &[]), ("b", &[])])]);
}

#[test]
fn a_join_gets_nothing_for_an_input_that_reached_no_branch() {
    let pipe = Pipe::default()
        .node("in", &[], keep(|number| number > 1))
        .node("a", &["in"], add(10))
        .node("b", &["in"], add(20))
        .join("join", &["a", "b"], pass());

    assert_eq!(pipe.outputs([1, 2]), [joined(&[("a", &[12]), ("b", &[22])])]);
}

#[test]
fn a_join_of_a_single_branch_gets_its_outputs_together() {
    let pipe = Pipe::default().node("in", &[], spread(|number| vec![number, number])).join("join", &["in"], pass());

    assert_eq!(pipe.outputs([7]), [joined(&[("in", &[7, 7])])]);
}

#[test]
fn a_join_after_a_source_gets_one_item_for_each_of_its_outputs() {
    let pipe = Pipe::default()
        .node("source", &[], source(|| Ok(Returned::many(&[1, 2]))))
        .node("none", &["source"], keep(|_| false))
        .join("join", &["source", "none"], pass());

    let expected = [joined(&[("source", &[1]), ("none", &[])]), joined(&[("source", &[2]), ("none", &[])])];
    assert_eq!(pipe.outputs([]), expected);
}

#[test]
fn outputs_of_several_ends_are_ordered_by_input_and_then_by_plan() {
    let pipe = Pipe::default().node("in", &[], pass()).node("late", &["in"], pass()).node("z", &["in"], add(10)).node(
        "a",
        &["late"],
        add(20),
    );

    assert_eq!(pipe.outputs([1, 2]), [11, 21, 12, 22]);
}

#[test]
fn every_start_gets_every_input() {
    let pipe = Pipe::default().node("a", &[], add(10)).node("b", &[], add(20)).node("merge", &["b", "a"], pass());

    assert_eq!(pipe.outputs([1, 2]), [21, 11, 22, 12]);
}

#[test]
fn a_merge_takes_what_was_flushed_before_it_before_its_own_flush() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], pass().flushing(&[1]))
        .node("b", &["in"], pass().flushing(&[2]))
        .node("merge", &["b", "a"], add(10).flushing(&[3]))
        .node("end", &["merge"], add(100).flushing(&[4]));

    assert_eq!(pipe.outputs([]), [112, 111, 103, 4]);
}

#[test]
fn a_flushed_output_passes_through_branches_and_meets_again() {
    let pipe = Pipe::default()
        .node("in", &[], pass().flushing(&[1]))
        .node("a", &["in"], add(10).flushing(&[5]))
        .node("b", &["in"], add(20))
        .node("merge", &["b", "a"], pass());

    assert_eq!(pipe.outputs([]), [21, 11, 5]);
}

#[test]
fn a_join_gets_one_item_for_all_that_was_flushed_before_it() {
    let pipe = Pipe::default()
        .node("in", &[], pass())
        .node("a", &["in"], pass().flushing(&[1, 2]))
        .node("b", &["in"], pass())
        .join("join", &["a", "b"], pass());

    assert_eq!(pipe.outputs([]), [joined(&[("a", &[1, 2]), ("b", &[])])]);
}

#[test]
fn a_join_gets_nothing_at_the_end_when_nothing_was_flushed() {
    let pipe = Pipe::default().node("in", &[], pass().flushing(&[1])).node("a", &["in"], keep(|_| false)).join(
        "join",
        &["a"],
        pass(),
    );

    assert!(pipe.outputs([]).is_empty());
}

#[test]
fn what_several_ends_flush_is_ordered_by_plan() {
    let pipe = Pipe::default().node("in", &[], pass().flushing(&[1])).node("a", &["in"], add(10).flushing(&[2])).node(
        "b",
        &["in"],
        add(20).flushing(&[3]),
    );

    assert_eq!(pipe.outputs([]), [11, 2, 21, 3]);
}

#[test]
fn a_failure_behind_a_merge_has_the_index_of_the_input() {
    let pipe =
        Pipe::default().node("in", &[], pass()).node("a", &["in"], add(10)).node("merge", &["in", "a"], fail_on(12));

    let (outputs, failure) = pipe.failure([1, 2, 3]);

    assert_eq!(outputs, [1, 11, 2]);
    assert_eq!(blamed(&failure), ("merge", Some(1), Phase::Process, BAD));
}

#[test]
fn a_hundred_thousand_branches_meet_again() {
    let mut pipe = Pipe::default().node("in", &[], pass());
    let ids: Vec<String> = (0..100_000).map(|n| format!("b{n}")).collect();
    for id in &ids {
        pipe = pipe.node(id, &["in"], add(1));
    }
    let after: Vec<&str> = ids.iter().map(String::as_str).collect();

    let outputs = pipe.node("merge", &after, pass()).outputs([0]);

    assert_eq!(outputs.len(), 100_000);
}

#[test]
fn a_hundred_thousand_merges_run() {
    let mut pipe = Pipe::default().node("0", &[], pass()).node("1", &["0"], keep(|_| false));
    let ids: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    for n in 2..ids.len() {
        pipe = pipe.node(&ids[n], &[&ids[n - 1], &ids[n - 2]], keep(|_| false));
    }

    assert!(pipe.outputs([0]).is_empty());
}
