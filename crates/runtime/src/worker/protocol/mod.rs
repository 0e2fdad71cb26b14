//! What both sides of a worker share: frames, messages, shared memory.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod parts;
pub(crate) mod poll;
pub(crate) mod read_buffer;
pub(crate) mod segment;
pub(crate) mod shared_memory;
pub(crate) mod status_page;
pub(crate) mod timings;
pub(crate) mod view;
pub(crate) mod write_queue;
