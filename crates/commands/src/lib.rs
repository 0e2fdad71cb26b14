//! The command line of RemoteMedia: what a program does with a pipeline once somebody can load it.
//!
//! Reads items from files and pipes, writes outputs, draws plans and prints what is known. It knows nothing of Python: pipelines
//! come from a [`Loader`], and items are [`Value`](remotemedia_runtime::Value)s.

mod loader;

pub use loader::{
    Failure, FailureKind, Finding, ItemFeed, LoadedPipeline, Loader, Next, NodeDoc, ParameterDoc, Remark,
};
