//! What the commands need from a loader of pipelines.
//!
//! A [`Loader`] turns the TARGET of a command line into a [`LoadedPipeline`]. The commands feed it through an [`ItemFeed`] and
//! learn of everything that goes wrong as a [`Failure`], which knows its exit code.

use std::sync::Arc;
use std::time::Duration;

use remotemedia_runtime::{Metrics, Plan, Value};
use serde::Serialize;

use crate::failure::Failure;
use crate::service::{Service, ServiceMaker};

/// Finds pipelines and nodes by name.
pub trait Loader: Sync {
    /// The pipeline that TARGET names: `module:attr`, `path/file.py:attr` or a manifest file. No node is initialized.
    fn load(&self, target: &str) -> Result<Box<dyn LoadedPipeline + '_>, Failure>;

    /// Every node of the registry, sorted by name.
    fn nodes(&self) -> Result<Vec<NodeDoc>, Failure>;

    /// What the environment is made of, and what is wrong with it, in the order in which it is to be shown.
    fn findings(&self) -> Result<Vec<Finding>, Failure>;

    /// Called on the thread of [`LoadedPipeline::run`], from within its `output`, when a signal came while writing.
    ///
    /// A failure ends the run as a failure of `output` does; after `Ok` the writing goes on.
    fn check_signals(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A pipeline that is checked and ready to run.
pub trait LoadedPipeline {
    /// How its nodes are arranged.
    fn plan(&self) -> &Plan;

    /// What `check` prints about it besides the plan.
    fn remarks(&self) -> Vec<Remark>;

    /// What its metrics, as the text of a JSON object, say about the options of its nodes: a sentence for each.
    ///
    /// It fails if they are not metrics of this pipeline.
    fn advice(&self, metrics: &str) -> Result<Vec<String>, Failure>;

    /// What is known of the types of its items and outputs, as JSON for the description of the service.
    fn item_schemas(&self) -> Option<String> {
        None
    }

    /// Run it once: initialize, take every item of `feed` through, flush, clean up.
    ///
    /// Without a feed it runs as `execute_pipeline` does: a source makes the items, or one empty item goes in. A failure of
    /// `output` ends the run: the nodes are cleaned up and that failure is returned, unless cleaning up fails worse. It may wait
    /// for a slow reader, so that it is called without whatever lock the nodes need.
    fn run(
        &mut self,
        feed: Option<&mut dyn ItemFeed>,
        output: &mut (dyn FnMut(Value) -> Result<(), Failure> + Send),
        settings: RunSettings,
    ) -> RunResult;

    /// Initialize the nodes, for items that come at any time. Each step of a node at the item of a call is reported if the service
    /// `observes_steps`, which makes all of them slower.
    ///
    /// It fails if a node does, or if the first node is a source, which takes no items.
    fn open(&mut self, _observes_steps: bool) -> Result<Arc<dyn Service>, Failure> {
        Err(Failure::failed("this program cannot serve pipelines"))
    }

    /// Makes more services of this pipeline.
    fn service_maker(&self) -> Result<Arc<dyn ServiceMaker>, Failure> {
        Err(Failure::failed("this program cannot serve pipelines"))
    }
}

/// What a run is asked for besides its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// Collect [`Metrics`].
    pub with_metrics: bool,
    /// The run fails with the error of the item after as many that failed and were skipped or dead-lettered.
    pub max_errors: Option<u64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunResult {
    /// What was measured, if it was asked for, or why the run failed.
    pub outcome: Result<Option<Metrics>, Failure>,
    /// The items that failed without ending the run, also of a run that failed later.
    pub failed_items: FailedItems,
}

/// Items that failed without ending their run, because a node has `on_error` or `dead_letter`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedItems {
    /// How many were dropped.
    pub skipped: u64,
    /// How many were handed to a dead letter function.
    pub dead_lettered: u64,
    /// The error of the first one. There is one as soon as either count is above zero.
    pub first_error: Option<Failure>,
}

impl From<Result<Option<Metrics>, Failure>> for RunResult {
    fn from(outcome: Result<Option<Metrics>, Failure>) -> Self {
        Self { outcome, failed_items: FailedItems::default() }
    }
}

/// Where the input items of a run come from.
pub trait ItemFeed: Send {
    /// The next item, waiting for it no longer than `timeout`.
    ///
    /// A caller that must stay responsive passes a short timeout and calls again after [`Next::Waiting`]. After
    /// [`Next::End`] or [`Next::Broken`] it does not call again.
    fn next(&mut self, timeout: Duration) -> Next;

    /// The first `count` items that were given are done: all that comes of them has been put out.
    ///
    /// Called from time to time, for progress displays.
    fn note_done(&mut self, count: u64) {
        let _ = count;
    }
}

/// What an [`ItemFeed`] returns.
#[derive(Debug)]
pub enum Next {
    /// One item.
    Item(Value),
    /// No item yet; more may come.
    Waiting,
    /// No item will come any more.
    End,
    /// The input is unreadable from here on.
    Broken(Failure),
}

/// One thing that `check` prints about a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether it must be mended before the pipeline can run as described.
    pub is_problem: bool,
    /// One sentence that names the node, if it is about one.
    pub text: String,
}

impl Remark {
    /// Something that must be mended.
    pub fn problem(text: impl Into<String>) -> Self {
        Self { is_problem: true, text: text.into() }
    }

    /// Something worth knowing.
    pub fn note(text: impl Into<String>) -> Self {
        Self { is_problem: false, text: text.into() }
    }
}

/// What the registry knows about one kind of node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeDoc {
    /// The name of its class.
    pub name: String,
    /// Other names that manifests may use.
    pub aliases: Vec<String>,
    /// Its docstring, without common indentation.
    pub doc: String,
    /// The parameters of its constructor, in order.
    pub parameters: Vec<ParameterDoc>,
}

/// One parameter of a node's constructor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParameterDoc {
    /// Its name.
    pub name: String,
    /// Its default as it would be written in code; none if it must be given.
    pub default: Option<String>,
    /// Its type as it is written in code.
    pub annotation: Option<String>,
    /// What it does.
    pub doc: String,
}

/// One line of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `Python`, `Virtual environment`, `Extension`.
    pub label: String,
    /// What was found, or what is wrong and what to do.
    pub text: String,
    /// What it means for the user.
    pub kind: FindingKind,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// As it should be.
    Fact,
    /// Worth knowing, and nothing wrong: something optional is not there.
    Note,
    /// Wrong.
    Problem,
}
