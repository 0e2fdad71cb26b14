//! Loads the user's pipelines by name, and runs them on Python's main thread for the commands.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_commands::{
    FailedItems, Failure, Finding, FindingKind, ItemFeed, LoadedPipeline, Loader, Next, NodeDoc, ParameterDoc, Remark,
    RunResult, RunSettings, Service, ServiceMaker,
};
use remotemedia_runtime::{ErrorBudget, Fed, Feed, Items, Metrics, NodeFailure, Plan, Sink, Value};

use crate::attach::{attach, detach};
use crate::command_failure::{attached, failure_of};
use crate::convert::items::{ItemReader, mismatch};
use crate::convert::object::Object;
use crate::convert::{failure, values};
use crate::run::Counting;
use crate::service::{PyServiceMaker, ServiceUse};
use crate::{graph, run};

/// How long Ctrl-C may go unnoticed while there is no input.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

const MADE_BY_SOURCE: &str = "the first node of the pipeline is a source, which produces the input; remove --input";

pyo3::import_exception!(remotemedia._cli.errors, StreamBrokenError);

/// The [`Loader`] of Python pipelines. Its methods are called on Python's main thread, detached.
pub(crate) struct PyLoader;

impl Loader for PyLoader {
    fn load(&self, target: &str) -> Result<Box<dyn LoadedPipeline + '_>, Failure> {
        attached(|py| {
            let graph = py.import("remotemedia._cli.loading")?.call_method1("load", (target,))?;
            Ok(Box::new(PyPipeline::of(&graph, None)?) as Box<dyn LoadedPipeline>)
        })
    }

    fn nodes(&self) -> Result<Vec<NodeDoc>, Failure> {
        attached(|py| {
            let docs = py.import("remotemedia._cli.node_docs")?.call_method0("node_docs")?;
            docs.try_iter()?.map(|doc| node_doc(&doc?)).collect()
        })
    }

    fn findings(&self) -> Result<Vec<Finding>, Failure> {
        attached(|py| {
            let findings = py.import("remotemedia._cli.doctor")?.call_method0("findings")?;
            let finding = |finding: PyResult<Bound<'_, PyAny>>| {
                let finding = finding?;
                let kind = match finding.getattr("kind")?.extract::<String>()?.as_str() {
                    "problem" => FindingKind::Problem,
                    "note" => FindingKind::Note,
                    _ => FindingKind::Fact,
                };
                Ok(Finding {
                    label: finding.getattr("label")?.extract()?,
                    text: finding.getattr("text")?.extract()?,
                    kind,
                })
            };
            findings.try_iter()?.map(finding).collect()
        })
    }

    #[allow(clippy::redundant_closure_for_method_calls, reason = "the method alone is for one lifetime, not for any")]
    fn check_signals(&self) -> Result<(), Failure> {
        attached(|py| py.check_signals())
    }
}

fn node_doc(doc: &Bound<'_, PyAny>) -> PyResult<NodeDoc> {
    let parameter = |parameter: PyResult<Bound<'_, PyAny>>| {
        let (name, default, annotation, doc) = parameter?.extract()?;
        Ok(ParameterDoc { name, default, annotation, doc })
    };
    Ok(NodeDoc {
        name: doc.getattr("name")?.extract()?,
        aliases: doc.getattr("aliases")?.extract()?,
        doc: doc.getattr("doc")?.extract()?,
        parameters: doc.getattr("parameters")?.try_iter()?.map(parameter).collect::<PyResult<_>>()?,
    })
}

/// A checked graph of the user's objects.
pub(crate) struct PyPipeline {
    graph: Py<PyAny>,
    plan: Arc<Plan>,
    /// Makes the openers of services; without it, they have event loops of their own.
    new_opener: Option<Py<PyAny>>,
}

impl LoadedPipeline for PyPipeline {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn remarks(&self) -> Vec<Remark> {
        let remarks = attached(|py| {
            let remarks = py.import("remotemedia._cli.checks")?.call_method1("remarks", (self.graph.bind(py),))?;
            remarks.extract::<Vec<(bool, String)>>()
        });
        match remarks {
            Ok(remarks) => remarks.into_iter().map(|(is_problem, text)| Remark { is_problem, text }).collect(),
            Err(failure) => vec![Remark::problem(failure.message)],
        }
    }

    fn advice(&self, metrics: &str) -> Result<Vec<String>, Failure> {
        attached(|py| {
            let advice = py.import("remotemedia._cli.checks")?.getattr("advice")?;
            advice.call1((self.graph.bind(py), metrics))?.extract()
        })
    }

    fn item_schemas(&self) -> Option<String> {
        let schemas = attached(|py| {
            py.import("remotemedia._cli.items.schemas")?.call_method1("item_schemas", (self.graph.bind(py),))?.extract()
        });
        // A description that says less is better than no service.
        schemas.ok()
    }

    fn run(
        &mut self,
        feed: Option<&mut dyn ItemFeed>,
        output: &mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
        settings: RunSettings,
    ) -> RunResult {
        let budget = Arc::new(ErrorBudget::new(settings.max_errors));
        let counting = Counting { with_metrics: settings.with_metrics, budget: Some(Arc::clone(&budget)) };
        let outcome = self.run_counting(feed, output, &counting);
        RunResult { outcome, failed_items: failed_items(&budget) }
    }

    fn open(&mut self, observes_steps: bool) -> Result<Arc<dyn Service>, Failure> {
        attached(|py| self.maker(py)?.open(py, ServiceUse { is_shared: true, observes_steps }))
    }

    fn service_maker(&self) -> Result<Arc<dyn ServiceMaker>, Failure> {
        attached(|py| Ok(Arc::new(self.maker(py)?) as Arc<dyn ServiceMaker>))
    }
}

impl PyPipeline {
    pub(crate) fn of(graph: &Bound<'_, PyAny>, new_opener: Option<Py<PyAny>>) -> PyResult<Self> {
        Ok(Self { graph: graph.clone().unbind(), plan: Arc::new(graph::plan_of(graph)?), new_opener })
    }

    fn maker(&self, py: Python<'_>) -> PyResult<PyServiceMaker> {
        PyServiceMaker::of(py, self.graph.bind(py), self.new_opener.as_ref().map(|new| new.clone_ref(py)))
    }

    fn run_counting(
        &self,
        feed: Option<&mut dyn ItemFeed>,
        output: &mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
        counting: &Counting,
    ) -> Result<Option<Metrics>, Failure> {
        let broken = Cell::new(None);
        attach(|py| {
            let graph = py
                .import("remotemedia._graph.factories")
                .and_then(|factories| factories.call_method1("with_nodes", (self.graph.bind(py),)));
            let graph = &graph.map_err(|error| failure_of(py, error))?;
            let mut sink = OutputSink { output, broken: &broken };
            let has_source = || Ok(!graph.getattr("source")?.is_none());
            let mut feed: Box<dyn Feed<Object> + '_> = match feed {
                Some(_) if has_source().map_err(|error| failure_of(py, error))? => {
                    return Err(Failure::usage(MADE_BY_SOURCE));
                }
                Some(feed) => {
                    let reader = ItemReader::of(graph).map_err(|error| failure_of(py, error))?;
                    Box::new(InputFeed { feed, reader, given: 0, after: None, broken: &broken })
                }
                None => Box::new(Items(own_input(graph).map_err(|error| failure_of(py, error))?.into_iter())),
            };
            run::run_counting(graph, &self.plan, &mut *feed, &mut sink, counting).map_err(|error| {
                match broken.take() {
                    // Only a failing cleanup is more than the failure of the input or of the output that it came after.
                    Some(failure) if error.is_instance_of::<StreamBrokenError>(py) => failure,
                    _ => failure_of(py, error),
                }
            })
        })
    }
}

fn failed_items(budget: &ErrorBudget<Object>) -> FailedItems {
    let first_error = budget.first().map(|NodeFailure { node_id, item_index, phase, fault }| {
        attach(|py| {
            let (node_id, fault) = (node_id.clone(), fault.clone_ref(py));
            let first = NodeFailure { node_id, item_index: *item_index, phase: *phase, fault };
            failure_of(py, failure::node_error(py, first))
        })
    });
    FailedItems { skipped: budget.skipped(), dead_lettered: budget.dead_lettered(), first_error }
}

/// What goes in where nothing is given, as in `execute_pipeline`: nothing for a source, else one empty item.
fn own_input(graph: &Bound<'_, PyAny>) -> PyResult<Option<Object>> {
    if !graph.getattr("source")?.is_none() {
        return Ok(None);
    }
    let empty = graph.py().import("remotemedia._graph.default_item")?.call_method1("empty_item", (graph,))?;
    Ok(Some(Object(empty.unbind())))
}

/// The command's input, as Python objects.
struct InputFeed<'a> {
    feed: &'a mut dyn ItemFeed,
    reader: ItemReader,
    /// How many items it has given.
    given: u64,
    /// How it went on after the items that were given at once.
    after: Option<After>,
    /// Where a failure that is the command's own waits until the run is over.
    broken: &'a Cell<Option<Failure>>,
}

/// What came after some items.
enum After {
    End,
    Failure(PyErr),
}

impl InputFeed<'_> {
    fn give(&mut self, py: Python<'_>, value: &Value) -> PyResult<Object> {
        self.given += 1;
        let given = self.reader.read(py, value);
        given.map(|item| Object(item.unbind())).map_err(|error| {
            let what = mismatch(py, &error)
                .map_or_else(|| format!(" cannot be converted: {error}"), |what| format!(": {what}"));
            let failure = Failure::failed(format!("input item {}{what}", self.given - 1));
            store_failure(self.broken, failure)
        })
    }

    /// Add the items to a list that are there already. Returns what comes after them, if that is known.
    fn take_ready(&mut self, items: &Bound<'_, PyList>, limit: usize) -> Option<After> {
        let py = items.py();
        if let Err(interrupt) = py.check_signals() {
            return Some(After::Failure(interrupt));
        }
        while items.len() < limit {
            let added = match self.feed.next(Duration::ZERO) {
                Next::Item(value) => self.give(py, &value).and_then(|item| items.append(item.0)),
                Next::End => return Some(After::End),
                Next::Waiting => break,
                Next::Broken(failure) => Err(store_failure(self.broken, failure)),
            };
            if let Err(error) = added {
                return Some(After::Failure(error));
            }
        }
        None
    }
}

impl Feed<Object> for InputFeed<'_> {
    fn next(&mut self) -> PyResult<Option<Object>> {
        // Items go through one by one: a request for the next one means that those before are done.
        self.feed.note_done(self.given);
        match self.after.take() {
            None => {}
            Some(After::End) => return Ok(None),
            Some(After::Failure(error)) => return Err(error),
        }
        attach(|py| {
            // What is there already needs no release of the interpreter.
            let mut next = self.feed.next(Duration::ZERO);
            // Endless input may go through nodes without a line of Python.
            py.check_signals()?;
            loop {
                match next {
                    Next::Item(value) => return self.give(py, &value).map(Some),
                    Next::End => return Ok(None),
                    Next::Waiting => {}
                    Next::Broken(failure) => return Err(store_failure(self.broken, failure)),
                }
                py.check_signals()?;
                let feed = &mut *self.feed;
                next = detach(py, || feed.next(SIGNAL_POLL_INTERVAL));
            }
        })
    }

    fn next_ready(&mut self, limit: usize) -> Option<PyResult<Object>> {
        self.feed.note_done(self.given);
        attach(|py| {
            let items = PyList::empty(py);
            let after = self.after.take().or_else(|| self.take_ready(&items, limit));
            match after {
                Some(After::Failure(error)) if items.is_empty() => return Some(Err(error)),
                None if items.is_empty() => return None,
                after => self.after = after,
            }
            Some(Ok(Object(items.into_any().unbind())))
        })
    }

    fn next_within(&mut self, timeout: Duration) -> PyResult<Fed<Object>> {
        attach(|py| {
            let feed = &mut *self.feed;
            match detach(py, || feed.next(timeout)) {
                Next::Item(value) => self.give(py, &value).map(Fed::Item),
                Next::End => Ok(Fed::End),
                Next::Waiting => py.check_signals().map(|()| Fed::Nothing),
                Next::Broken(failure) => Err(store_failure(self.broken, failure)),
            }
        })
    }

    fn shows_progress(&self) -> bool {
        true
    }

    fn note_done(&mut self, count: u64) {
        self.feed.note_done(count);
    }
}

/// The command's output, fed with Python objects.
struct OutputSink<'a> {
    output: &'a mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
    broken: &'a Cell<Option<Failure>>,
}

impl Sink<Object> for OutputSink<'_> {
    fn accept(&mut self, output: Object) -> PyResult<()> {
        attach(|py| {
            let value = values::from_python(output.0.bind(py))?;
            // Writing may wait for a slow reader.
            let output = &mut *self.output;
            detach(py, || output(value)).map_err(|failure| store_failure(self.broken, failure))
        })
    }
}

/// Keep the failure until the run is over, and return the exception that stops the run.
fn store_failure(place: &Cell<Option<Failure>>, failure: Failure) -> PyErr {
    let error = StreamBrokenError::new_err(failure.message.clone());
    place.set(Some(failure));
    error
}
