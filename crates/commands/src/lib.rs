//! The command line of RemoteMedia: what a program does with a pipeline, given a loader.
//!
//! Reads items from files and pipes, writes outputs, draws plans and prints what is known. It knows nothing of Python: pipelines
//! come from a [`Loader`], and items are [`Value`](remotemedia_runtime::Value)s.

#![allow(clippy::format_push_string, reason = "appending cannot fail, and `let _ = write!(…)` looks as if it could")]

mod check;
mod cli;
mod descriptor;
mod doctor;
mod draw;
mod entry;
mod failed_items;
mod failure;
mod graph;
mod input;
mod loader;
mod metrics_table;
mod nodes;
mod output;
mod progress;
mod run;
mod sample_format;
mod serve;
mod serve_options;
mod service;
mod table;
mod terminal;
mod wav_tags;

pub use cli::{HOST_PROGRAM, HostOptions};
pub use draw::{GraphFormat, draw};
pub use entry::{host_options, main};
pub use failure::{Cause, Failure, FailureKind};
pub use loader::{
    FailedItems, Finding, FindingKind, ItemFeed, LoadedPipeline, Loader, Next, NodeDoc, ParameterDoc, Remark,
    RunResult, RunSettings,
};
pub use serve::{ServeHost, serve_pipeline};
pub use service::{
    Admitted, CallError, CallErrorKind, CallId, ItemStream, OnStep, Reply, Service, ServiceMaker, StreamNext,
};
