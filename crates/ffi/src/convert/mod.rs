//! Python values, items, errors and log lines, from and to those of the runtime.

pub(crate) mod failure;
pub(crate) mod feed;
pub(crate) mod items;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod object;
pub(crate) mod options;
pub(crate) mod values;
