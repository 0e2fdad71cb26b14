//! The crate as its users see it.

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
