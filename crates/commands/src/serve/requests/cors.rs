//! Pages of other sites that may use the service, by the protocol of browsers: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use crate::failure::Failure;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, x-request-id, traceparent, tracestate");
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static("x-request-id, retry-after");

/// For how long a browser need not ask again, in seconds: the longest that Chromium takes.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("7200");

const ANY: &str = "*";

/// The origins that are named.
#[derive(Debug, Default)]
pub(crate) struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Check what the options name. Where requests need no token, `is_guarded` is false.
    pub(crate) fn of(origins: &[String], is_guarded: bool) -> Result<Self, Failure> {
        for origin in origins {
            if origin == ANY && !is_guarded {
                return Err(Failure::usage(
                    "--cors-origin '*' lets every page that is open in a browser here use the pipeline; name origins, or \
                     add --token-file FILE, so that pages need a token, or --insecure",
                ));
            }
            if origin != ANY && !is_origin(origin) {
                return Err(Failure::usage(format!(
                    "--cors-origin '{origin}' is not an origin; write it as browsers send it, without a path or a default \
                     port, such as https://app.example or http://localhost:3000"
                )));
            }
        }
        Ok(Self { origins: origins.to_vec() })
    }

    /// Whether pages of an origin may use the service.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|named| named == ANY || named.as_bytes() == origin.as_bytes())
    }

    /// The response to the question of a browser whether a page may send a request; nothing if this is not one of a page that may.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let is_question = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_question || !self.allows(headers.get(ORIGIN)?) {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let allowed = response.headers_mut();
        allowed.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        allowed.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        allowed.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS);
        Some(response)
    }

    /// Let a page of this origin read a response.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        if self.origins.iter().any(|named| named == ANY) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ANY));
        } else {
            // A cache must not give the response for one origin to another.
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
            let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    }
}

/// Whether a browser could send this: `scheme://host` or `scheme://host:port`, in lower case.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let Ok(parsed) = authority.parse::<Authority>() else { return false };
    let port = authority.strip_prefix(parsed.host()).unwrap_or("?");
    let is_port = port.is_empty() || (parsed.port_u16().is_some() && parsed.port_u16() != default_port);
    is_scheme && is_port && !authority.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_browsers_send_is_an_origin() {
        for origin in ["https://app.example", "http://localhost:3000", "http://[::1]:80a1", "capacitor://localhost"] {
            assert_eq!(is_origin(origin), !origin.contains("80a1"), "{origin}");
        }
        for origin in [
            "app.example",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example:443",
            "http://app.example:80",
            "https://App.example",
            "HTTPS://app.example",
            "https://user@app.example",
            "https://*.app.example",
            "https://",
            "https://a b",
            "https://app.example:",
            "https://app.example:99999",
            "://app.example",
            "null",
            "",
        ] {
            assert_eq!(Cors::of(&[origin.to_owned()], true).is_ok(), origin.contains('*'), "{origin}");
        }
    }

    #[test]
    fn all_origins_need_a_token() {
        let any = ["*".to_owned()];

        assert!(Cors::of(&any, false).unwrap_err().message.contains("--token-file"));
        assert!(Cors::of(&any, true).unwrap().allows(&HeaderValue::from_static("null")));
    }

    #[test]
    fn nothing_is_marked_where_no_origin_is_named() {
        let mut headers = HeaderMap::new();

        Cors::default().mark(Some(&HeaderValue::from_static("https://a.example")), &mut headers);

        assert!(headers.is_empty());
    }
}
