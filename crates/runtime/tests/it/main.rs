//! The crate as its users see it.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it should be")]
#![allow(clippy::disallowed_methods, reason = "a test fails where no thread can be started")]

mod chunks;
mod engine;
mod generated;
mod graphs;
mod lifecycle;
mod manifest;
mod native;
mod observed;
mod sessions;
mod support;
mod workers;
