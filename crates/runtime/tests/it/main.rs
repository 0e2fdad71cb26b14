//! The crate as its users see it.

mod engine;
mod graphs;
mod lifecycle;
mod manifest;
mod native;
mod observed;
mod session;
mod support;
