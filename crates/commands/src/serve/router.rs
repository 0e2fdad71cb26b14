//! What each path does.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};

use crate::serve::app::App;
use crate::serve::observing::metrics::MEDIA_TYPE;
use crate::serve::observing::{status, watch};
use crate::serve::requests::audio_query::AudioQuery;
use crate::serve::requests::reply::Problem;
use crate::serve::requests::request_id::RequestId;
use crate::serve::requests::{page, reply, stream};
use crate::serve::websocket;

pub(crate) fn router(app: Arc<App>) -> Router {
    let known = Router::new()
        .route("/", get(page))
        .route("/call", post(call))
        .route("/stream", post(stream))
        .route("/session", get(session))
        .route("/status", get(state))
        .route("/healthz", get(|| async { reply::of_text(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(readiness))
        .route("/openapi.json", get(description))
        .route("/metrics", get(metrics));
    known
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), watch::watch))
        .with_state(app)
}

async fn call(State(app): State<Arc<App>>, Extension(id): Extension<RequestId>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let outputs = app.call(&head, body, &id).await;
    let response = outputs
        .and_then(|outputs| reply::of_outputs(outputs).inspect_err(|problem| app.log.failure(problem.log_entry(&id))));
    response.unwrap_or_else(|problem| problem.response(&id))
}

async fn stream(State(app): State<Arc<App>>, Extension(id): Extension<RequestId>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let begun = app.reserve().and_then(|permit| stream::respond(&app, id.clone(), &head, body, permit));
    begun.unwrap_or_else(|problem| problem.response(&id))
}

async fn session(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let begun = || {
        let layout = AudioQuery::of(&uri)?.layout();
        let upgrade = upgrade.map_err(|_| {
            Problem::new(StatusCode::UPGRADE_REQUIRED, "UpgradeError", "connect with a WebSocket, version 13")
        })?;
        if app.is_draining() {
            return Err(Problem::busy("the service is closing"));
        }
        Ok((layout, upgrade, app.sessions.reserve()?))
    };
    match begun() {
        Ok((layout, upgrade, permit)) => websocket::accept(Arc::clone(&app), id, layout, permit, upgrade),
        Err(problem) => problem.response(&id),
    }
}

async fn state(State(app): State<Arc<App>>) -> Response {
    // It may wait for locks of the sessions.
    let report = tokio::task::spawn_blocking(move || status::report(&app).to_string()).await;
    let mut response = reply::of_bytes(report.unwrap_or_default().into_bytes(), reply::JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn page() -> Response {
    page::response()
}

async fn readiness(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() {
        return reply::of_text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if app.sessions.is_full() {
        return reply::of_text(StatusCode::SERVICE_UNAVAILABLE, "as many sessions are open as may be\n");
    }
    reply::of_text(StatusCode::OK, "ready\n")
}

async fn description(State(app): State<Arc<App>>) -> Response {
    reply::of_bytes(app.description.to_vec(), HeaderValue::from_static("application/json"))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    // It may wait for locks of the sessions.
    let text =
        tokio::task::spawn_blocking(move || app.metrics.text(app.sessions.metrics().as_ref(), &status::fill(&app)));
    reply::of_bytes(text.await.unwrap_or_default(), HeaderValue::from_static(MEDIA_TYPE))
}

async fn wrong_method(Extension(id): Extension<RequestId>, method: Method) -> Response {
    let message = format!("{method} is not possible here; see the header 'Allow'");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodError", message).response(&id)
}

async fn unknown_path(Extension(id): Extension<RequestId>, request: Request) -> Response {
    let message = format!("there is nothing at '{}'; POST /call takes items", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "PathError", message).response(&id)
}
