//! Responses: outputs as JSON or bytes, problems as JSON.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use remotemedia_runtime::Value;
use serde_json::{Map, json};

use crate::output::json;
use crate::serve::observing::log_line::FailureEntry;
use crate::serve::requests::blocking::beside_others;
use crate::serve::requests::request_id::RequestId;
use crate::service::{CallError, CallErrorKind};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Why a request has no other response.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    type_name: String,
    message: String,
    node_id: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, type_name: &str, message: impl Into<String>) -> Self {
        Self { status, type_name: type_name.to_owned(), message: message.into(), node_id: None }
    }

    /// The service has no room for the request now.
    pub(crate) fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "BusyError", message)
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What the log says of it.
    pub(crate) fn log_entry(&self, id: &RequestId) -> FailureEntry {
        FailureEntry {
            type_name: self.type_name.clone(),
            message: self.message.clone(),
            node_id: self.node_id.clone(),
            traceback: None,
            id: id.clone(),
        }
    }

    /// What clients learn of it.
    pub(crate) fn fields(&self, id: &RequestId) -> Map<String, serde_json::Value> {
        let fields = [
            ("type", json!(self.type_name)),
            ("message", json!(self.message)),
            ("node_id", json!(self.node_id)),
            ("request_id", json!(id.text())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub(crate) fn response(self, id: &RequestId) -> Response {
        let body = serde_json::Value::Object(self.fields(id));
        let mut response = of_bytes(body.to_string().into_bytes(), JSON);
        *response.status_mut() = self.status;
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::REQUEST_TIMEOUT {
            // The rest of the body may never come.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let status = match error.kind {
            CallErrorKind::Item => StatusCode::BAD_REQUEST,
            CallErrorKind::Node => StatusCode::INTERNAL_SERVER_ERROR,
            CallErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
            CallErrorKind::Client => StatusCode::REQUEST_TIMEOUT,
        };
        Self { status, type_name: error.type_name, message: error.message, node_id: error.node_id }
    }
}

/// The outputs of an item, in the shape of `session.call`: nothing, the one, or a list. A single one of bytes is sent as it is.
pub(crate) fn of_outputs(mut outputs: Vec<Value>) -> Result<Response, Problem> {
    let value = match outputs.len() {
        0 => Value::Null,
        1 => outputs.remove(0),
        _ => Value::List(outputs),
    };
    if let Value::Bytes(bytes) = value {
        return Ok(of_bytes(bytes, BYTES));
    }
    let mut body = Vec::new();
    beside_others(size_of_value(&value), || json::write(&value, &mut body))
        .map_err(|what| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "OutputError", format!("the output {what}")))?;
    Ok(of_bytes(body, JSON))
}

/// About how long a value is as JSON, in bytes.
fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::BigInt(text) => text.len(),
        Value::Bytes(bytes) => bytes.len() * 4 / 3,
        Value::List(items) => items.iter().map(|item| 1 + size_of_value(item)).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| 4 + key.len() + size_of_value(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Audio(_) => 8,
    }
}

/// A short text.
pub(crate) fn of_text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// A body of this type.
pub(crate) fn of_bytes(body: Vec<u8>, kind: HeaderValue) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
