//! Running a pipeline on one thread: the machine that takes items through nodes, and what it measures.

pub(crate) mod call_times;
pub(crate) mod machine;
pub(crate) mod measurement;
pub(crate) mod metrics;
pub(crate) mod pace;
pub(crate) mod progress;
pub(crate) mod runner;
