//! The event loop: awaiting from other threads, messages to it, context variables.

pub(crate) mod bridge;
pub(crate) mod context;
pub(crate) mod mailbox;
