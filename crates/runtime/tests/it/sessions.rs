//! Sessions: items in from any thread, to each client its own outputs, bounded queues, and a good end in every state.

mod affinity;
mod batches;
mod clients;
mod close;
mod concurrent;
mod direct;
mod errors;
mod graphs;
mod interrupt;
mod order;
mod queues;
mod reports;
mod sources;
mod threads;
