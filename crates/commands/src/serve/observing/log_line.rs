//! What a line of the log says, as text or JSON.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::http::Method;
use axum::http::uri::PathAndQuery;
use humantime::format_rfc3339_millis as rfc3339;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::serve::requests::request_id::RequestId;
use crate::serve::tracing::trace_context::TraceId;
use crate::serve_options::LogFormat;
use crate::service::CallError;

/// Longer paths are cut.
const LONGEST_PATH: usize = 256;

/// A line, and when it was made.
pub(crate) struct Line {
    pub(crate) time: SystemTime,
    pub(crate) entry: Entry,
}

pub(crate) enum Entry {
    Note(Note),
    Request(Box<RequestEntry>),
    Failure(Box<FailureEntry>),
}

/// Something about the service.
pub(crate) struct Note {
    pub(crate) kind: NoteKind,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoteKind {
    Start,
    Stop,
    Warning,
}

/// A request that has its response.
pub(crate) struct RequestEntry {
    pub(crate) method: Method,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) status: u16,
    pub(crate) took: Duration,
    /// What the head of the request says.
    pub(crate) bytes_in: Option<u64>,
    pub(crate) bytes_out: u64,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) id: RequestId,
    pub(crate) trace_id: TraceId,
}

/// A node failed, or what it returned could not be sent.
pub(crate) struct FailureEntry {
    pub(crate) type_name: String,
    pub(crate) message: String,
    pub(crate) node_id: Option<String>,
    /// Where, in user code.
    pub(crate) traceback: Option<String>,
    pub(crate) id: RequestId,
}

impl FailureEntry {
    fn write_to<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        fields.serialize_entry("type", &self.type_name)?;
        fields.serialize_entry("message", &self.message)?;
        fields.serialize_entry("node_id", &self.node_id)?;
        fields.serialize_entry("request_id", self.id.text())?;
        fields.serialize_entry("traceback", &self.traceback)
    }

    /// The error of a node at an item of this request.
    pub(crate) fn of(error: &CallError, id: &RequestId) -> Self {
        Self {
            type_name: error.type_name.clone(),
            message: error.message.clone(),
            node_id: error.node_id.clone(),
            traceback: error.traceback.clone(),
            id: id.clone(),
        }
    }
}

impl Line {
    /// Append the line. Without a format, it has no time, as other lines of commands have none.
    pub(crate) fn write(&self, format: Option<LogFormat>, buffer: &mut Vec<u8>) {
        match format {
            // What is written to memory, and has text for its keys, does not fail.
            Some(LogFormat::Json) => serde_json::to_writer(&mut *buffer, self).unwrap_or_default(),
            Some(LogFormat::Text) => buffer.extend(format!("{} {}", rfc3339(self.time), self.entry.text()).bytes()),
            None => buffer.extend(self.entry.text().bytes()),
        }
        buffer.push(b'\n');
    }
}

/// Written field by field: a `serde_json::Value` in between would be most of the cost of a line.
impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("time", &Shown(rfc3339(self.time)))?;
        let (level, event) = self.entry.kind();
        fields.serialize_entry("level", level)?;
        fields.serialize_entry("event", event)?;
        match &self.entry {
            Entry::Note(note) => fields.serialize_entry("message", &note.text)?,
            Entry::Request(request) => request.write_to(&mut fields)?,
            Entry::Failure(failure) => failure.write_to(&mut fields)?,
        }
        fields.end()
    }
}

/// Text, as it is displayed.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Entry {
    /// The level and the event of a line.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Note(Note { kind: NoteKind::Start, .. }) => ("info", "start"),
            Self::Note(Note { kind: NoteKind::Stop, .. }) => ("info", "stop"),
            Self::Note(Note { kind: NoteKind::Warning, .. }) => ("warning", "warning"),
            Self::Request(_) => ("info", "request"),
            Self::Failure(_) => ("error", "error"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Note(Note { kind: NoteKind::Warning, text }) => format!("warning: {}", on_one_line(text)),
            Self::Note(note) => on_one_line(&note.text),
            Self::Request(request) => {
                let bytes_in = request.bytes_in.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
                format!(
                    "{} {} {} {:.3}ms in={bytes_in} out={} remote={} request={} trace={}",
                    request.method,
                    on_one_line(request.path()),
                    request.status,
                    request.millis(),
                    request.bytes_out,
                    request.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
                    request.id.text(),
                    request.trace_id,
                )
            }
            Self::Failure(failure) => {
                let node = failure.node_id.as_ref().map_or_else(String::new, |node| format!("node '{node}', "));
                let text =
                    format!("error: {}: {} ({node}request {})", failure.type_name, failure.message, failure.id.text());
                on_one_line(&text)
            }
        }
    }
}

impl RequestEntry {
    fn write_to<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        fields.serialize_entry("method", self.method.as_str())?;
        fields.serialize_entry("path", self.path())?;
        fields.serialize_entry("status", &self.status)?;
        fields.serialize_entry("duration_ms", &self.millis())?;
        fields.serialize_entry("bytes_in", &self.bytes_in)?;
        fields.serialize_entry("bytes_out", &self.bytes_out)?;
        fields.serialize_entry("remote", &self.peer)?;
        fields.serialize_entry("request_id", self.id.text())?;
        fields.serialize_entry("trace_id", &Shown(self.trace_id))
    }

    /// Without the query, in which there may be secrets.
    fn path(&self) -> &str {
        let path = self.target.as_ref().map_or("-", PathAndQuery::path);
        let mut end = LONGEST_PATH.min(path.len());
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        &path[..end]
    }

    /// To the microsecond.
    fn millis(&self) -> f64 {
        (self.took.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// What clients have sent may be part of a line, and must not end it.
fn on_one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn id() -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("abc"));
        RequestId::of(&headers)
    }

    fn written(format: Option<LogFormat>, entry: Entry) -> String {
        let mut buffer = Vec::new();
        Line { time: SystemTime::UNIX_EPOCH, entry }.write(format, &mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    fn request(target: &str) -> Entry {
        Entry::Request(Box::new(RequestEntry {
            method: Method::POST,
            target: Some(target.parse().unwrap()),
            status: 200,
            took: Duration::from_nanos(1_234_567),
            bytes_in: None,
            bytes_out: 3,
            peer: Some(([10, 0, 0, 1], 5000).into()),
            id: id(),
            trace_id: TraceId(7),
        }))
    }

    fn failure(message: &str) -> Entry {
        let (type_name, message) = ("ValueError".to_owned(), message.to_owned());
        Entry::Failure(Box::new(FailureEntry {
            type_name,
            message,
            node_id: Some("a".to_owned()),
            traceback: None,
            id: id(),
        }))
    }

    #[test]
    fn a_request_is_a_line_without_its_query() {
        assert_eq!(
            written(Some(LogFormat::Text), request("/call?token=secret")),
            "1970-01-01T00:00:00.000Z POST /call 200 1.235ms in=- out=3 remote=10.0.0.1:5000 request=abc \
             trace=00000000000000000000000000000007\n"
        );
        assert_eq!(
            written(Some(LogFormat::Json), request("/call?token=secret")),
            concat!(
                r#"{"time":"1970-01-01T00:00:00.000Z","level":"info","event":"request","method":"POST","path":"/call","#,
                r#""status":200,"duration_ms":1.235,"bytes_in":null,"bytes_out":3,"remote":"10.0.0.1:5000","#,
                r#""request_id":"abc","trace_id":"00000000000000000000000000000007"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_a_client_sends_does_not_make_lines_of_its_own() {
        let forged = "bad\n1970-01-01T00:00:00.000Z POST /call 200 \u{1b}[31m";

        assert_eq!(
            written(None, failure(forged)),
            "error: ValueError: bad\\n1970-01-01T00:00:00.000Z POST /call 200 \\u{1b}[31m (node 'a', request abc)\n"
        );
        let line = written(Some(LogFormat::Json), failure(forged));
        assert_eq!(line.lines().count(), 1);
        let fields: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&fields["message"], &fields["node_id"]), (&json!(forged), &json!("a")));
    }

    #[test]
    fn long_paths_are_cut_between_characters() {
        let line = written(Some(LogFormat::Json), request(&format!("/{}", "é".repeat(1000))));

        let fields: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(fields["path"].as_str().unwrap().len(), LONGEST_PATH - 1);
    }
}
