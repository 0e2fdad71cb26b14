//! Python objects as nodes of the runtime: the module `remotemedia._core`, for the wheel and the host alike.
//!
//! This crate decides nothing. It turns Python objects into nodes and items, calls the runtime, and turns the answer back.
//! *Boundary:* only the program that loads it starts an interpreter.

mod answer;
mod attach;
mod bridge;
mod bringing;
mod call;
mod callers;
mod chain;
mod command_line;
mod context;
mod direct_map;
mod failure;
mod feed;
mod graph;
mod hooks;
mod json;
mod loader;
mod log;
mod mailbox;
mod manifest;
mod module;
mod node;
mod object;
mod one_call;
mod opener;
mod output_stream;
mod session;
mod sharing;
mod streaming;
mod values;
mod worker;

pub use call::run_blocking;
pub use command_line::main;
pub use context::CallerContext;
pub use graph::plan_of;
pub use module::_core;
pub use object::Object;
