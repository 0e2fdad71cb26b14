//! The machine that takes items through the nodes of a stage on one thread, and what it measures.

pub(crate) mod call_times;
pub(crate) mod machine;
pub(crate) mod measurement;
pub(crate) mod metrics;
mod metrics_sum;
pub(crate) mod progress;
