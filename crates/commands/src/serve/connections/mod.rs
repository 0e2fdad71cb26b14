//! Connections: how they are accepted, secured and limited.

pub(super) mod body_rate;
pub(super) mod certificate_dates;
pub(super) mod connection;
pub(super) mod descriptors;
pub(super) mod listener;
pub(super) mod tls;
