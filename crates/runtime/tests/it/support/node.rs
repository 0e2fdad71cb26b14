//! A node whose behaviour a test puts together.

use std::fmt;

use remotemedia_runtime::{BulkMember, Node, Outputs, Phase, Source, Stream};

use super::{Fault, Item, Log, numbers};

/// What a node of the tests returns.
pub(crate) enum Returned {
    Nothing,
    One(Item),
    Many(Box<dyn Iterator<Item = Result<Item, Fault>> + Send>),
    /// The same, but closing it fails.
    Unclosable(Box<dyn Iterator<Item = Result<Item, Fault>> + Send>),
}

impl Returned {
    pub(crate) fn many(outputs: &[i64]) -> Self {
        Self::Many(Box::new(numbers(outputs).into_iter().map(Ok)))
    }
}

type Method<Argument> = Box<dyn FnMut(Argument) -> Result<Returned, Fault> + Send>;

/// A node that does what the test says, and logs it once it has a name.
pub(crate) struct TestNode {
    process: Method<Item>,
    flush: Option<Method<()>>,
    produce: Option<Method<()>>,
    failing: Vec<(Phase, Fault)>,
    actions: Vec<(Phase, Box<dyn FnMut() + Send>)>,
    name: Name,
}

#[derive(Clone, Default)]
struct Name(Option<(&'static str, Log)>);

impl Name {
    fn note(&self, what: impl fmt::Display) {
        if let Some((name, log)) = &self.0 {
            log.note(format!("{name}.{what}"));
        }
    }
}

pub(crate) fn node(process: impl FnMut(Item) -> Result<Returned, Fault> + Send + 'static) -> TestNode {
    TestNode {
        process: Box::new(process),
        flush: None,
        produce: None,
        failing: Vec::new(),
        actions: Vec::new(),
        name: Name::default(),
    }
}

pub(crate) fn pass() -> TestNode {
    node(|item| Ok(Returned::One(item)))
}

pub(crate) fn add(summand: i64) -> TestNode {
    on_numbers(move |number| Ok(Returned::One(Item::Number(number + summand))))
}

/// Passes on the numbers for which `is_kept` holds.
pub(crate) fn keep(is_kept: fn(i64) -> bool) -> TestNode {
    on_numbers(move |number| Ok(if is_kept(number) { Returned::One(Item::Number(number)) } else { Returned::Nothing }))
}

/// A generator of `outputs_of` each number.
pub(crate) fn spread(outputs_of: fn(i64) -> Vec<i64>) -> TestNode {
    on_numbers(move |number| Ok(Returned::many(&outputs_of(number))))
}

/// Passes items on until this number comes.
pub(crate) fn fail_on(bad: i64) -> TestNode {
    on_numbers(move |number| if number == bad { Err(BAD) } else { Ok(Returned::One(Item::Number(number))) })
}

pub(crate) const BAD: Fault = Fault::Because("bad");

pub(crate) fn source(produce: impl Fn() -> Result<Returned, Fault> + Send + 'static) -> TestNode {
    TestNode { produce: Some(Box::new(move |()| produce())), ..pass() }
}

fn on_numbers(mut process: impl FnMut(i64) -> Result<Returned, Fault> + Send + 'static) -> TestNode {
    node(move |item| match item {
        Item::Number(number) => process(number),
        _ => Err(Fault::Because("no number")),
    })
}

impl TestNode {
    pub(crate) fn named(self, name: &'static str, log: &Log) -> Self {
        Self { name: Name(Some((name, log.clone()))), ..self }
    }

    pub(crate) fn failing(mut self, phase: Phase, fault: Fault) -> Self {
        self.failing.push((phase, fault));
        self
    }

    pub(crate) fn flushing(self, outputs: &'static [i64]) -> Self {
        Self { flush: Some(Box::new(|()| Ok(Returned::many(outputs)))), ..self }
    }

    /// Do this besides, at each call of that phase.
    pub(crate) fn doing(mut self, phase: Phase, action: impl FnMut() + Send + 'static) -> Self {
        self.actions.push((phase, Box::new(action)));
        self
    }

    fn enter(&mut self, phase: Phase, what: impl fmt::Display) -> Result<(), Fault> {
        self.name.note(what);
        self.actions.iter_mut().filter(|(of, _)| *of == phase).for_each(|(_, action)| action());
        self.failing.iter().find(|(failing, _)| *failing == phase).map_or(Ok(()), |(_, fault)| Err(*fault))
    }

    fn outputs(&self, result: Returned) -> Outputs<Item> {
        match result {
            Returned::Nothing => Outputs::None,
            Returned::One(item) => Outputs::One(item),
            Returned::Many(outputs) => self.generator(outputs, Ok(())),
            Returned::Unclosable(outputs) => self.generator(outputs, Err(BAD)),
        }
    }

    fn generator(
        &self,
        outputs: Box<dyn Iterator<Item = Result<Item, Fault>> + Send>,
        closed: Result<(), Fault>,
    ) -> Outputs<Item> {
        Outputs::Many(Box::new(Generator { outputs, closed, name: self.name.clone() }))
    }
}

impl Node<Item> for TestNode {
    fn initialize(&mut self) -> Result<(), Fault> {
        self.enter(Phase::Initialize, "initialize")
    }

    fn process(&mut self, item: Item) -> Result<Outputs<Item>, Fault> {
        self.enter(Phase::Process, format_args!("process({item})"))?;
        (self.process)(item).map(|result| self.outputs(result))
    }

    fn flush(&mut self) -> Result<Outputs<Item>, Fault> {
        self.enter(Phase::Flush, "flush")?;
        let result = self.flush.as_mut().map_or(Ok(Returned::Nothing), |flush| flush(()))?;
        Ok(self.outputs(result))
    }

    fn interrupt(&mut self) -> Result<(), Fault> {
        self.name.note("interrupt");
        Ok(())
    }

    fn cleanup(&mut self) -> Result<(), Fault> {
        self.enter(Phase::Cleanup, "cleanup")
    }

    fn as_source(&mut self) -> Option<&mut dyn Source<Item>> {
        if self.produce.is_some() { Some(self) } else { None }
    }

    fn as_bulk_member(&mut self) -> Option<&mut dyn BulkMember<Item>> {
        Some(self)
    }
}

impl Source<Item> for TestNode {
    fn produce(&mut self) -> Result<Outputs<Item>, Fault> {
        self.enter(Phase::Process, "produce")?;
        let result = self.produce.as_mut().map_or(Ok(Returned::Nothing), |produce| produce(()))?;
        Ok(self.outputs(result))
    }
}

impl BulkMember<Item> for TestNode {
    /// A chunk stands for its items.
    fn interpret(&mut self, result: Item) -> Result<Outputs<Item>, Fault> {
        self.name.note(format_args!("interpret({result})"));
        Ok(match result {
            Item::Chunk(items) => self.outputs(Returned::Many(Box::new(items.into_iter().map(Ok)))),
            item => Outputs::One(item),
        })
    }
}

struct Generator {
    outputs: Box<dyn Iterator<Item = Result<Item, Fault>> + Send>,
    closed: Result<(), Fault>,
    name: Name,
}

impl Stream<Item> for Generator {
    fn next(&mut self) -> Result<Option<Item>, Fault> {
        let next = self.outputs.next().transpose()?;
        self.name.note(next.as_ref().map_or_else(|| "end".to_owned(), |output| format!("yield({output})")));
        Ok(next)
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.name.note("close");
        self.closed
    }
}
