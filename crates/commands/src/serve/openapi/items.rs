//! What is known of the items of a pipeline.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The types of the items that a pipeline takes, and of its outputs.
#[derive(Debug, Deserialize)]
pub(super) struct ItemTypes {
    pub(super) input: Form,
    pub(super) output: Form,
    /// The schema of all outputs of one item; none if they are never JSON.
    pub(super) result: Option<Value>,
    /// The schemas that others refer to.
    pub(super) definitions: Map<String, Value>,
}

/// The forms that an item can have.
#[derive(Debug, Deserialize)]
pub(super) struct Form {
    /// The schema of its JSON values, if it has any.
    pub(super) json: Option<Value>,
    pub(super) audio: bool,
    pub(super) bytes: bool,
}

impl ItemTypes {
    /// Read what the loader says; items may be anything if it says nothing.
    pub(super) fn read(text: Option<&str>) -> Self {
        let said = text.and_then(|text| serde_json::from_str(text).ok());
        said.unwrap_or_else(|| Self {
            input: Form::anything(),
            output: Form::anything(),
            result: Some(json!({})),
            definitions: Map::new(),
        })
    }
}

impl Form {
    fn anything() -> Self {
        Self { json: Some(json!({})), audio: true, bytes: true }
    }

    /// The schema of its JSON values; that of none if it has none.
    pub(super) fn schema(&self) -> Value {
        self.json.clone().unwrap_or(Value::Bool(false))
    }

    /// How it is sent if it is bytes.
    pub(super) fn bytes_content(&self) -> Map<String, Value> {
        let mut content = Map::new();
        if self.bytes {
            content.insert("application/octet-stream".to_owned(), json!({}));
        }
        content
    }
}
