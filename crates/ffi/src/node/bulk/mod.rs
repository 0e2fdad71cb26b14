//! Nodes that are called together: compiled into one Python function or coroutine, which takes many items or one.

pub(crate) mod chain;
pub(crate) mod chunk_items;
pub(super) mod compiled_stage;
pub(crate) mod coroutine_chain;
mod crossing;
pub(crate) mod current_chunk;
pub(super) mod fused_coroutines;
mod shape;
mod timing;
