//! Who may use the service: programs of this machine, or those that have the token, and no page of another site.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::serve::requests::reply::Problem;
use crate::serve::settings::{Settings, is_loopback};

/// Paths for those who have no token: balancers, and the page, which asks for it.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/"];

/// Why a request is refused, if it is. A preflight has no token.
pub(crate) fn refusal(settings: &Settings, headers: &HeaderMap, path: &str, is_preflight: bool) -> Option<Problem> {
    // A name that somebody else lets point to this machine is not ours: a page of theirs would be of our origin.
    if is_loopback(&settings.host) && !header(headers, HOST.as_str()).is_none_or(names_loopback) {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "HostError",
            "the service is only for this machine; use http://127.0.0.1 or http://localhost",
        ));
    }
    if let Some(origin) = headers.get(ORIGIN)
        && !settings.cors.allows(origin)
        && !is_own_origin(origin.to_str().unwrap_or("?"), header(headers, HOST.as_str()), settings.tls.is_some())
    {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "OriginError",
            "pages of other sites may not use the service; --cors-origin names those that may",
        ));
    }
    let is_open = is_preflight || OPEN_PATHS.contains(&path);
    let token = settings.token.as_ref().filter(|_| !is_open)?;
    let bearer = || header(headers, AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let is_it = bearer().or_else(|| subprotocol_token(headers)).is_some_and(|given| is_token(given, token));
    (!is_it)
        .then(|| Problem::new(StatusCode::UNAUTHORIZED, "TokenError", "send the header 'Authorization: Bearer TOKEN'"))
}

/// Browsers cannot set other headers of a WebSocket than this one.
fn subprotocol_token(headers: &HeaderMap) -> Option<&str> {
    let protocols = header(headers, SEC_WEBSOCKET_PROTOCOL.as_str())?;
    protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix("token."))
}

/// Whether this is the token. In the name of a subprotocol, characters that it cannot have are percent-encoded.
fn is_token(given: &str, token: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_decode_str(given).collect();
    bool::from(given.trim().as_bytes().ct_eq(token) | decoded.ct_eq(token))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // One that is not text is not right, either.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn names_loopback(host: &str) -> bool {
    host.parse::<Authority>()
        .is_ok_and(|authority| is_loopback(authority.host().trim_start_matches('[').trim_end_matches(']')))
}

/// Over TLS, a page that came without it is another site: anyone on the way could have written it. Without TLS, the page may have come
/// over TLS all the same, through a proxy.
fn is_own_origin(origin: &str, host: Option<&str>, is_tls: bool) -> bool {
    let (Some((scheme, authority)), Some(host)) = (origin.split_once("://"), host) else { return false };
    let default_port = match scheme {
        "https" => ":443",
        "http" if !is_tls => ":80",
        _ => return false,
    };
    // Browsers leave the default port out, in both.
    authority.eq_ignore_ascii_case(host.strip_suffix(default_port).unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::requests::cors::Cors;

    fn settings(host: &str, token: Option<&str>) -> Settings {
        Settings {
            host: host.to_owned(),
            token: token.map(|token| token.as_bytes().to_vec()),
            tls: None,
            cors: Cors::default(),
            collector: None,
            max_in_flight: 1,
            max_sessions: 1,
            max_body: 1,
            request_timeout: std::time::Duration::from_secs(1),
        }
    }

    fn status(settings: &Settings, headers: &[(&'static str, &str)]) -> Option<u16> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        refusal(settings, &headers, "/call", false).map(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_loopback_service_is_known_only_by_names_of_loopback() {
        let local = settings("127.0.0.1", None);

        for host in ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.1.2.3"] {
            assert_eq!(status(&local, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", ""] {
            assert_eq!(status(&local, &[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(
            status(&settings("0.0.0.0", Some("t")), &[("host", "a.example"), ("authorization", "Bearer t")]),
            None
        );
    }

    #[test]
    fn a_page_elsewhere_is_refused() {
        let local = settings("127.0.0.1", None);
        let with_origin = |origin| status(&local, &[("host", "localhost:8000"), ("origin", origin)]);

        assert_eq!(with_origin("http://localhost:8000"), None);
        for origin in ["http://localhost:8001", "https://evil.example", "null"] {
            assert_eq!(with_origin(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn the_origin_has_the_scheme_of_the_service() {
        for (origin, host, with_tls, without) in [
            ("https://a.example", "a.example", true, true),
            ("https://a.example", "a.example:443", true, true),
            ("https://a.example:8443", "a.example:8443", true, true),
            ("http://a.example", "a.example", false, true),
            ("http://a.example", "a.example:80", false, true),
            ("http://a.example", "a.example:443", false, false),
            ("https://a.example", "a.example:8443", false, false),
            ("ftp://a.example", "a.example", false, false),
            ("a.example", "a.example", false, false),
        ] {
            let found = [true, false].map(|is_tls| is_own_origin(origin, Some(host), is_tls));
            assert_eq!(found, [with_tls, without], "{origin} {host}");
        }
        assert!(!is_own_origin("http://a.example", None, false));
    }

    #[test]
    fn a_token_must_be_the_right_one() {
        let guarded = settings("127.0.0.1", Some("secret"));

        assert_eq!(status(&guarded, &[("authorization", "Bearer secret")]), None);
        for authorization in ["Bearer secre", "Bearer secret2", "secret", "Basic secret", "Bearer "] {
            assert_eq!(status(&guarded, &[("authorization", authorization)]), Some(401), "{authorization}");
        }
        assert_eq!(status(&guarded, &[]), Some(401));
    }
}
