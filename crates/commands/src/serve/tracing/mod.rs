//! Spans of requests and nodes, for OpenTelemetry collectors.

pub(super) mod call_trace;
pub(super) mod otlp;
pub(super) mod span;
pub(super) mod trace_context;
