//! The parts of the description that are the same for all pipelines.

use serde_json::{Map, Value, json};

/// The media type of recordings.
pub(super) const WAV: &str = "audio/wav";

/// The statuses of requests that fail, and what they say.
const PROBLEMS: [(&str, &str); 11] = [
    ("400", "The body or the query is not what its type says"),
    ("401", "The token is missing or wrong"),
    ("403", "The request is for another host, or from a page of another site"),
    ("408", "The body came too slowly"),
    ("413", "The body is too long"),
    ("415", "The media type is not accepted"),
    ("426", "The request is not that of a WebSocket"),
    ("500", "A node failed: type and message are those of its exception"),
    ("503", "The service has no room now, or is closing"),
    ("504", "The call took too long"),
    ("default", "The request failed"),
];

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// References to the responses with these statuses.
pub(super) fn problems(statuses: &[&str]) -> Map<String, Value> {
    let of_status =
        |status: &&str| ((*status).to_owned(), json!({ "$ref": format!("#/components/responses/{status}") }));
    statuses.iter().map(of_status).collect()
}

pub(super) fn responses() -> Map<String, Value> {
    let response = |(status, description): (&str, &str)| {
        let mut headers = id_header();
        if status == "503" {
            headers["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" });
        }
        let content = json!({ "application/json": { "schema": reference("Problem") } });
        (status.to_owned(), json!({ "description": description, "headers": headers, "content": content }))
    };
    PROBLEMS.into_iter().map(response).collect()
}

pub(super) fn id_header() -> Value {
    json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } })
}

pub(super) fn headers() -> Value {
    json!({
        "RequestId": { "description": "The id of the request, that of the client or a new one", "schema": { "type": "string" } },
        "RetryAfter": { "description": "When to try again, in seconds", "schema": { "type": "integer" } },
    })
}

/// The layout of raw audio, in the query.
pub(super) fn audio_parameters(is_stream: bool) -> Vec<Value> {
    let parameter = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let number = |most: u32, default: Option<u32>| match default {
        Some(default) => json!({ "type": "integer", "minimum": 1, "maximum": most, "default": default }),
        None => json!({ "type": "integer", "minimum": 1, "maximum": most }),
    };
    let rate = if is_stream {
        "The sample rate of raw audio, in Hz; it is required for application/octet-stream"
    } else {
        "The sample rate of binary frames, in Hz"
    };
    let formats = json!({ "enum": ["u8", "s16le", "s24le", "s32le", "f32le"], "default": "s16le" });
    let mut parameters = vec![
        parameter("rate", rate, number(10_000_000, (!is_stream).then_some(16_000))),
        parameter("channels", "The number of channels of raw audio", number(1024, Some(1))),
        parameter("format", "The sample format of raw audio", formats),
    ];
    if is_stream {
        parameters.push(parameter(
            "chunk_ms",
            "The duration of each item of audio, in milliseconds",
            number(60_000, Some(20)),
        ));
    }
    parameters
}

/// The schemas of what the service says itself.
pub(super) fn schemas() -> Map<String, Value> {
    let schemas = json!({
        "Problem": {
            "title": "Problem", "type": "object", "required": ["type", "message", "node_id", "request_id"],
            "properties": {
                "type": { "type": "string", "description": "The class of the error" },
                "message": { "type": "string" },
                "node_id": { "type": ["string", "null"], "description": "The node that failed, if one did" },
                "request_id": { "type": "string" },
            },
        },
        "Event": {
            "title": "Event", "type": "object", "required": ["$event"],
            "properties": { "$event": { "enum": ["ready", "audio", "interrupted", "error", "end"] } },
        },
        "StreamError": {
            "title": "StreamError",
            "allOf": [reference("Problem"), { "type": "object", "required": ["$event"], "properties": { "$event": { "const": "error" } } }],
        },
        "Status": status(),
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

fn status() -> Value {
    let object = |names: &[&str], schema: &Value| {
        let properties: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), schema.clone())).collect();
        json!({ "type": "object", "required": names, "properties": properties })
    };
    let (count, number, text) =
        (json!({ "type": "integer", "minimum": 0 }), json!({ "type": "number" }), json!({ "type": "string" }));
    let counts = ["stage", "items_in", "items_out", "errors", "restarts", "retries", "dropped"];
    let node = json!({ "allOf": [
        object(&["id", "type", "placement"], &text),
        object(&counts, &count),
        object(&["p50_us", "p99_us", "total_us"], &number),
        object(&["queue_len", "queue_capacity"], &json!({ "type": ["integer", "null"] })),
    ] });
    let sessions = json!({ "allOf": [object(&["open", "max", "warm"], &count), object(&["own_nodes"], &json!({ "type": "boolean" }))] });
    let error = json!({ "allOf": [
        reference("Problem"),
        object(&["time"], &json!({ "description": "Seconds since 1970" })),
        object(&["traceback"], &json!({ "type": ["string", "null"] })),
    ] });
    let properties = json!({
        "pipeline": text, "version": text, "state": { "enum": ["ready", "draining"] }, "uptime_s": number,
        "sessions": sessions,
        "calls": object(&["in_progress", "max", "total", "failed"], &count),
        "nodes": { "type": "array", "items": node },
        "edges": { "type": "array", "items": { "type": "array", "prefixItems": [text, text], "minItems": 2, "maxItems": 2 } },
        "errors": { "type": "array", "items": error },
    });
    let names: Vec<_> = properties.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    json!({ "title": "Status", "type": "object", "required": names, "properties": properties })
}
