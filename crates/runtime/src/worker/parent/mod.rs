//! The side of the session: starts workers, sends them items, and replaces those that die.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod counters;
pub(crate) mod direct_call;
pub(crate) mod jobs;
pub(crate) mod monitor;
pub(crate) mod output_channel;
pub(crate) mod process;
pub(crate) mod redelivery;
pub(crate) mod remote_node;
pub(crate) mod responses;
pub(crate) mod snapshots;
pub(crate) mod supervisor;
pub(crate) mod worker_exit;
