//! Sends spans to an OpenTelemetry collector: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>, as JSON.
//!
//! Requests never wait for it. Spans wait in a queue, and those that find it full are counted instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use remotemedia_runtime::locks::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::failure::Failure;
use crate::serve::observing::log::Log;
use crate::serve::observing::log_line::NoteKind;
use crate::serve::tracing::span::{Span, export_request};

/// Spans that may wait.
const CAPACITY: usize = 8192;

/// The most spans of one message.
const LARGEST_BATCH: usize = 512;

/// How long spans wait for others.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time for one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause after a failure, which doubles with each, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the last spans may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a collector receives traces.
const PATH: &str = "/v1/traces";

const DEFAULT_PORT: u16 = 80;

/// The address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    url: String,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Collector {
    /// Check the address that `--otlp` gives.
    pub(crate) fn of(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--otlp '{url}' {why}, such as http://localhost:4318"));
        let parsed: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let (Some("http"), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(wrong("must be the http address of a collector nearby"));
        };
        if parsed.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong("must have neither a query nor a user; give the address of a collector"));
        }
        let base = parsed.path().trim_end_matches('/');
        let path = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_string(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(DEFAULT_PORT),
            path,
        })
    }

    /// Send a message; on failure, say why, and whether it should be sent again.
    async fn post(&self, body: Bytes) -> Result<(), Refusal> {
        let exchange = async {
            let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| error.to_string())?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
            // It ends with the sender, or with the connection.
            tokio::spawn(connection);
            let request = Request::post(&self.path)
                .header(HOST, &self.authority)
                .header(USER_AGENT, concat!("remotemedia/", env!("CARGO_PKG_VERSION")))
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body))
                .map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            response.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(status)
        };
        let may_repeat = true;
        match timeout(SEND_TIMEOUT, exchange).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(Refusal { why: format!("status {status}"), may_repeat: is_temporary(status) }),
            Ok(Err(why)) => Err(Refusal { why, may_repeat }),
            Err(_) => Err(Refusal { why: "no response in time".to_owned(), may_repeat }),
        }
    }
}

/// The statuses after which a message is sent again.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

struct Refusal {
    why: String,
    may_repeat: bool,
}

/// Takes spans for a collector.
pub(crate) struct Tracer {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    exporter: Mutex<Option<(Exporter, oneshot::Sender<()>)>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Tracer {
    /// For the spans of a service of this name. None is sent before [`Tracer::run`].
    pub(crate) fn new(collector: Collector, service: &str) -> Self {
        let (queue, spans) = mpsc::channel(CAPACITY);
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let dropped = Arc::<AtomicU64>::default();
        let exporter = Exporter {
            collector,
            service: service.to_owned(),
            spans,
            dropped: Arc::clone(&dropped),
            stopped,
            is_failing: false,
        };
        Self { queue, dropped, stop, exporter: Mutex::new(Some((exporter, end))), ended: Mutex::new(Some(ended)) }
    }

    /// Send a span later.
    pub(crate) fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Send spans until [`Tracer::finish`].
    pub(crate) async fn run(&self, log: &Log) {
        let exporter = self.exporter.lock().take();
        if let Some((mut exporter, end)) = exporter {
            exporter.run(log).await;
            drop(end);
        }
    }

    /// Send what waits. Waits for that, some seconds at most.
    pub(crate) async fn finish(&self) {
        self.stop.send_replace(true);
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            timeout(STOP_TIMEOUT, ended).await.ok();
        }
    }
}

struct Exporter {
    collector: Collector,
    service: String,
    spans: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
    is_failing: bool,
}

impl Exporter {
    async fn run(&mut self, log: &Log) {
        while !*self.stopped.borrow() {
            let batch = self.collect().await;
            if !batch.is_empty() {
                self.deliver(&batch, log).await;
            }
        }
        // What was there before the stop, each message once.
        loop {
            let mut batch = Vec::new();
            while batch.len() < LARGEST_BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.deliver(&batch, log).await;
        }
    }

    /// Spans that come within some time, or as many as fit.
    async fn collect(&mut self) -> Vec<Span> {
        let mut batch = Vec::new();
        let mut stopped = self.stopped.clone();
        let first = tokio::select! {
            span = self.spans.recv() => span,
            () = crate::serve::connections::connection::stop(&mut stopped) => None,
        };
        batch.extend(first);
        let until = Instant::now() + INTERVAL;
        while !batch.is_empty() && batch.len() < LARGEST_BATCH {
            let next = tokio::select! {
                span = timeout_at(until, self.spans.recv()) => span.ok().flatten(),
                () = crate::serve::connections::connection::stop(&mut stopped) => None,
            };
            let Some(span) = next else { break };
            batch.push(span);
        }
        batch
    }

    /// Send spans, again and again until the collector takes them; after a stop, once.
    async fn deliver(&mut self, batch: &[Span], log: &Log) {
        let body = Bytes::from(export_request(&self.service, batch));
        let mut stopped = self.stopped.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let refusal = match self.collector.post(body.clone()).await {
                Ok(()) => return self.note_success(log),
                Err(refusal) => refusal,
            };
            self.note_failure(&refusal, log);
            if !refusal.may_repeat || *stopped.borrow() {
                self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                return;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = crate::serve::connections::connection::stop(&mut stopped) => {}
            }
        }
    }

    /// One line, however long the collector is away.
    fn note_failure(&mut self, refusal: &Refusal, log: &Log) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let (url, why) = (&self.collector.url, &refusal.why);
            log.note(
                NoteKind::Warning,
                format!("the collector at {url} does not take spans: {why}; up to {CAPACITY} are kept until it does"),
            );
        }
    }

    fn note_success(&mut self, log: &Log) {
        if std::mem::replace(&mut self.is_failing, false) {
            let (url, dropped) = (&self.collector.url, self.dropped.swap(0, Ordering::Relaxed));
            log.note(NoteKind::Start, format!("the collector at {url} takes spans again; {dropped} were dropped"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_collector_or_of_its_traces() {
        let path = |url| Collector::of(url).map(|collector| (collector.host, collector.port, collector.path));

        let of = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(path("http://localhost:4318"), of("localhost", 4318, "/v1/traces"));
        assert_eq!(path("http://localhost:4318/"), of("localhost", 4318, "/v1/traces"));
        assert_eq!(path("http://a.example/otlp/v1/traces"), of("a.example", 80, "/otlp/v1/traces"));
        assert_eq!(path("http://[::1]:4318/otlp"), of("::1", 4318, "/otlp/v1/traces"));
        for url in ["localhost:4318", "https://a.example", "http://user@a.example", "http://a?b", "/v1/traces", ""] {
            assert!(path(url).unwrap_err().message.contains("such as http://localhost:4318"), "{url}");
        }
    }
}
