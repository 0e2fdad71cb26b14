//! Where a node is called.

use std::sync::Arc;

use crate::asyncio::bridge::Bridge;
use crate::node::callers::Place;

/// Where a node is, and where its coroutines run.
pub(crate) struct Site {
    pub(crate) place: Arc<Place>,
    pub(crate) bridge: Arc<Bridge>,
}
