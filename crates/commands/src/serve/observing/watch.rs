//! What is done for each request whatever it asks for: it is checked, measured and logged, and its response is marked.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, ORIGIN};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use serde_json::json;

use crate::serve::app::App;
use crate::serve::connections::connection::Peer;
use crate::serve::observing::log_line::RequestEntry;
use crate::serve::requests::access;
use crate::serve::requests::request_id::RequestId;
use crate::serve::tracing::call_trace::SpanContext;
use crate::serve::tracing::span;
use crate::serve::tracing::span::{Span, SpanKind};
use crate::serve::tracing::trace_context::TraceContext;

/// What logs and metrics show where the client has gone before its response, as others do.
const CLIENT_GONE: u16 = 499;

/// Refuse what may not be asked for; give each response the id of its request.
pub(crate) async fn watch(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let visit = Visit::begin(&app, &request);
    let id = visit.id.clone();
    let origin = request.headers().get(ORIGIN).cloned();
    let preflight = app.settings.cors.preflight(request.method(), request.headers());
    let refusal = access::refusal(&app.settings, request.headers(), request.uri().path(), preflight.is_some());
    let mut response = match (refusal, preflight) {
        (Some(problem), _) => problem.response(&id),
        (None, Some(response)) => response,
        (None, None) => {
            request.extensions_mut().insert(id.clone());
            if let Some(context) = visit.context() {
                request.extensions_mut().insert(context);
            }
            next.run(request).await
        }
    };
    id.put_into(response.headers_mut());
    app.settings.cors.mark(origin.as_ref(), response.headers_mut());
    visit.respond(response)
}

/// A request, from its head to the end of its response.
struct Visit {
    app: Arc<App>,
    began: Instant,
    id: RequestId,
    route: Option<MatchedPath>,
    method: Method,
    target: Option<PathAndQuery>,
    peer: Option<SocketAddr>,
    bytes_in: Option<u64>,
    trace: TraceContext,
    /// The span of the request, if it is recorded: when it began, and its id.
    span: Option<(SystemTime, u64)>,
    status: Option<u16>,
    bytes_out: u64,
}

impl Visit {
    fn begin(app: &Arc<App>, request: &Request) -> Self {
        let trace = TraceContext::of(request.headers());
        let is_recorded = app.tracer.is_some() && trace.is_sampled;
        Self {
            app: Arc::clone(app),
            began: Instant::now(),
            id: RequestId::of(request.headers()),
            // Of paths that are not known there may be any number.
            route: request.extensions().get::<MatchedPath>().cloned(),
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
            bytes_in: content_length(request.headers()),
            trace,
            span: is_recorded.then(|| (SystemTime::now(), span::new_id())),
            status: None,
            bytes_out: 0,
        }
    }

    /// For spans under that of the request.
    fn context(&self) -> Option<SpanContext> {
        self.span.map(|(_, span_id)| SpanContext { trace_id: self.trace.trace_id, span_id })
    }

    /// The response is known. The visit ends with its body.
    fn respond(mut self, response: Response) -> Response {
        let status = response.status().as_u16();
        self.status = Some(status);
        self.count(status);
        if let Some(length) = response.body().size_hint().exact() {
            self.bytes_out = length;
            return response;
        }
        response.map(|body| Body::new(VisitedBody { body, visit: self }))
    }

    /// The names are those of <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.
    fn span_of(&self, begin: SystemTime, span_id: u64, took: Duration) -> Span {
        let method = self.method.as_str();
        let status = self.status.unwrap_or(CLIENT_GONE);
        let scheme = if self.app.settings.tls.is_some() { "https" } else { "http" };
        let mut attributes = vec![
            ("http.request.method", json!(method)),
            ("url.path", json!(self.target.as_ref().map_or("", PathAndQuery::path))),
            ("url.scheme", json!(scheme)),
            ("http.response.status_code", json!(status)),
            ("remotemedia.request.id", json!(self.id.text())),
        ];
        let route = self.route.as_ref().map(MatchedPath::as_str);
        attributes.extend(route.map(|route| ("http.route", json!(route))));
        attributes.extend(self.peer.map(|peer| ("client.address", json!(peer.ip().to_string()))));
        let is_failed = status >= 500;
        attributes.extend(is_failed.then(|| ("error.type", json!(status.to_string()))));
        Span {
            trace_id: self.trace.trace_id,
            id: span_id,
            parent_id: self.trace.parent_id,
            name: route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
            kind: SpanKind::Server,
            begin,
            end: begin + took,
            attributes,
            error: is_failed.then(|| format!("status {status}")),
        }
    }

    fn count(&self, status: u16) {
        let route = self.route.as_ref().map_or("other", MatchedPath::as_str);
        self.app.metrics.note(route, status, self.began.elapsed());
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.count(CLIENT_GONE);
        }
        let took = self.began.elapsed();
        if let (Some(tracer), Some((begin, span_id))) = (&self.app.tracer, self.span) {
            tracer.record(self.span_of(begin, span_id, took));
        }
        if self.app.log.has_requests() {
            self.app.log.request(RequestEntry {
                method: self.method.clone(),
                target: self.target.take(),
                status: self.status.unwrap_or(CLIENT_GONE),
                took,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                peer: self.peer,
                id: self.id.clone(),
                trace_id: self.trace.trace_id,
            });
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body of a length that nobody knows before its end.
struct VisitedBody {
    body: Body,
    visit: Visit,
}

impl HttpBody for VisitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            this.visit.bytes_out += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
