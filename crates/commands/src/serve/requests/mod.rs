//! What clients ask for, and what they get.

pub(super) mod access;
pub(super) mod audio_query;
pub(super) mod blocking;
pub(super) mod body;
pub(super) mod cors;
pub(super) mod live;
pub(super) mod page;
pub(super) mod reply;
pub(super) mod request_id;
pub(super) mod stream;
