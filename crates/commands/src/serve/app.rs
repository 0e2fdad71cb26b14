//! What all requests share, and one call.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus::IntGauge;
use remotemedia_runtime::{Plan, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::serve::connections::body_rate::{SlowBodyError, TimedBody};
use crate::serve::observing::errors::RecentErrors;
use crate::serve::observing::log::Log;
use crate::serve::observing::log_line::FailureEntry;
use crate::serve::observing::metrics::RequestMetrics;
use crate::serve::requests::blocking::beside_others;
use crate::serve::requests::body;
use crate::serve::requests::reply::Problem;
use crate::serve::requests::request_id::RequestId;
use crate::serve::sessions::Sessions;
use crate::serve::settings::Settings;
use crate::serve::tracing::call_trace::{CallTrace, SpanContext};
use crate::serve::tracing::otlp::Tracer;
use crate::service::{CallError, CallErrorKind, CallId, Service};

/// What all requests share.
pub(crate) struct App {
    pub(crate) sessions: Sessions,
    pub(crate) settings: Settings,
    /// Room for calls and streams.
    in_flight: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) plan: Plan,
    pub(crate) started: Instant,
    pub(crate) errors: RecentErrors,
    pub(crate) log: Log,
    /// Takes spans, if a collector wants them.
    pub(crate) tracer: Option<Tracer>,
    /// The document of `/openapi.json`.
    pub(crate) description: Bytes,
}

impl App {
    pub(crate) fn new(sessions: Sessions, plan: Plan, settings: Settings, log: Log, description: Vec<u8>) -> Self {
        let tracer = settings.collector.clone().map(|collector| Tracer::new(collector, plan.name()));
        let in_flight = Arc::new(Semaphore::new(settings.max_in_flight));
        let (draining, _) = watch::channel(false);
        let (metrics, errors, description) = (RequestMetrics::new(), RecentErrors::default(), description.into());
        let started = Instant::now();
        Self { sessions, settings, in_flight, draining, metrics, plan, started, errors, log, tracer, description }
    }

    /// Let balancers go on to others, and end what is live.
    pub(crate) fn begin_drain(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Wait until the service takes no more items.
    pub(crate) async fn drained(&self) {
        // The sender lives as long as this.
        drop(self.draining.subscribe().wait_for(|is_draining| *is_draining).await);
    }

    /// Take a place for a stream.
    pub(crate) fn reserve(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| too_many())
    }

    /// What clients learn of an error, which is remembered and logged if it is that of a node.
    pub(crate) fn problem_of(&self, error: CallError, id: &RequestId) -> Problem {
        if error.kind == CallErrorKind::Node {
            self.errors.note(&error, id);
            self.log.failure(FailureEntry::of(&error, id));
        }
        Problem::from(error)
    }

    /// Pass one item through the nodes.
    pub(crate) async fn call(&self, head: &Parts, body: Body, id: &RequestId) -> Result<Vec<Value>, Problem> {
        if self.in_flight.available_permits() == 0 {
            return Err(too_many());
        }
        let work = async {
            let body = self.read(body).await?;
            // Not earlier: slow senders would keep others out.
            let _room = self.in_flight.try_acquire().map_err(|_| too_many())?;
            let _counted = Counted::new(&self.metrics.in_progress);
            let item = beside_others(body.len(), || body::item(&head.headers, body))?;
            let (sender, receiver) = oneshot::channel();
            let service = self.sessions.shared();
            let mut trace = self.trace_of(head);
            let on_step = trace.as_ref().map(CallTrace::on_step);
            let call = service.call(item, on_step, Box::new(move |outputs| drop(sender.send(outputs))));
            let mut abandoned = AbandonOnDrop { service, id: Some(call) };
            let outputs = receiver.await;
            abandoned.id = None;
            outputs.unwrap_or_else(|_| Err(CallError::closing())).map_err(|error| {
                if let Some(trace) = &mut trace {
                    trace.note_error(&error);
                }
                self.problem_of(error, id)
            })
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

    /// Collects the steps of nodes, if the request is recorded.
    fn trace_of(&self, head: &Parts) -> Option<CallTrace<'_>> {
        let context = head.extensions.get::<SpanContext>()?;
        Some(CallTrace::new(self.tracer.as_ref()?, *context))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let read = Limited::new(TimedBody::new(body), self.settings.max_body).collect().await;
        read.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                let message = format!("the body is longer than {} bytes", self.settings.max_body);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyError", message)
            } else if error.is::<SlowBodyError>() {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "BodyError", error.to_string())
            } else {
                Problem::new(StatusCode::BAD_REQUEST, "BodyError", "the body ended early")
            }
        })
    }
}

fn too_many() -> Problem {
    Problem::busy("too many calls are in progress")
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
