//! Sessions: items in from any thread, to each client its own outputs, bounded queues, and a good end in every state.

mod batches;
mod clients;
mod concurrent;
mod errors;
mod interrupt;
mod order;
mod queues;
