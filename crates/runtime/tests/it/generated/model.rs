//! Described pipelines, and their meaning in a page.

use std::collections::HashMap;

use proptest::prelude::*;
use remotemedia_runtime::Phase;

use crate::support::{BAD, Fault, Item};

/// What a generated node does with an item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Pass,
    Add(i64),
    KeepEven,
    Twice,
    FailAtCall(usize),
    /// Fails for one total of seven.
    FailFor(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) id: String,
    pub(super) after: Vec<String>,
    pub(super) join: bool,
    pub(super) kind: Kind,
    /// What it flushes, as a generator.
    pub(super) flushed: Vec<i64>,
}

/// The behaviour of a node, which engine and model share. What they must find out is when to call it.
pub(super) struct Behaviour {
    pub(super) kind: Kind,
    calls: usize,
}

impl Behaviour {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, calls: 0 }
    }

    pub(super) fn process(&mut self, item: Item) -> Result<Vec<Item>, Fault> {
        self.calls += 1;
        Ok(match self.kind {
            Kind::Add(summand) => vec![added(item, summand)],
            Kind::KeepEven => Vec::from_iter((total(&item) % 2 == 0).then_some(item)),
            Kind::Twice => vec![item.clone(), item],
            Kind::FailAtCall(call) if call == self.calls => return Err(BAD),
            Kind::FailFor(total_of_bad) if total(&item).rem_euclid(7) == total_of_bad => return Err(BAD),
            Kind::Pass | Kind::FailAtCall(_) | Kind::FailFor(_) => vec![item],
        })
    }
}

pub(super) fn added(item: Item, summand: i64) -> Item {
    let add_to_all = |items: Vec<Item>| items.into_iter().map(|item| added(item, summand)).collect();
    match item {
        Item::Number(number) => Item::Number(number + summand),
        Item::Joined(branches) => {
            Item::Joined(branches.into_iter().map(|(id, items)| (id, add_to_all(items))).collect())
        }
        Item::Chunk(items) => Item::Chunk(add_to_all(items)),
    }
}

pub(super) fn total(item: &Item) -> i64 {
    match item {
        Item::Number(number) => *number,
        Item::Joined(branches) => branches.iter().flat_map(|(_, items)| items).map(total).sum(),
        Item::Chunk(items) => items.iter().map(total).sum(),
    }
}

/// All that can be seen of a run.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) outputs: Vec<Item>,
    pub(super) failure: Option<(String, Option<u64>, Phase)>,
    pub(super) calls: Vec<String>,
}

/// The meaning of a pipeline, written for shortness: recursive, one input after the other.
pub(super) struct Model<'a> {
    /// In plan order.
    nodes: Vec<&'a Described>,
    behaviours: Vec<Behaviour>,
    /// What waits before each merge and join, with the id of the node it came from.
    pending: HashMap<&'a str, Vec<(&'a str, Item)>>,
    given: Vec<&'a str>,
    outputs_of: HashMap<&'a str, Vec<Item>>,
    calls: Vec<String>,
    index: u64,
}

pub(super) type Failed = (String, Option<u64>, Phase);

impl<'a> Model<'a> {
    pub(super) fn run(described: &'a [Described], input: &[i64]) -> Seen {
        let mut model = Self::new(described);
        let mut outputs = Vec::new();
        let failure = model.all_inputs(input, &mut outputs).err();
        if model.has_one_end() {
            // Nothing has to be ordered, so what came out of an input that failed is out already.
            outputs.extend(model.outputs_of.into_values().flatten());
        }
        Seen { outputs, failure, calls: model.calls }
    }

    /// The outputs of one input, if no node fails on it.
    pub(super) fn outputs_of_one(described: &'a [Described], number: i64) -> Result<Vec<Item>, Failed> {
        let mut outputs = Vec::new();
        Self::new(described).one_input(number, &mut outputs).map(|()| outputs)
    }

    /// The outputs of the end of input.
    pub(super) fn outputs_of_end(described: &'a [Described]) -> Result<Vec<Item>, Failed> {
        let mut outputs = Vec::new();
        Self::new(described).end(&mut outputs).map(|()| outputs)
    }

    fn new(described: &'a [Described]) -> Self {
        let mut nodes: Vec<&Described> = Vec::new();
        while let Some(next) = described.iter().find(|node| {
            let is_placed = |id: &String| nodes.iter().any(|placed| placed.id == *id);
            !is_placed(&node.id) && node.after.iter().all(is_placed)
        }) {
            nodes.push(next);
        }
        let behaviours = nodes.iter().map(|node| Behaviour::new(node.kind)).collect();
        Self {
            nodes,
            behaviours,
            pending: HashMap::new(),
            given: Vec::new(),
            outputs_of: HashMap::new(),
            calls: Vec::new(),
            index: 0,
        }
    }

    fn has_one_end(&self) -> bool {
        self.nodes.iter().filter(|node| self.receivers(&node.id).is_empty()).count() == 1
    }

    fn all_inputs(&mut self, input: &[i64], outputs: &mut Vec<Item>) -> Result<(), Failed> {
        for (index, number) in (0..).zip(input) {
            self.index = index;
            self.one_input(*number, outputs)?;
        }
        self.end(outputs)
    }

    fn one_input(&mut self, number: i64, outputs: &mut Vec<Item>) -> Result<(), Failed> {
        self.given.clear();
        for root in 0..self.nodes.len() {
            if self.nodes[root].after.is_empty() {
                self.give(root, Item::Number(number))?;
            }
        }
        for node in 0..self.nodes.len() {
            self.meet(node, false)?;
        }
        self.let_out(outputs);
        Ok(())
    }

    fn end(&mut self, outputs: &mut Vec<Item>) -> Result<(), Failed> {
        self.given.clear();
        for node in 0..self.nodes.len() {
            self.meet(node, true)?;
            self.calls.push(format!("{} flush", self.nodes[node].id));
            for number in &self.nodes[node].flushed {
                self.send(node, &Item::Number(*number))?;
            }
        }
        self.let_out(outputs);
        Ok(())
    }

    fn let_out(&mut self, outputs: &mut Vec<Item>) {
        for node in &self.nodes {
            outputs.append(self.outputs_of.entry(&node.id).or_default());
        }
    }

    fn receivers(&self, id: &String) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].after.contains(id)).collect()
    }

    fn give(&mut self, node: usize, item: Item) -> Result<(), Failed> {
        let id = &self.nodes[node].id;
        self.given.push(id);
        self.calls.push(format!("{id} {item}"));
        let result = self.behaviours[node].process(item);
        let outputs = result.map_err(|_| (id.clone(), Some(self.index), Phase::Process))?;
        outputs.into_iter().try_for_each(|output| self.send(node, &output))
    }

    fn send(&mut self, node: usize, output: &Item) -> Result<(), Failed> {
        let id = &self.nodes[node].id;
        self.calls.push(format!("{id} gives {output}"));
        let receivers = self.receivers(id);
        if receivers.is_empty() {
            self.outputs_of.entry(id).or_default().push(output.clone());
        }
        for receiver in receivers {
            let to = self.nodes[receiver];
            if to.after.len() > 1 || to.join {
                self.pending.entry(&to.id).or_default().push((id, output.clone()));
            } else {
                self.give(receiver, output.clone())?;
            }
        }
        Ok(())
    }

    /// Give a merge or a join what waits before it.
    fn meet(&mut self, node: usize, is_flush: bool) -> Result<(), Failed> {
        let Described { id, after, join, .. } = self.nodes[node];
        let waiting = self.pending.remove(id.as_str()).unwrap_or_default();
        let of = |upstream: &String| -> Vec<Item> {
            waiting.iter().filter(|(from, _)| from == upstream).map(|(_, item)| item.clone()).collect()
        };
        if !join {
            return after.iter().flat_map(of).try_for_each(|item| self.give(node, item));
        }
        let was_given = !is_flush && after.iter().any(|upstream| self.given.contains(&upstream.as_str()));
        if was_given || !waiting.is_empty() {
            let branches = after.iter().map(|upstream| (upstream.clone(), of(upstream))).collect();
            self.give(node, Item::Joined(branches))?;
        }
        Ok(())
    }
}

pub(super) fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Pass),
        3 => (1_i64..4).prop_map(Kind::Add),
        3 => Just(Kind::KeepEven),
        3 => Just(Kind::Twice),
        1 => (1_usize..6).prop_map(Kind::FailAtCall),
        1 => (0_i64..7).prop_map(Kind::FailFor),
    ]
}

/// Up to eight nodes, each after some of those before it, described in any order.
pub(super) fn any_pipeline() -> impl Strategy<Value = Vec<Described>> {
    let upstreams = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let flushed = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(-9_i64..0, 1..3)];
    let node = (any_kind(), upstreams, any::<bool>(), flushed);
    let nodes = prop::collection::vec(node, 1..=8).prop_map(|nodes| {
        let described = nodes.into_iter().enumerate().map(|(place, (kind, upstreams, join, flushed))| {
            let mut after: Vec<String> = Vec::new();
            for upstream in upstreams.iter().filter(|_| place > 0) {
                let id = format!("n{}", upstream.index(place));
                if !after.contains(&id) {
                    after.push(id);
                }
            }
            Described { id: format!("n{place}"), join: join && !after.is_empty(), after, kind, flushed }
        });
        described.collect::<Vec<_>>()
    });
    nodes.prop_shuffle()
}
