//! Spans, and the message in which a collector receives them: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::serve::tracing::trace_context::TraceId;

const SCOPE: &str = "remotemedia";

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;

/// What a span is about; the numbers are those of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// Work inside the service.
    Internal = 1,
    /// A request.
    Server = 2,
}

/// A piece of work, from its begin to its end.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: TraceId,
    pub(crate) id: u64,
    pub(crate) parent_id: Option<u64>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) begin: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// What went wrong, if it did.
    pub(crate) error: Option<String>,
}

/// A new id of a span.
pub(crate) fn new_id() -> u64 {
    fastrand::u64(1..)
}

/// The message with the spans of a service.
pub(crate) fn export_request(service: &str, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = attributes(&[
        ("service.name", json!(service)),
        ("telemetry.sdk.name", json!(SCOPE)),
        ("telemetry.sdk.language", json!("rust")),
        ("telemetry.sdk.version", json!(version)),
    ]);
    let spans: Vec<Value> = spans.iter().map(Span::fields).collect();
    let message = json!({
        "resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": {"name": SCOPE, "version": version}, "spans": spans}],
        }],
    });
    message.to_string().into_bytes()
}

impl Span {
    fn fields(&self) -> Value {
        let mut fields = json!({
            "traceId": self.trace_id.to_string(),
            "spanId": format!("{:016x}", self.id),
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanos(self.begin),
            "endTimeUnixNano": nanos(self.end),
            "attributes": attributes(&self.attributes),
        });
        if let Some(parent_id) = self.parent_id {
            fields["parentSpanId"] = json!(format!("{parent_id:016x}"));
        }
        if let Some(error) = &self.error {
            fields["status"] = json!({"code": STATUS_ERROR, "message": error});
        }
        fields
    }
}

/// In this form, integers of 64 bits are text.
fn attributes(attributes: &[(&'static str, Value)]) -> Vec<Value> {
    let of = |(key, value): &(&'static str, Value)| match value {
        Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
        value => json!({"key": key, "value": {"stringValue": value}}),
    };
    attributes.iter().map(of).collect()
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_has_the_form_of_the_specification() {
        let span = Span {
            trace_id: TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            id: 1,
            parent_id: Some(0xb7ad_6b71_6920_3331),
            name: "POST /call".to_owned(),
            kind: SpanKind::Server,
            begin: UNIX_EPOCH + Duration::from_nanos(1_544_712_660_000_000_001),
            end: UNIX_EPOCH + Duration::from_nanos(1_544_712_661_000_000_002),
            attributes: vec![("http.route", json!("/call")), ("http.response.status_code", json!(500))],
            error: Some("ValueError".to_owned()),
        };

        let message: Value = serde_json::from_slice(&export_request("voice", &[span])).unwrap();

        let expected = json!([{
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "0000000000000001",
            "name": "POST /call",
            "kind": 2,
            "startTimeUnixNano": "1544712660000000001",
            "endTimeUnixNano": "1544712661000000002",
            "attributes": [
                {"key": "http.route", "value": {"stringValue": "/call"}},
                {"key": "http.response.status_code", "value": {"intValue": "500"}},
            ],
            "parentSpanId": "b7ad6b7169203331",
            "status": {"code": 2, "message": "ValueError"},
        }]);
        assert_eq!(message["resourceSpans"][0]["scopeSpans"][0]["spans"], expected);
        let name = json!({"key": "service.name", "value": {"stringValue": "voice"}});
        assert_eq!(message["resourceSpans"][0]["resource"]["attributes"][0], name);
    }
}
