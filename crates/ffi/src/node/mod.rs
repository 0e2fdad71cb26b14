//! Python objects as nodes: their methods, outputs and generators, and their locks.

pub(crate) mod callers;
pub(crate) mod chain;
pub(crate) mod chunk_items;
mod concurrent;
pub(crate) mod coroutine_chain;
mod crossing;
mod fused_coroutines;
pub(crate) mod lock;
pub(crate) mod loop_metrics;
pub(crate) mod loop_stage;
pub(crate) mod methods;
pub(crate) mod outputs;
pub(crate) mod python_node;
pub(crate) mod shape;
pub(crate) mod site;
pub(crate) mod streaming;
pub(crate) mod timing;
pub(crate) mod waits;
