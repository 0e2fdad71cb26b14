//! Values as JSON, or the exact place of what JSON has no word for.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use remotemedia_runtime::Value;
use serde::ser::{Error, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Deeper than any data that is meant; without a limit a value that nests without end would overflow the stack.
const MAX_DEPTH: usize = 500;

/// Append `value` as JSON on one line; the error continues the sentence "output 3 …".
pub(crate) fn write(value: &Value, buffer: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(buffer, &Shown { value, depth: 0 }).map_err(|error| match unwritable(value, "", 0) {
        Some((place, what)) if place.is_empty() => what.alone(),
        Some((place, what)) => format!("cannot be written as JSON: {place} {}", what.inside()),
        None => format!("cannot be written as JSON: {error}"),
    })
}

struct Shown<'a> {
    value: &'a Value,
    depth: usize,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(S::Error::custom(""));
        }
        match self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(integer) => serializer.serialize_i64(*integer),
            Value::BigInt(digits) => {
                RawValue::from_string(digits.clone()).map_err(S::Error::custom)?.serialize(serializer)
            }
            Value::Float(number) if number.is_finite() => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    list.serialize_element(&Shown { value, depth })?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, &Shown { value, depth })?;
                }
                map.end()
            }
            Value::Bytes(bytes) => serializer.serialize_str(&BASE64_STANDARD.encode(bytes)),
            Value::Float(_) | Value::Audio(_) => Err(S::Error::custom("")),
        }
    }
}

enum Unwritable {
    Number(f64),
    Audio,
    TooDeep,
}

impl Unwritable {
    fn alone(&self) -> String {
        match self {
            Self::Audio => {
                "is audio, which JSON and text cannot contain; use --output FILE.wav, or --output-format raw".into()
            }
            other => format!("cannot be written as JSON: it {}", other.inside()),
        }
    }

    fn inside(&self) -> String {
        match self {
            Self::Number(number) if number.is_nan() => {
                "is NaN, which JSON cannot represent; replace it in the node".into()
            }
            Self::Number(_) => "is infinite, which JSON cannot represent; replace it in the node".into(),
            Self::Audio => "is audio; return it as a separate item, and use --output FILE.wav".into(),
            Self::TooDeep => format!("is nested more than {MAX_DEPTH} levels deep"),
        }
    }
}

/// The first part of `value` that cannot be written, and where it is, as in `.words[2].score`.
fn unwritable(value: &Value, place: &str, depth: usize) -> Option<(String, Unwritable)> {
    if depth >= MAX_DEPTH {
        return Some((shortened(place), Unwritable::TooDeep));
    }
    match value {
        Value::Float(number) if !number.is_finite() => Some((place.to_owned(), Unwritable::Number(*number))),
        Value::Audio(_) => Some((place.to_owned(), Unwritable::Audio)),
        Value::List(items) => {
            items.iter().enumerate().find_map(|(index, item)| unwritable(item, &format!("{place}[{index}]"), depth + 1))
        }
        Value::Map(entries) => {
            entries.iter().find_map(|(key, item)| unwritable(item, &format!("{place}.{key}"), depth + 1))
        }
        _ => None,
    }
}

fn shortened(place: &str) -> String {
    if place.chars().count() <= 40 { place.to_owned() } else { place.chars().take(40).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(value: &Value) -> String {
        write(value, &mut Vec::new()).unwrap_err()
    }

    #[test]
    fn order_and_kind_of_numbers_survive() {
        let value = Value::Map(vec![("b".into(), Value::Float(1.0)), ("a".into(), Value::Int(1))]);
        let mut bytes = Vec::new();

        write(&value, &mut bytes).unwrap();

        assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"b":1.0,"a":1}"#);
    }

    #[test]
    fn long_integers_keep_their_digits_and_bytes_are_base64() {
        let value = Value::List(vec![Value::BigInt("-18446744073709551616".into()), Value::Bytes(b"fo".to_vec())]);
        let mut bytes = Vec::new();

        write(&value, &mut bytes).unwrap();

        assert_eq!(String::from_utf8(bytes).unwrap(), r#"[-18446744073709551616,"Zm8="]"#);
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_its_place() {
        let value = Value::Map(vec![("scores".into(), Value::List(vec![Value::Float(0.5), Value::Float(f64::NAN)]))]);

        assert_eq!(
            error_of(&value),
            "cannot be written as JSON: .scores[1] is NaN, which JSON cannot represent; replace it in the node"
        );
        assert!(error_of(&Value::Float(f64::INFINITY)).contains("it is infinite"));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let deep = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| Value::List(vec![inner]));

        assert!(error_of(&deep).contains("more than 500 levels"));
    }
}
