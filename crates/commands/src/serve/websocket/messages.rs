//! What the messages of a session mean.

use axum::body::Bytes;
use axum::extract::ws::Message;
use axum::http::StatusCode;
use remotemedia_runtime::{AudioChunk, Value};
use serde_json::json;

use crate::input::{Layout, json as json_items};
use crate::output::json;
use crate::serve::requests::reply::Problem;
use crate::serve::requests::request_id::RequestId;

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Item(Value),
    End,
    Interrupt,
}

/// Reads messages, and counts the audio in them.
pub(super) struct Reader {
    layout: Layout,
    frames: u64,
}

impl Reader {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, frames: 0 }
    }

    /// What a message asks for, and its size; nothing for those of the protocol itself.
    pub(super) fn read(&mut self, message: &Message) -> Result<Option<(Request, usize)>, Problem> {
        match message {
            Message::Text(text) => {
                let item =
                    json_items::parse(text).map_err(|what| bad("JsonError", format!("the message is {what}")))?;
                let control = control_of(&item)?;
                Ok(Some((control.unwrap_or(Request::Item(item)), text.len())))
            }
            Message::Binary(samples) => {
                let audio = self.audio_of(samples)?;
                Ok(Some((Request::Item(Value::Audio(audio)), samples.len())))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
        }
    }

    fn audio_of(&mut self, samples: &Bytes) -> Result<AudioChunk, Problem> {
        let Layout { rate, channels, sample_format } = self.layout;
        let frame = sample_format.width() * usize::from(channels);
        if samples.is_empty() || !samples.len().is_multiple_of(frame) {
            let message = format!(
                "a binary message must hold whole frames of {channels} channel{}, {}, of {frame} bytes each; this one has {} bytes",
                if channels == 1 { "" } else { "s" },
                sample_format.name(),
                samples.len()
            );
            return Err(bad("AudioError", message));
        }
        #[allow(clippy::cast_precision_loss, reason = "frame counts stay far below 2^52")]
        let start_secs = self.frames as f64 / f64::from(rate);
        self.frames += (samples.len() / frame) as u64;
        Ok(AudioChunk { samples: sample_format.decode(samples), channels, sample_rate: rate, start_secs })
    }
}

/// The order in `{"$control": "…"}`.
fn control_of(item: &Value) -> Result<Option<Request>, Problem> {
    let Value::Map(entries) = item else { return Ok(None) };
    let mut entries = entries.iter();
    let (Some((name, Value::Text(order))), None) = (entries.next(), entries.next()) else { return Ok(None) };
    if name != "$control" {
        return Ok(None);
    }
    match order.as_str() {
        "interrupt" => Ok(Some(Request::Interrupt)),
        "end" => Ok(Some(Request::End)),
        other => Err(bad("ControlError", format!("'{other}' is not known; send interrupt or end"))),
    }
}

/// Writes outputs as messages.
pub(super) struct Writer {
    layout: Layout,
    /// The rate and channels that the client was told last.
    told: Option<(u32, u16)>,
}

impl Writer {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, told: None }
    }

    /// The messages of an output: one, or two when audio of another kind begins.
    pub(super) fn write(&mut self, output: Value) -> Result<(Option<Message>, Message), Problem> {
        match output {
            Value::Bytes(bytes) => Ok((None, Message::binary(bytes))),
            Value::Audio(audio) => {
                let kind = (audio.sample_rate, audio.channels);
                let is_new = self.told.replace(kind) != Some(kind);
                let format = self.layout.sample_format;
                let event = is_new
                    .then(|| event("audio", json!({"rate": kind.0, "channels": kind.1, "format": format.name()})));
                let mut bytes = Vec::new();
                format.encode(&audio.samples, &mut bytes);
                Ok((event, Message::binary(bytes)))
            }
            value => {
                let mut text = Vec::new();
                let written = json::write(&value, &mut text).map_err(|what| format!("the output {what}"));
                let text = written.and_then(|()| String::from_utf8(text).map_err(|error| error.to_string()));
                let text = text.map_err(|what| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "OutputError", what))?;
                Ok((None, Message::text(text)))
            }
        }
    }
}

/// Something else than an output: an object with its name under `$event`.
pub(super) fn event(name: &str, fields: serde_json::Value) -> Message {
    let mut object = serde_json::Map::new();
    object.insert("$event".to_owned(), json!(name));
    if let serde_json::Value::Object(fields) = fields {
        object.extend(fields);
    }
    Message::text(serde_json::Value::Object(object).to_string())
}

/// The event that something has failed.
pub(super) fn error(problem: &Problem, id: &RequestId) -> Message {
    event("error", serde_json::Value::Object(problem.fields(id)))
}

fn bad(type_name: &str, message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, type_name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_format::SampleFormat;

    const LAYOUT: Layout = Layout { rate: 16_000, channels: 2, sample_format: SampleFormat::S16le };

    fn read(message: &Message) -> Option<Request> {
        Reader::new(LAYOUT).read(message).unwrap().map(|(request, _)| request)
    }

    #[test]
    fn control_messages_have_a_single_key() {
        assert_eq!(read(&Message::text(r#"{"$control": "interrupt"}"#)), Some(Request::Interrupt));
        assert_eq!(read(&Message::text(r#"{"$control": "end"}"#)), Some(Request::End));
        assert!(matches!(read(&Message::text(r#"{"$control": "end", "a": 1}"#)), Some(Request::Item(_))));
        assert!(Reader::new(LAYOUT).read(&Message::text(r#"{"$control": "x"}"#)).is_err());
        assert_eq!(read(&Message::Ping(Bytes::new())), None);
    }

    #[test]
    fn the_time_of_audio_goes_on() {
        let mut reader = Reader::new(LAYOUT);
        let message = Message::binary(vec![0; 1600 * 4]);

        let starts: Vec<_> = (0..3)
            .map(|_| match reader.read(&message).unwrap() {
                Some((Request::Item(Value::Audio(audio)), _)) => audio.start_secs,
                other => panic!("{other:?}"),
            })
            .collect();

        assert_eq!(starts, [0.0, 0.1, 0.2]);
        assert!(reader.read(&Message::binary(vec![0; 3])).is_err());
    }

    #[test]
    fn audio_is_announced_when_its_kind_changes() {
        let mut writer = Writer::new(LAYOUT);
        let mut is_announced = |rate| {
            let audio = AudioChunk { samples: vec![0.5], channels: 1, sample_rate: rate, start_secs: 0.0 };
            writer.write(Value::Audio(audio)).unwrap().0.is_some()
        };

        assert_eq!([8000, 8000, 16_000, 8000].map(&mut is_announced), [true, false, true, true]);
    }
}
