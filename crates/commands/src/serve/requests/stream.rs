//! `POST /stream`: a body that is read as it arrives, and outputs as they come.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use remotemedia_runtime::Value;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::input::{Items, json as json_items, pcm, wav};
use crate::output::json;
use crate::serve::app::App;
use crate::serve::requests::audio_query::AudioQuery;
use crate::serve::requests::body::media_type;
use crate::serve::requests::live::{LiveStream, admitted};
use crate::serve::requests::reply::Problem;
use crate::serve::requests::request_id::RequestId;
use crate::service::StreamNext;

/// How long a body may bring nothing.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may leave outputs waiting.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Pieces of a body, items and pieces of a response that wait at each place.
const QUEUE_SIZE: usize = 8;

/// The name of the input in errors.
const BODY: &str = "the body";

/// Outputs that are written in one piece, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// How outputs are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Events,
}

/// Begin with a request; the response goes on beside it.
pub(crate) fn respond(
    app: &Arc<App>,
    id: RequestId,
    head: &Parts,
    body: Body,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let read = reader_of(head)?;
    let form = form_of(head);
    let (pieces, response) = mpsc::channel(QUEUE_SIZE);
    let is_complete = Arc::new(AtomicBool::new(false));
    let exchange = Exchange {
        app: Arc::clone(app),
        id,
        form,
        live: LiveStream::open(app.sessions.shared()),
        pieces,
        is_complete: Arc::clone(&is_complete),
        _permit: permit,
    };
    let (items, feeding) = read_items(body, read);
    tokio::spawn(async move {
        exchange.run(items).await;
        drop(feeding);
    });
    let kind = match form {
        Form::Lines => "application/x-ndjson",
        Form::Events => "text/event-stream",
    };
    let mut response = Response::new(body_of(response, is_complete));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The response as a body. It breaks off if the exchange has ended early, so that nobody takes a part for the whole.
fn body_of(mut pieces: mpsc::Receiver<Bytes>, is_complete: Arc<AtomicBool>) -> Body {
    let mut has_ended = false;
    Body::from_stream(futures_util::stream::poll_fn(move |context| match pieces.poll_recv(context) {
        Poll::Ready(None) if !has_ended && !is_complete.load(Ordering::Acquire) => {
            has_ended = true;
            Poll::Ready(Some(Err(io::Error::other("the stream has ended early"))))
        }
        piece => piece.map(|piece| piece.map(Ok)),
    }))
}

fn form_of(head: &Parts) -> Form {
    let accepted = head.headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/event-stream") { Form::Events } else { Form::Lines }
}

/// Makes items of a body.
type ReadItems = Box<dyn FnOnce(BodyReader) -> Result<Items, Failure> + Send>;

fn reader_of(head: &Parts) -> Result<ReadItems, Problem> {
    let query = AudioQuery::of(&head.uri)?;
    match media_type(&head.headers).as_deref() {
        None | Some("application/json" | "application/x-ndjson" | "application/jsonl") => {
            Ok(Box::new(|reader| Ok(Box::new(json_items::items(reader, BODY.to_owned())))))
        }
        Some("audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave") => {
            Ok(Box::new(move |reader| Ok(Box::new(wav::open(reader, BODY, query.chunk_ms, None)?))))
        }
        Some("application/octet-stream") => {
            if query.rate.is_none() {
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "QueryError",
                    "raw audio needs its sample rate in the query, such as ?rate=16000",
                ));
            }
            let layout = query.layout();
            Ok(Box::new(move |reader| Ok(Box::new(pcm::Chunks::new(reader, BODY.to_owned(), layout, query.chunk_ms)))))
        }
        Some(kind) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "MediaTypeError",
            format!("'{kind}' is not accepted; send application/x-ndjson, audio/wav or application/octet-stream"),
        )),
    }
}

/// Ends the reading of a body when it is dropped.
struct Feeding(AbortHandle);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Read a body on a thread of its own: the readers of files are used, which wait.
fn read_items(mut body: Body, read: ReadItems) -> (mpsc::Receiver<Result<Value, Failure>>, Feeding) {
    let (chunks, arrived) = mpsc::channel(QUEUE_SIZE);
    let pump = tokio::spawn(async move {
        loop {
            let chunk = match timeout(BODY_IDLE_TIMEOUT, body.frame()).await {
                Ok(None) => return,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(_))) => Err(io::Error::other("it ended early")),
                Err(_) => Err(io::Error::other(format!("nothing came for {} s", BODY_IDLE_TIMEOUT.as_secs()))),
            };
            let is_last = chunk.is_err();
            if chunks.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    });
    let (sender, items) = mpsc::channel(QUEUE_SIZE);
    tokio::task::spawn_blocking(move || match read(BodyReader { arrived, rest: Bytes::new() }) {
        Ok(items) => {
            for item in items {
                let is_last = item.is_err();
                if sender.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        }
        Err(failure) => drop(sender.blocking_send(Err(failure))),
    });
    (items, Feeding(pump.abort_handle()))
}

/// A body as a file.
struct BodyReader {
    arrived: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            match self.arrived.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => break,
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, count: usize) {
        drop(self.rest.split_to(count));
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Whether more follows.
enum Progress {
    GoesOn,
    Ended,
    Failed,
}

/// One request and its response.
struct Exchange {
    app: Arc<App>,
    id: RequestId,
    form: Form,
    live: LiveStream,
    pieces: mpsc::Sender<Bytes>,
    is_complete: Arc<AtomicBool>,
    _permit: OwnedSemaphorePermit,
}

impl Exchange {
    /// Put items in and write outputs, until both have ended or the client has gone.
    async fn run(&self, mut items: mpsc::Receiver<Result<Value, Failure>>) {
        let mut putting = None;
        let mut is_ended = false;
        // What is wrong with the body, which is written after the outputs of what came before it.
        let mut broken = None;
        loop {
            match self.write_ready().await {
                Ok(Progress::GoesOn) => {}
                Ok(Progress::Ended) => {
                    match broken {
                        Some(problem) => self.fail(problem).await,
                        None => self.is_complete.store(true, Ordering::Release),
                    }
                    return;
                }
                // It has failed, or nobody reads.
                Ok(Progress::Failed) | Err(()) => return,
            }
            let may_put = !is_ended && putting.is_none() && self.live.has_room();
            tokio::select! {
                () = self.live.changed() => {}
                outcome = admitted(&mut putting) => {
                    if let Err(error) = outcome {
                        broken = Some(self.app.problem_of(error, &self.id));
                        is_ended = true;
                        self.live.end();
                    }
                }
                item = items.recv(), if may_put => match item {
                    Some(Ok(item)) => putting = Some(self.live.put(item)),
                    Some(Err(failure)) => {
                        broken = Some(Problem::new(StatusCode::BAD_REQUEST, "BodyError", failure.message));
                        is_ended = true;
                        self.live.end();
                    }
                    None => {
                        is_ended = true;
                        self.live.end();
                    }
                },
                () = self.app.drained(), if may_put => {
                    is_ended = true;
                    self.live.end();
                }
                () = self.pieces.closed() => return,
            }
        }
    }

    /// Write the outputs that are there.
    async fn write_ready(&self) -> Result<Progress, ()> {
        let mut piece = Vec::new();
        loop {
            match self.live.ready() {
                StreamNext::Output(value) => {
                    let before = piece.len();
                    if self.form == Form::Events {
                        piece.extend(b"data: ");
                    }
                    if let Err(what) = json::write(&value, &mut piece) {
                        piece.truncate(before);
                        self.send(piece).await?;
                        let message = format!("the output {what}");
                        self.fail(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "OutputError", message)).await;
                        return Ok(Progress::Failed);
                    }
                    piece.extend(if self.form == Form::Events { &b"\n\n"[..] } else { b"\n" });
                    if piece.len() >= PIECE_BYTES {
                        self.send(std::mem::take(&mut piece)).await?;
                    }
                }
                StreamNext::Nothing => {
                    self.send(piece).await?;
                    return Ok(Progress::GoesOn);
                }
                StreamNext::End => {
                    self.send(piece).await?;
                    return Ok(Progress::Ended);
                }
                StreamNext::Failed(error) => {
                    self.send(piece).await?;
                    self.fail(self.app.problem_of(error, &self.id)).await;
                    return Ok(Progress::Failed);
                }
            }
        }
    }

    async fn send(&self, piece: Vec<u8>) -> Result<(), ()> {
        if piece.is_empty() {
            return Ok(());
        }
        timeout(SEND_TIMEOUT, self.pieces.send(piece.into())).await.map_err(|_| ())?.map_err(|_| ())
    }

    /// Write an error, which is the last of the response.
    async fn fail(&self, problem: Problem) {
        let mut event = problem.fields(&self.id);
        let text = match self.form {
            Form::Events => format!("event: error\ndata: {}\n\n", serde_json::Value::Object(event)),
            Form::Lines => {
                event.shift_insert(0, "$event".to_owned(), json!("error"));
                format!("{}\n", serde_json::Value::Object(event))
            }
        };
        if self.send(text.into_bytes()).await.is_ok() {
            self.is_complete.store(true, Ordering::Release);
        }
    }
}
