//! `GET /openapi.json`: the service for programs that read descriptions, as OpenAPI 3.1.

mod items;
mod parts;

use serde_json::{Map, Value, json};

use items::{Form, ItemTypes};
use parts::{WAV, problems, reference};

use crate::serve::settings::Settings;

/// The media type of short answers.
const TEXT: &str = "text/plain";

/// The description of a service of this pipeline. `item_schemas` is what is known of its items, as JSON.
pub(crate) fn document(pipeline: &str, settings: &Settings, item_schemas: Option<&str>) -> Vec<u8> {
    let types = ItemTypes::read(item_schemas);
    let mut schemas = parts::schemas();
    schemas.extend(types.definitions.clone());
    let mut components = json!({ "schemas": schemas, "responses": parts::responses(), "headers": parts::headers() });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": pipeline,
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("The pipeline '{pipeline}', served by RemoteMedia."),
        },
        "paths": paths(&types, settings),
    });
    if settings.token.is_some() {
        components["securitySchemes"] = json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    document["components"] = components;
    document.to_string().into_bytes()
}

fn paths(types: &ItemTypes, settings: &Settings) -> Value {
    let is_guarded = settings.token.is_some();
    let report = |id: &str, summary: &str, content: &Value| {
        let responses = answers(is_guarded, &[], "What is known now", content);
        json!({ "get": { "operationId": id, "summary": summary, "responses": responses } })
    };
    let page = json!({ "text/html": { "schema": { "type": "string" } } });
    json!({
        "/call": { "post": call(types, settings) },
        "/stream": { "post": stream(types, is_guarded) },
        "/session": { "get": session(types, is_guarded) },
        "/status": report("status", "Nodes, sessions, calls and the latest errors", &as_json(&reference("Status"))),
        "/metrics": report("metrics", "Requests, nodes and the process, for Prometheus", &text()),
        "/openapi.json": report("openapi", "This document", &as_json(&json!({ "type": "object" }))),
        "/healthz": { "get": open("health", "Whether the process runs", "It runs", &text()) },
        "/readyz": { "get": readiness() },
        "/": { "get": open("page", "A page to see and try the pipeline", "The page", &page) },
    })
}

fn call(types: &ItemTypes, settings: &Settings) -> Value {
    let mut content = types.output.bytes_content();
    if let Some(result) = &types.result {
        content.insert("application/json".to_owned(), json!({ "schema": result }));
    }
    let description = format!(
        "One item. JSON is the item itself; audio/wav becomes one frame of audio, and application/octet-stream bytes. \
         At most {} bytes; at most {} calls are in progress at once, and one may take {} s.",
        settings.max_body,
        settings.max_in_flight,
        settings.request_timeout.as_secs_f64(),
    );
    json!({
        "operationId": "call",
        "summary": "Pass one item through the pipeline",
        "description": "The result is null for no output, the only output, or a list of several.",
        "requestBody": {
            "required": true,
            "description": description,
            "content": input_content(&types.input, "application/json"),
        },
        "responses": answers(
            settings.token.is_some(),
            &["400", "408", "413", "415", "500", "503", "504"],
            "The outputs of the item",
            &Value::Object(content),
        ),
    })
}

fn stream(types: &ItemTypes, is_guarded: bool) -> Value {
    let content = input_content(&types.input, "application/x-ndjson");
    let line = json!({ "anyOf": [types.output.schema(), reference("StreamError")] });
    let response = json!({
        "application/x-ndjson": { "schema": line },
        "text/event-stream": { "schema": { "type": "string" } },
    });
    json!({
        "operationId": "stream",
        "summary": "Pass a stream of items through the pipeline",
        "description": "The body is read as it arrives, and outputs are sent as they are made: as JSON lines, or as Server-Sent \
                        Events if the header Accept names text/event-stream. The schemas are those of one line. An error is the last line.",
        "parameters": parts::audio_parameters(true),
        "requestBody": {
            "required": true,
            "description": "JSON lines, a WAV file, or raw audio, whose layout is in the query.",
            "content": content,
        },
        "responses": answers(is_guarded, &["400", "415", "503"], "The outputs, one after the other", &response),
    })
}

fn session(types: &ItemTypes, is_guarded: bool) -> Value {
    let mut responses = answers(is_guarded, &["400", "426", "503"], "", &json!({}));
    responses.remove("200");
    responses.insert("101".to_owned(), json!({ "description": "The WebSocket is open" }));
    json!({
        "operationId": "session",
        "summary": "A live session on a WebSocket",
        "description": "Text frames of the client are items as JSON, or {\"$control\": \"interrupt\"} and {\"$control\": \"end\"}; binary \
                        frames are raw audio. Text frames of the server are outputs as JSON, or events, which have the key $event; binary \
                        frames are outputs of bytes or audio. A browser gives its token as a subprotocol: remotemedia, token.TOKEN.",
        "parameters": parts::audio_parameters(false),
        "responses": responses,
        "x-items": { "input": types.input.schema(), "output": types.output.schema(), "event": reference("Event") },
    })
}

/// The bodies that become items; `json_type` is that of those that are JSON.
fn input_content(input: &Form, json_type: &str) -> Map<String, Value> {
    let mut content = Map::new();
    if let Some(schema) = &input.json {
        content.insert(json_type.to_owned(), json!({ "schema": schema }));
    }
    if input.audio {
        content.insert(WAV.to_owned(), json!({}));
    }
    // `/stream` takes it as audio, and `/call` as bytes.
    if input.bytes || (input.audio && json_type != "application/json") {
        content.insert("application/octet-stream".to_owned(), json!({}));
    }
    content
}

fn readiness() -> Value {
    let mut readiness = open("readiness", "Whether items are accepted", "They are", &text());
    let refused = "The service is closing, or as many sessions are open as may be";
    readiness["responses"]["503"] = json!({ "description": refused, "content": text() });
    readiness
}

/// A path for those who have no token.
fn open(id: &str, summary: &str, description: &str, content: &Value) -> Value {
    json!({
        "operationId": id, "summary": summary, "security": [],
        "responses": answers(false, &[], description, content),
    })
}

/// The responses of a path: that of success, and problems.
fn answers(is_guarded: bool, statuses: &[&str], description: &str, content: &Value) -> Map<String, Value> {
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({ "description": description, "content": content, "headers": parts::id_header() }),
    );
    responses.extend(problems(statuses));
    responses.extend(problems(if is_guarded { &["401", "403"] } else { &["403"] }));
    responses
}

fn as_json(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn text() -> Value {
    json!({ TEXT: { "schema": { "type": "string" } } })
}
