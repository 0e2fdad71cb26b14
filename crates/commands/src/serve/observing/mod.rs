//! What those who operate the service see: metrics, status and logs.

pub(super) mod errors;
pub(super) mod log;
pub(super) mod log_line;
pub(super) mod metrics;
pub(super) mod status;
pub(super) mod watch;
