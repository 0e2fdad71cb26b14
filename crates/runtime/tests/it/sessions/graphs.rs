//! Branches that part and meet again, with borders of stages in every place.

use remotemedia_runtime::Options;
use serde_json::json;

use crate::support::{Item, Pipe, SessionUse, add, joined, keep, numbers, options, pass, spread, stream};

/// How one node of the diamond may run, with the number of objects that it needs.
fn kinds() -> Vec<(Options, usize)> {
    let kinds = [
        json!({}),
        json!({"placement": "thread"}),
        json!({"placement": "thread", "replicas": 2}),
        json!({"concurrency": 2}),
    ];
    kinds.iter().map(options).map(|how| (how.clone(), how.replicas)).collect()
}

/// `in` parts into `a`, which keeps the even numbers, and `b`, which doubles; `out` gets both.
fn diamond(places: [&(Options, usize); 4], is_join: bool) -> Pipe {
    let [entry, a, b, out] = places;
    let mut pipe = Pipe::default().node("in", &[], spread(|number| vec![number, number + 1])).with(entry.0.clone());
    for _ in 1..entry.1 {
        pipe = pipe.replica(spread(|number| vec![number, number + 1]));
    }
    pipe = pipe.node("a", &["in"], keep(|number| number % 2 == 0)).with(a.0.clone());
    for _ in 1..a.1 {
        pipe = pipe.replica(keep(|number| number % 2 == 0));
    }
    pipe = pipe.node("b", &["in"], spread(|number| vec![number * 10])).with(b.0.clone());
    for _ in 1..b.1 {
        pipe = pipe.replica(spread(|number| vec![number * 10]));
    }
    pipe = pipe.add("out", &["b", "a"], is_join, pass()).with(out.0.clone());
    for _ in 1..out.1 {
        pipe = pipe.replica(pass());
    }
    pipe
}

fn merged(number: i64) -> Vec<Item> {
    let even = if number % 2 == 0 { number } else { number + 1 };
    numbers(&[number * 10, (number + 1) * 10, even])
}

fn both(number: i64) -> Vec<Item> {
    let even = if number % 2 == 0 { number } else { number + 1 };
    vec![joined(&[("b", &[number * 10, (number + 1) * 10]), ("a", &[even])])]
}

fn check_all_diamonds(is_join: bool, expected: fn(i64) -> Vec<Item>) {
    let kinds = kinds();
    for entry in &kinds {
        for a in &kinds {
            for b in &kinds {
                for out in &kinds {
                    let session = diamond([entry, a, b, out], is_join).open();
                    let (outputs, error) = stream(&session, &[1, 2, 3, 4, 5]);

                    let all: Vec<Item> = (1..=5).flat_map(expected).collect();
                    let places = [entry, a, b, out].map(|(how, _)| (how.placement, how.replicas, how.concurrency));
                    assert_eq!((outputs, error.is_none()), (all, true), "{places:?}");
                }
            }
        }
    }
}

#[test]
fn a_diamond_merges_wherever_its_borders_are() {
    check_all_diamonds(false, merged);
}

#[test]
fn a_diamond_joins_wherever_its_borders_are() {
    check_all_diamonds(true, both);
}

/// A branch behind a filter was taken for one that had been asked, where its node worked in parallel.
#[test]
fn a_join_knows_which_branches_were_asked() {
    for how in [json!({}), json!({"placement": "thread"}), json!({"batch": 1}), json!({"concurrency": 2})] {
        let session = Pipe::default()
            .node("keep", &[], keep(|number| number > 1))
            .node("a", &["keep"], keep(|number| number > 2))
            .with(options(&how))
            .join("join", &["a"], pass())
            .open();

        let expected = [joined(&[("a", &[])]), joined(&[("a", &[3])])];
        assert_eq!(stream(&session, &[1, 2, 3]).0, expected, "{how}");
    }
}

/// All nodes of a group that worked in parallel were taken for asked when its first was.
#[test]
fn a_join_knows_which_nodes_of_a_group_were_asked() {
    for how in
        [json!({"group": "g", "placement": "thread"}), json!({"group": "g", "placement": "thread", "replicas": 2})]
    {
        let options = options(&how);
        let (first, second) = (keep(|number| number > 1), keep(|number| number > 2));
        let mut pipe = Pipe::default().node("keep", &[], first).with(options.clone());
        for _ in 1..options.replicas {
            pipe = pipe.replica(keep(|number| number > 1));
        }
        pipe = pipe.node("a", &["keep"], second).with(options.clone());
        for _ in 1..options.replicas {
            pipe = pipe.replica(keep(|number| number > 2));
        }
        let session = pipe.join("join", &["a"], pass()).open();

        let expected = [joined(&[("a", &[])]), joined(&[("a", &[3])])];
        assert_eq!(stream(&session, &[1, 2, 3]).0, expected, "{how}");
    }
}

#[test]
fn several_last_nodes_give_in_the_order_of_the_plan() {
    for (left, right) in [(json!({"placement": "thread"}), json!({})), (json!({}), json!({"concurrency": 2}))] {
        let session = Pipe::default()
            .node("in", &[], pass())
            .node("left", &["in"], add(100))
            .with(options(&left))
            .node("right", &["in"], add(200))
            .with(options(&right))
            .open();

        assert_eq!(stream(&session, &[1, 2]).0, numbers(&[101, 201, 102, 202]), "{left} {right}");
    }
}

#[test]
fn several_first_nodes_get_every_item() {
    let session = Pipe::default()
        .node("a", &[], add(100))
        .with(options(&json!({"placement": "thread"})))
        .node("b", &[], add(200))
        .node("c", &[], add(300))
        .with(options(&json!({"batch": 2})))
        .node("out", &["c", "a", "b"], pass())
        .open();

    assert_eq!(stream(&session, &[1, 2]).0, numbers(&[301, 101, 201, 302, 102, 202]));
}

#[test]
fn a_way_around_a_stage_keeps_the_order() {
    let session = Pipe::default()
        .node("in", &[], pass())
        .node("slow", &["in"], add(100))
        .with(options(&json!({"placement": "thread"})))
        .node("out", &["in", "slow"], pass())
        .open();

    let expected: Vec<i64> = (0..50).flat_map(|number| [number, number + 100]).collect();
    assert_eq!(stream(&session, &(0..50).collect::<Vec<_>>()).0, numbers(&expected));
}

/// What the branches flush meets, too.
#[test]
fn flushed_items_meet() {
    let session = Pipe::default()
        .node("a", &[], pass().flushing(&[7]))
        .with(options(&json!({"placement": "thread"})))
        .node("b", &[], pass().flushing(&[8, 9]))
        .join("out", &["a", "b"], pass())
        .with(options(&json!({"placement": "thread"})))
        .open();

    let expected = [joined(&[("a", &[1]), ("b", &[1])]), joined(&[("a", &[7]), ("b", &[8, 9])])];
    assert_eq!(stream(&session, &[1]).0, expected);
}

#[test]
fn one_branch_that_fails_fails_the_input_and_no_other() {
    let session = Pipe::default()
        .node("a", &[], crate::support::fail_on(2))
        .with(options(&json!({"placement": "thread"})))
        .node("b", &[], pass())
        .join("out", &["a", "b"], pass())
        .with(options(&json!({"placement": "thread"})))
        .open();

    let calls: Vec<_> = (0..20).map(|number| session.call(number % 4)).collect();

    for (call, number) in calls.iter().zip(0..) {
        match call.result() {
            Ok(outputs) => assert_eq!(outputs, [joined(&[("a", &[number % 4]), ("b", &[number % 4])])]),
            Err(_) => assert_eq!(number % 4, 2),
        }
    }
}
