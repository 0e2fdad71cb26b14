//! The data structures between threads. Neither threads nor nodes are in them; `loom` checks their schedules.

pub(crate) mod admission;
pub(crate) mod clients;
pub(crate) mod in_flight;
pub(crate) mod inbox;
pub(crate) mod joiner;
pub(crate) mod locks;
#[cfg(all(loom, test))]
mod loom;
pub(crate) mod outbox;
pub(crate) mod reorder;
