//! Sessions of generated pipelines with generated borders give to each call, and to a stream, what the model gives.

use std::collections::HashMap;

use proptest::prelude::*;
use remotemedia_runtime::{Concurrent, Done, EndEarly, Node, Options, Outputs, RunError, Stream};
use serde_json::json;

use super::cases;
use super::model::{Behaviour, Described, Kind, Model, any_pipeline};
use crate::support::{Fault, Item, Pipe, SessionUse, numbers, options, stream};

/// How a generated node runs.
#[derive(Clone, Copy, Debug)]
enum Place {
    Inline,
    Thread,
    /// On a thread that it shares with neighbours of this kind.
    Inherited,
    ShortQueue,
    Replicas {
        is_ordered: bool,
    },
    Concurrent {
        is_ordered: bool,
    },
    Batch {
        size: usize,
    },
    BatchInReplicas,
}

impl Place {
    /// What of it is possible for a node of this kind, with the same meaning.
    fn fit(self, node: &Described) -> Self {
        let is_single = !matches!(node.kind, Kind::Twice | Kind::FailFor(_) | Kind::FailAtCall(_));
        match self {
            // Each replica would flush.
            Self::Replicas { .. } | Self::BatchInReplicas if !node.flushed.is_empty() => Self::Thread,
            // A batch returns one output per item, and fails as a whole.
            Self::Batch { .. } | Self::BatchInReplicas if !is_single => Self::Thread,
            place => place,
        }
    }

    /// What of it is possible for a group.
    fn fit_group(self) -> Self {
        match self {
            Self::Concurrent { is_ordered } => Self::Replicas { is_ordered },
            Self::Batch { .. } | Self::BatchInReplicas => Self::ShortQueue,
            place => place,
        }
    }

    fn options(self) -> Options {
        let is_placement_inherited = matches!(self, Self::Inherited);
        let options = options(&match self {
            Self::Inline => json!({}),
            Self::Thread | Self::Inherited => json!({"placement": "thread"}),
            Self::ShortQueue => json!({"queue_size": 1}),
            Self::Replicas { is_ordered } => json!({"placement": "thread", "replicas": 2, "ordered": is_ordered}),
            Self::Concurrent { is_ordered } => json!({"concurrency": 3, "ordered": is_ordered}),
            Self::Batch { size } => json!({"batch": size}),
            Self::BatchInReplicas => json!({"placement": "thread", "replicas": 2, "batch": 2}),
        });
        Options { is_placement_inherited, ..options }
    }
}

fn any_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => Just(Place::Inline),
        2 => Just(Place::Thread),
        2 => Just(Place::Inherited),
        1 => Just(Place::ShortQueue),
        1 => any::<bool>().prop_map(|is_ordered| Place::Replicas { is_ordered }),
        1 => any::<bool>().prop_map(|is_ordered| Place::Concurrent { is_ordered }),
        1 => (1_usize..4).prop_map(|size| Place::Batch { size }),
        1 => Just(Place::BatchInReplicas),
    ]
}

/// Pipelines whose nodes process each item alike, whatever came before it.
fn any_placed() -> impl Strategy<Value = Vec<(Described, Options)>> {
    let places = prop::collection::vec(any_place(), 8);
    let are_grouped = prop::collection::vec(any::<bool>(), 8);
    (any_pipeline(), places, are_grouped).prop_map(|(mut nodes, places, are_grouped)| {
        for node in &mut nodes {
            if let Kind::FailAtCall(call) = node.kind {
                node.kind = Kind::Add(i64::try_from(call).expect("calls are few"));
            }
        }
        let groups = groups(&nodes, &are_grouped);
        let options_of = |index: usize| {
            let Some(first) = groups[index] else { return places[index].fit(&nodes[index]).options() };
            let members = nodes.iter().zip(&groups).filter(|(_, group)| **group == Some(first));
            let place = members.fold(places[first].fit_group(), |place, (member, _)| place.fit(member));
            Options { group: Some(first.to_string()), ..place.options() }
        };
        let options: Vec<Options> = (0..nodes.len()).map(options_of).collect();
        nodes.into_iter().zip(options).collect()
    })
}

/// The first node of the group of each node that is in one. A node may join the group that all nodes before it are in.
fn groups(nodes: &[Described], are_grouped: &[bool]) -> Vec<Option<usize>> {
    let positions: HashMap<&str, usize> = nodes.iter().enumerate().map(|(index, node)| (&*node.id, index)).collect();
    let mut groups = vec![None; nodes.len()];
    // Their ids are numbered from the first one on.
    for index in (0..nodes.len()).map(|number| positions[&*format!("n{number}")]) {
        let mut before = nodes[index].after.iter().map(|upstream| groups[positions[&**upstream]]);
        let shared = before.next().flatten();
        let shared = shared.filter(|_| before.all(|group| group == shared));
        groups[index] = are_grouped[index].then(|| shared.unwrap_or(index));
    }
    groups
}

/// A described node.
struct Plain {
    kind: Kind,
    flushed: Vec<i64>,
}

impl Plain {
    fn outputs(kind: Kind, item: Item) -> Result<Outputs<Item>, Fault> {
        let mut outputs = Behaviour::new(kind).process(item)?;
        Ok(match kind {
            Kind::Twice => Outputs::Many(Box::new(Given(outputs.into_iter()))),
            _ => outputs.pop().map_or(Outputs::None, Outputs::One),
        })
    }
}

struct Given(std::vec::IntoIter<Item>);

impl Stream<Item> for Given {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        Ok(self.0.next())
    }
}

impl Node<Item> for Plain {
    fn process(&mut self, item: Item) -> Result<Outputs<Item>, Fault> {
        Self::outputs(self.kind, item)
    }

    /// On a thread of its own, so that any may be done first.
    fn as_concurrent(&mut self) -> Option<&mut dyn Concurrent<Item>> {
        Some(self)
    }

    fn flush(&mut self) -> Result<Outputs<Item>, Fault> {
        Ok(Outputs::Many(Box::new(Given(numbers(&self.flushed).into_iter()))))
    }
}

impl Concurrent<Item> for Plain {
    fn start(&mut self, item: Item, _item_index: Option<u64>, done: Done<Item>) -> Option<EndEarly> {
        let kind = self.kind;
        std::thread::spawn(move || done(Self::outputs(kind, item)));
        None
    }
}

fn describe(placed: &[(Described, Options)]) -> (Pipe, Vec<Described>) {
    let mut pipe = Pipe::default();
    for (node, options) in placed {
        let after: Vec<&str> = node.after.iter().map(String::as_str).collect();
        let plain = || Plain { kind: node.kind, flushed: node.flushed.clone() };
        let replicas = options.replicas;
        pipe = pipe.add(&node.id, &after, node.join, plain()).with(options.clone());
        for _ in 1..replicas {
            pipe = pipe.replica(plain());
        }
    }
    (pipe, placed.iter().map(|(node, _)| node.clone()).collect())
}

/// Any of the nodes that may fail has failed on the item of this index.
fn is_failure_of(described: &[Described], error: &RunError<Fault>, index: Option<u64>) -> bool {
    let RunError::Node(failure) = error else { return false };
    let node = described.iter().find(|node| node.id == failure.node_id);
    failure.item_index == index && node.is_some_and(|node| matches!(node.kind, Kind::FailFor(_)))
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn each_call_gets_what_the_model_gives(placed in any_placed(), input in prop::collection::vec(0_i64..10, 0..12)) {
        let (pipe, described) = describe(&placed);
        let session = pipe.open();

        let calls: Vec<_> = input.iter().map(|number| session.call(*number)).collect();

        for (index, (call, number)) in calls.iter().zip(&input).enumerate() {
            match (call.result(), Model::outputs_of_one(&described, *number)) {
                (Ok(outputs), Ok(expected)) => prop_assert_eq!(outputs, expected),
                (Err(error), Err(_)) => {
                    prop_assert!(is_failure_of(&described, &error, Some(index as u64)), "{:?}", error);
                }
                (result, expected) => prop_assert!(false, "{:?} instead of {:?}", result, expected),
            }
        }
        let (outputs, error) = stream(&session, &[]);
        match Model::outputs_of_end(&described) {
            Ok(expected) => prop_assert_eq!((outputs, error.is_none()), (expected, true)),
            Err(_) => prop_assert!(error.is_some_and(|error| matches!(error, RunError::Node(_)))),
        }
        session.shut();
    }

    #[test]
    fn a_stream_gets_what_the_model_gives(placed in any_placed(), input in prop::collection::vec(0_i64..10, 0..30)) {
        let mut placed = placed;
        for (node, _) in &mut placed {
            if matches!(node.kind, Kind::FailFor(_)) {
                node.kind = Kind::Pass;
            }
        }
        let (pipe, described) = describe(&placed);
        let session = pipe.open();

        let (mut outputs, error) = stream(&session, &input);

        prop_assert!(error.is_none(), "{:?}", error);
        let mut expected: Vec<Item> = Vec::new();
        for number in input {
            expected.extend(Model::outputs_of_one(&described, number).expect("nothing fails"));
        }
        expected.extend(Model::outputs_of_end(&described).expect("nothing fails"));
        if placed.iter().any(|(_, options)| !options.is_ordered) {
            outputs.sort_by_key(ToString::to_string);
            expected.sort_by_key(ToString::to_string);
        }
        prop_assert_eq!(outputs, expected);
        session.shut();
    }

    #[test]
    fn after_interrupts_and_abandoned_calls_the_model_holds(
        placed in any_placed(),
        rounds in prop::collection::vec((prop::collection::vec(0_i64..10, 0..8), any::<bool>()), 1..5),
    ) {
        let (pipe, described) = describe(&placed);
        let session = pipe.open();

        for (input, is_interrupted) in rounds {
            let calls: Vec<_> = input.iter().map(|number| session.call(*number)).collect();
            if is_interrupted {
                session.interrupt(&|| {});
            } else {
                calls.iter().step_by(2).for_each(|call| drop(session.abandon(&call.client)));
            }
            for (call, number) in calls.iter().zip(&input) {
                match (call.result(), Model::outputs_of_one(&described, *number)) {
                    (Ok(outputs), Ok(expected)) => prop_assert_eq!(outputs, expected),
                    (Err(RunError::Interrupted), _) => prop_assert!(is_interrupted),
                    (Err(RunError::Cancelled), _) => prop_assert!(!is_interrupted),
                    (Err(RunError::Node(_)), Err(_)) => {}
                    (result, expected) => prop_assert!(false, "{:?} instead of {:?}", result, expected),
                }
            }
        }
        let last = session.call(4).result();
        match Model::outputs_of_one(&described, 4) {
            Ok(expected) => prop_assert_eq!(last.expect("nothing fails"), expected),
            Err(_) => prop_assert!(last.is_err()),
        }
        session.shut();
    }
}
