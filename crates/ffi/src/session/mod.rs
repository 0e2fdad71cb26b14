//! Open pipelines for Python: calls, streams and puts.

pub(crate) mod call;
pub(crate) mod calling;
pub(crate) mod core;
pub(crate) mod direct_map;
pub(crate) mod opener;
pub(crate) mod put_inline;
pub(crate) mod steps;
pub(crate) mod stream;
pub(crate) mod stream_feed;
