//! Generated pipelines: the engine gives the outputs, the failures and the order of calls that a model of a page gives.

mod model;
mod sessions;

use proptest::prelude::*;
use remotemedia_runtime::{Node, Outputs, RunError, Stream};

use self::model::{Behaviour, Described, Kind, Model, Seen, any_pipeline};
use crate::support::{Fault, Item, Log, Pipe, numbers};

/// A described node for the engine.
struct Real {
    id: String,
    behaviour: Behaviour,
    flushed: Vec<i64>,
    calls: Log,
    lifecycle: Log,
}

impl Real {
    fn lazily(&self, outputs: Vec<Item>) -> Outputs<Item> {
        let (id, calls) = (self.id.clone(), self.calls.clone());
        Outputs::Many(Box::new(Lazily { outputs: outputs.into_iter(), id, calls }))
    }
}

impl Node<Item> for Real {
    fn initialize(&mut self) -> Result<(), Fault> {
        self.lifecycle.note(self.id.clone());
        Ok(())
    }

    fn process(&mut self, item: Item) -> Result<Outputs<Item>, Fault> {
        self.calls.note(format!("{} {item}", self.id));
        let mut outputs = self.behaviour.process(item)?;
        if matches!(self.behaviour.kind, Kind::Twice) {
            return Ok(self.lazily(outputs));
        }
        let output = outputs.pop().inspect(|output| self.calls.note(format!("{} gives {output}", self.id)));
        Ok(output.map_or(Outputs::None, Outputs::One))
    }

    fn flush(&mut self) -> Result<Outputs<Item>, Fault> {
        self.calls.note(format!("{} flush", self.id));
        Ok(self.lazily(numbers(&self.flushed)))
    }

    fn cleanup(&mut self) -> Result<(), Fault> {
        self.lifecycle.note(self.id.clone());
        Ok(())
    }
}

struct Lazily {
    outputs: std::vec::IntoIter<Item>,
    id: String,
    calls: Log,
}

impl Stream<Item> for Lazily {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        Ok(self.outputs.next().inspect(|output| self.calls.note(format!("{} gives {output}", self.id))))
    }
}

/// Run by the engine: what was seen, and the ids in the order of `initialize` and `cleanup`.
fn run(described: &[Described], input: &[i64]) -> (Seen, Vec<String>) {
    let (calls, lifecycle) = (Log::default(), Log::default());
    let pipe = described.iter().fold(Pipe::default(), |pipe, node| {
        let after: Vec<&str> = node.after.iter().map(String::as_str).collect();
        let real = Real {
            id: node.id.clone(),
            behaviour: Behaviour::new(node.kind),
            flushed: node.flushed.clone(),
            calls: calls.clone(),
            lifecycle: lifecycle.clone(),
        };
        pipe.add(&node.id, &after, node.join, real)
    });
    let (outputs, outcome) = pipe.run(input.iter().copied());
    let failure = outcome.err().map(|failure| match failure.first {
        Some(RunError::Node(failure)) => (failure.node_id, failure.item_index, failure.phase),
        other => panic!("only nodes fail here: {other:?}"),
    });
    (Seen { outputs, failure, calls: calls.lines() }, lifecycle.lines())
}

/// So many cases, or as many as the environment asks for.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_engine_does_what_the_model_does(pipeline in any_pipeline(), input in prop::collection::vec(0_i64..10, 0..5)) {
        let expected = Model::run(&pipeline, &input);

        let (seen, lifecycle) = run(&pipeline, &input);

        prop_assert_eq!(seen, expected);
        let (initialized, cleaned_up) = lifecycle.split_at(pipeline.len());
        prop_assert!(initialized.iter().rev().eq(cleaned_up));
    }
}
