//! Who may use the service: programs of this machine, or those that have the token, and no page of another site.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq;

use crate::serve::app::App;
use crate::serve::reply::{Problem, RequestId};
use crate::serve::settings::{Settings, is_loopback};

/// Paths for those who have no token: balancers, and the page, which asks for it.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/"];

/// Refuse what may not be asked for; give each response the id of its request.
pub(crate) async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::of(request.headers());
    // Of paths that are not known there may be any number.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let refusal = refusal(&app.settings, request.headers(), OPEN_PATHS.contains(&request.uri().path()));
    let mut response = if let Some(problem) = refusal {
        problem.response(&id)
    } else {
        request.extensions_mut().insert(id.clone());
        next.run(request).await
    };
    id.put_into(response.headers_mut());
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    app.metrics.note(path, response.status().as_u16(), began.elapsed());
    response
}

fn refusal(settings: &Settings, headers: &HeaderMap, is_open: bool) -> Option<Problem> {
    // A name that somebody else lets point to this machine is not ours: a page of theirs would be of our origin.
    if is_loopback(&settings.host) && !header(headers, HOST.as_str()).is_none_or(names_loopback) {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "HostError",
            "the service is only for this machine; use http://127.0.0.1 or http://localhost",
        ));
    }
    if let Some(origin) = header(headers, ORIGIN.as_str())
        && !is_own_origin(origin, header(headers, HOST.as_str()))
    {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "OriginError",
            "pages of other sites may not use the service",
        ));
    }
    let token = settings.token.as_ref().filter(|_| !is_open)?;
    let bearer = || header(headers, AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let is_it = bearer()
        .or_else(|| subprotocol_token(headers))
        .is_some_and(|given| bool::from(given.trim().as_bytes().ct_eq(token)));
    (!is_it)
        .then(|| Problem::new(StatusCode::UNAUTHORIZED, "TokenError", "send the header 'Authorization: Bearer TOKEN'"))
}

/// Browsers cannot set other headers of a WebSocket than this one.
fn subprotocol_token(headers: &HeaderMap) -> Option<&str> {
    let protocols = header(headers, SEC_WEBSOCKET_PROTOCOL.as_str())?;
    protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix("token."))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // One that is not text is not right, either.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn names_loopback(host: &str) -> bool {
    host.parse::<Authority>()
        .is_ok_and(|authority| is_loopback(authority.host().trim_start_matches('[').trim_end_matches(']')))
}

fn is_own_origin(origin: &str, host: Option<&str>) -> bool {
    origin.split_once("://").is_some_and(|(_, origin)| Some(origin) == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, token: Option<&str>) -> Settings {
        Settings {
            host: host.to_owned(),
            token: token.map(|token| token.as_bytes().to_vec()),
            max_in_flight: 1,
            max_sessions: 1,
            max_body: 1,
            request_timeout: std::time::Duration::from_secs(1),
        }
    }

    fn status(settings: &Settings, headers: &[(&'static str, &str)]) -> Option<u16> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        refusal(settings, &headers, false).map(|problem| problem.status().as_u16())
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
    fn a_token_must_be_the_right_one() {
        let guarded = settings("127.0.0.1", Some("secret"));

        assert_eq!(status(&guarded, &[("authorization", "Bearer secret")]), None);
        for authorization in ["Bearer secre", "Bearer secret2", "secret", "Basic secret", "Bearer "] {
            assert_eq!(status(&guarded, &[("authorization", authorization)]), Some(401), "{authorization}");
        }
        assert_eq!(status(&guarded, &[]), Some(401));
    }
}
