//! Python objects as nodes: their methods, outputs and generators, and their locks.

pub(crate) mod bulk;
pub(crate) mod callers;
mod concurrent;
pub(crate) mod lock;
pub(crate) mod loop_metrics;
pub(crate) mod loop_stage;
pub(crate) mod methods;
pub(crate) mod outputs;
pub(crate) mod python_node;
pub(crate) mod site;
pub(crate) mod streaming;
pub(crate) mod waits;
