//! Bodies of requests as items.

use std::io::Cursor;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use remotemedia_runtime::Value;

use crate::input::{json, wav};
use crate::serve::requests::reply::Problem;

/// A recording is one item: it is read in pieces of this length, which are put together.
const CHUNK_MS: u32 = 60_000;

/// The item that a body holds, by its type; JSON if it has none.
pub(crate) fn item(headers: &HeaderMap, body: Bytes) -> Result<Value, Problem> {
    match media_type(headers).as_deref() {
        None | Some("application/json") => {
            let text = str::from_utf8(&body).map_err(|_| bad("JsonError", "the body is not UTF-8 text".into()))?;
            json::parse(text).map_err(|what| bad("JsonError", format!("the body is {what}")))
        }
        Some("application/octet-stream") => Ok(Value::Bytes(body.into())),
        Some("audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave") => recording(body),
        Some(kind) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "MediaTypeError",
            format!("'{kind}' is not accepted; send application/json, audio/wav or application/octet-stream"),
        )),
    }
}

/// The type of a body, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("?");
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn recording(body: Bytes) -> Result<Value, Problem> {
    let broken = |failure: crate::failure::Failure| bad("WavError", failure.message);
    let total = body.len() as u64;
    let mut chunks = wav::open(Cursor::new(body), "the body", CHUNK_MS, Some(total)).map_err(broken)?;
    let mut whole = match chunks.next() {
        Some(Ok(Value::Audio(chunk))) => chunk,
        Some(Err(failure)) => return Err(broken(failure)),
        _ => return Err(bad("WavError", "the body contains no audio".into())),
    };
    for chunk in chunks {
        if let Value::Audio(chunk) = chunk.map_err(broken)? {
            whole.samples.extend(chunk.samples);
        }
    }
    Ok(Value::Audio(whole))
}

fn bad(type_name: &str, message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, type_name, message)
}
