//! Names of requests.

use axum::http::{HeaderMap, HeaderValue};

const REQUEST_ID: &str = "x-request-id";

/// Longer ids are not taken over.
const LONGEST_ID: usize = 128;

/// Names a request in its response, in errors and in logs.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The one that the client has given, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let is_fine =
            |id: &&HeaderValue| (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
        Self(headers.get(REQUEST_ID).filter(is_fine).cloned().unwrap_or_else(|| {
            HeaderValue::from_str(&format!("{:016x}", fastrand::u64(..))).expect("hexadecimal digits are visible")
        }))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn put_into(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.0.clone());
    }
}
