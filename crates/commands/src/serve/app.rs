//! What all requests share, and one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus::IntGauge;
use remotemedia_runtime::{Metrics, Value};
use tokio::sync::{Semaphore, oneshot};

use crate::serve::body;
use crate::serve::metrics::RequestMetrics;
use crate::serve::reply::Problem;
use crate::serve::settings::Settings;
use crate::service::{CallId, Service};

/// What all requests share.
pub(crate) struct App {
    service: Arc<dyn Service>,
    pub(crate) settings: Settings,
    /// Room for calls.
    in_flight: Semaphore,
    is_draining: AtomicBool,
    pub(crate) metrics: RequestMetrics,
    /// The document of `/openapi.json`.
    pub(crate) description: Bytes,
}

impl App {
    pub(crate) fn new(service: Arc<dyn Service>, settings: Settings, description: Vec<u8>) -> Self {
        let in_flight = Semaphore::new(settings.max_in_flight);
        let (is_draining, metrics) = (AtomicBool::new(false), RequestMetrics::new());
        Self { service, settings, in_flight, is_draining, metrics, description: description.into() }
    }

    /// Let balancers go on to others.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// What the nodes did so far. May wait.
    pub(crate) fn node_metrics(&self) -> Option<Metrics> {
        self.service.metrics()
    }

    /// Pass one item through the nodes.
    pub(crate) async fn call(&self, headers: &HeaderMap, body: Body) -> Result<Vec<Value>, Problem> {
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
