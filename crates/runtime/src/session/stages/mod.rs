//! What the threads of a session do: one stage after another, in order or in parallel.

pub(crate) mod batches;
pub(crate) mod concurrent;
mod envelopes;
pub(crate) mod group;
pub(crate) mod paused;
pub(crate) mod replicas;
mod router;
pub(crate) mod shared;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod tasks;
pub(crate) mod threads;
pub(crate) mod work;
