//! The latest errors of nodes, for those who operate the service.

use std::collections::VecDeque;
use std::time::SystemTime;

use remotemedia_runtime::locks::Mutex;
use serde_json::{Value, json};

use crate::serve::requests::request_id::RequestId;
use crate::service::CallError;

/// Errors that are remembered.
const MAX_ERRORS: usize = 50;

#[derive(Default)]
pub(crate) struct RecentErrors(Mutex<VecDeque<Noted>>);

struct Noted {
    time: SystemTime,
    error: CallError,
    request_id: String,
}

impl RecentErrors {
    /// Remember the error of an item.
    pub(crate) fn note(&self, error: &CallError, id: &RequestId) {
        let noted = Noted { time: SystemTime::now(), error: error.clone(), request_id: id.text().to_owned() };
        let mut errors = self.0.lock();
        errors.push_front(noted);
        errors.truncate(MAX_ERRORS);
    }

    /// All of them, the latest first.
    pub(crate) fn report(&self, with_tracebacks: bool) -> Value {
        let report = |Noted { time, error, request_id }: &Noted| {
            json!({
                "time": humantime::format_rfc3339_millis(*time).to_string(),
                "type": error.type_name,
                "message": error.message,
                "node_id": error.node_id,
                "request_id": request_id,
                "traceback": error.traceback.as_ref().filter(|_| with_tracebacks),
            })
        };
        self.0.lock().iter().map(report).collect()
    }
}
