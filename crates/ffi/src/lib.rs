//! Python objects as nodes of the runtime: the module `remotemedia._core`, for the wheel and the host alike.
//!
//! This crate decides nothing. It turns Python objects into nodes and items, calls the runtime, and converts the result.
//! *Boundary:* only the program that loads it starts an interpreter.

mod asyncio;
mod attach;
mod command_failure;
mod command_line;
mod convert;
mod graph;
mod hooks;
mod loader;
mod module;
mod node;
mod run;
mod service;
mod serving;
mod session;
mod threaded_run;
mod worker;

pub use asyncio::context::CallerContext;
pub use command_line::main;
pub use convert::object::Object;
pub use graph::plan_of;
pub use module::_core;
pub use run::run_blocking;
