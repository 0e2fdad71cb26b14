//! `GET /`: the page, which is one file without requests of its own but for the paths of the service.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::serve::requests::reply;

const STYLE: &str =
    concat!(include_str!("../page/style.css"), include_str!("../page/graph.css"), include_str!("../page/panels.css"));

/// In the order of their dependence; the last one starts the page.
const SCRIPT: &str = concat!(
    include_str!("../page/elements.js"),
    include_str!("../page/layout.js"),
    include_str!("../page/graph.js"),
    include_str!("../page/status.js"),
    include_str!("../page/json.js"),
    include_str!("../page/audio.js"),
    include_str!("../page/results.js"),
    include_str!("../page/session.js"),
    include_str!("../page/try.js"),
    include_str!("../page/main.js"),
);

static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("../page/index.html")
        .replacen("/*STYLE*/", STYLE, 1)
        .replacen("/*WORKLET*/", include_str!("../page/worklet.js"), 1)
        .replacen("/*SCRIPT*/", SCRIPT, 1)
});

/// Only the page's own style and script run, and they connect only to the service. The code of the audio thread has an address that
/// the script makes (`blob:`).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}' blob:; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::from_str(&policy).expect("a policy is ASCII")
});

pub(crate) fn response() -> Response {
    let mut response = reply::of_bytes(PAGE.clone().into_bytes(), HeaderValue::from_static("text/html; charset=utf-8"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
