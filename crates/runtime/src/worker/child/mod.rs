//! The side of the worker process.

pub(crate) mod control;
pub(crate) mod in_flight;
pub(crate) mod late_results;
pub(crate) mod replies;
pub(crate) mod serve;
pub(crate) mod worker_host;
pub(crate) mod worker_loop;
