//! What each path does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus::IntGauge;
use remotemedia_runtime::Value;
use tokio::sync::{Semaphore, oneshot};

use crate::serve::metrics::{MEDIA_TYPE, RequestMetrics};
use crate::serve::reply::{Problem, RequestId};
use crate::serve::settings::Settings;
use crate::serve::{access, body, reply};
use crate::service::{CallId, Service};

/// What all requests share.
pub(crate) struct App {
    service: Arc<dyn Service>,
    pub(crate) settings: Settings,
    /// Room for calls.
    in_flight: Semaphore,
    is_draining: AtomicBool,
    pub(crate) metrics: RequestMetrics,
}

impl App {
    pub(crate) fn new(service: Arc<dyn Service>, settings: Settings) -> Self {
        let in_flight = Semaphore::new(settings.max_in_flight);
        let (is_draining, metrics) = (AtomicBool::new(false), RequestMetrics::new());
        Self { service, settings, in_flight, is_draining, metrics }
    }

    /// Let balancers go on to others.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Pass one item through the nodes.
    async fn call(&self, headers: &HeaderMap, body: Body) -> Result<Vec<Value>, Problem> {
        let Ok(_room) = self.in_flight.try_acquire() else {
            return Err(Problem::busy("too many calls are in progress"));
        };
        let _counted = Counted::new(&self.metrics.in_progress);
        let work = async {
            let item = body::item(headers, self.read(body).await?)?;
            let (sender, receiver) = oneshot::channel();
            let id = self.service.call(item, Box::new(move |outputs| drop(sender.send(outputs))));
            let mut abandoned = AbandonOnDrop { service: &*self.service, id: Some(id) };
            let outputs = receiver.await;
            abandoned.id = None;
            outputs.map_err(|_| Problem::busy("the service is closing"))?.map_err(Problem::from)
        };
        let timeout = self.settings.request_timeout;
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            Err(Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "TimeoutError",
                format!("the call took longer than {} s", timeout.as_secs_f64()),
            ))
        })
    }

    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let read = Limited::new(body, self.settings.max_body).collect().await;
        read.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                let message = format!("the body is longer than {} bytes", self.settings.max_body);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyError", message)
            } else {
                Problem::new(StatusCode::BAD_REQUEST, "BodyError", "the body ended early")
            }
        })
    }
}

/// Counts what is in progress, until it is dropped.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A call whose client has gone is not needed.
struct AbandonOnDrop<'a> {
    service: &'a dyn Service,
    id: Option<CallId>,
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.service.abandon(id);
        }
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let known = Router::new()
        .route("/call", post(call))
        .route("/healthz", get(|| async { reply::of_text(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics));
    known
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), access::check))
        .with_state(app)
}

async fn call(State(app): State<Arc<App>>, Extension(id): Extension<RequestId>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let outputs = app.call(&head.headers, body).await;
    outputs.and_then(reply::of_outputs).unwrap_or_else(|problem| problem.response(&id))
}

async fn readiness(State(app): State<Arc<App>>) -> Response {
    if app.is_draining.load(Ordering::Relaxed) {
        return reply::of_text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    reply::of_text(StatusCode::OK, "ready\n")
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let here = Arc::clone(&app);
    // It may wait for locks of the session.
    let nodes = tokio::task::spawn_blocking(move || here.service.metrics()).await.ok().flatten();
    reply::of_bytes(app.metrics.text(nodes.as_ref()), HeaderValue::from_static(MEDIA_TYPE))
}

async fn wrong_method(Extension(id): Extension<RequestId>, method: Method) -> Response {
    let message = format!("{method} is not possible here; see the header 'Allow'");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodError", message).response(&id)
}

async fn unknown_path(Extension(id): Extension<RequestId>, request: Request) -> Response {
    let message = format!("there is nothing at '{}'; POST /call takes items", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "PathError", message).response(&id)
}
