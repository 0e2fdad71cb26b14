//! JSON lines: one JSON value a line, blank lines aside.

use std::io::BufRead;

use indexmap::IndexMap;
use remotemedia_runtime::Value;
use serde::de::Error as _;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::lines::Lines;
use crate::failure::Failure;

/// A number of fewer digits always fits into an `i64`.
const DIGITS_THAT_FIT: usize = 18;

/// The parser nests no deeper either.
const MAX_DEPTH: usize = 128;

/// The values of a file of JSON lines.
pub(crate) fn items(reader: impl BufRead, name: String) -> impl Iterator<Item = Result<Value, Failure>> {
    let mut lines = Lines::new(reader, name);
    std::iter::from_fn(move || {
        loop {
            match lines.next()? {
                Err(failure) => return Some(Err(failure)),
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Some(parse(&line).map_err(|what| lines.failure(what))),
            }
        }
    })
}

/// The value of a line of JSON; the error continues a sentence that says where it is.
pub(crate) fn parse(line: &str) -> Result<Value, String> {
    let parsed = if has_odd_integer(line) {
        serde_json::from_str(line).and_then(|raw| exact(raw, MAX_DEPTH))
    } else {
        serde_json::from_str(line).map(to_value)
    };
    parsed.map_err(|error| {
        if let Some((word, column)) = word_of_no_number(line) {
            return format!("not JSON: {word} at column {column}; JSON has no such number; write null, or omit it");
        }
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        let hint = if error.is_eof() {
            "; each line must contain one complete JSON value (convert the file with jq -c .)"
        } else {
            ""
        };
        format!("not JSON: {what} at column {}{hint}", error.column())
    })
}

/// Whether the parser would make a float of some integer: of one that an `i64` cannot hold, or of `-0`.
fn has_odd_integer(line: &str) -> bool {
    let is_odd = |number: &str| {
        let is_integer = !number.contains(['.', 'e', 'E']);
        is_integer && (number == "-0" || number.len() > DIGITS_THAT_FIT && number.parse::<i64>().is_err())
    };
    Words(line, 0).any(|(word, _)| word.starts_with(is_numeric) && is_odd(word))
}

/// What other programs write for a number that is none, and its column.
fn word_of_no_number(line: &str) -> Option<(&str, usize)> {
    let mut words = Words(line, 0);
    let (word, at) = words.find(|(word, _)| ["NaN", "Infinity", "-Infinity"].contains(word))?;
    Some((word, at + 1))
}

fn is_numeric(character: char) -> bool {
    character == '-' || character.is_ascii_digit()
}

/// The numbers and bare words of a line of JSON that may be broken, with their places. Texts in quotes are passed over.
struct Words<'a>(&'a str, usize);

impl<'a> Iterator for Words<'a> {
    type Item = (&'a str, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let Self(line, at) = self;
        let bytes = line.as_bytes();
        loop {
            match bytes.get(*at)? {
                b'"' => *at = end_of_string(bytes, *at + 1),
                byte if byte.is_ascii_alphanumeric() || *byte == b'-' => {
                    let start = *at;
                    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                    *at += bytes[start..].iter().take_while(is_part).count();
                    return Some((&line[start..*at], start));
                }
                _ => *at += 1,
            }
        }
    }
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| *byte != b'"') {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The value of checked JSON with all digits of its integers. It is taken apart level by level, where each number is still as it
/// was written.
fn exact(raw: &RawValue, depth_left: usize) -> serde_json::Result<Value> {
    let written = raw.get();
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(serde_json::Error::custom("recursion limit exceeded"));
    };
    match written.as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(written)?;
            items.into_iter().map(|item| exact(item, depth_left)).collect::<Result<_, _>>().map(Value::List)
        }
        Some(b'{') => {
            // Of equal keys the last one counts, in the place of the first.
            let entries: IndexMap<String, &RawValue> = serde_json::from_str(written)?;
            let exact_entry = |(key, value)| Ok((key, exact(value, depth_left)?));
            entries.into_iter().map(exact_entry).collect::<Result<_, _>>().map(Value::Map)
        }
        Some(b'-' | b'0'..=b'9') if !written.contains(['.', 'e', 'E']) => {
            Ok(written.parse().map_or_else(|_| Value::BigInt(written.to_owned()), Value::Int))
        }
        _ => serde_json::from_str(written).map(to_value),
    }
}

fn to_value(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Int(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(to_value).collect()),
        Json::Object(entries) => Value::Map(entries.into_iter().map(|(key, value)| (key, to_value(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_all_their_digits() {
        let big = |digits: &str| Ok(Value::BigInt(digits.to_owned()));
        let long = "7".repeat(1000);

        assert_eq!(parse("9223372036854775807"), Ok(Value::Int(i64::MAX)));
        assert_eq!(parse("-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(parse("9223372036854775808"), big("9223372036854775808"));
        assert_eq!(parse("-9223372036854775809"), big("-9223372036854775809"));
        assert_eq!(parse(&long), big(&long));
        assert_eq!(
            parse(r#" {"a": [18446744073709551615, "9", 1.5, null], "b": true}"#),
            Ok(Value::Map(vec![
                (
                    "a".into(),
                    Value::List(vec![
                        Value::BigInt("18446744073709551615".into()),
                        Value::Text("9".into()),
                        Value::Float(1.5),
                        Value::Null
                    ])
                ),
                ("b".into(), Value::Bool(true)),
            ]))
        );
    }

    #[test]
    fn minus_0_is_an_integer_where_it_is_written_as_one() {
        assert_eq!(parse("[-0, 1]"), Ok(Value::List(vec![Value::Int(0), Value::Int(1)])));
        assert!(matches!(parse("-0.0"), Ok(Value::Float(number)) if number.is_sign_negative()));
        assert!(matches!(parse("-0e0"), Ok(Value::Float(number)) if number.is_sign_negative()));
    }

    #[test]
    fn lines_with_long_integers_are_checked_like_others() {
        let long = "9".repeat(20);

        assert!(parse(&format!("{}{long}", "[".repeat(100_000))).is_err());
        let nested = format!("{}{long}{}", "[".repeat(200), "]".repeat(200));
        assert!(parse(&nested).unwrap_err().contains("recursion limit"));
        for broken in
            [format!("[{long}"), format!("{long} 1"), format!("-{long}a"), format!("[1e999, {long}]"), "-".into()]
        {
            assert!(parse(&broken).unwrap_err().starts_with("not JSON: "), "{broken}");
        }
        assert_eq!(
            parse(&format!(r#"{{"a": 1, "b": 2, "a": {long}}}"#)),
            Ok(Value::Map(vec![("a".into(), Value::BigInt(long)), ("b".into(), Value::Int(2))]))
        );
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        let text = |word, column| {
            Err(format!("not JSON: {word} at column {column}; JSON has no such number; write null, or omit it"))
        };

        assert_eq!(parse(r#"{"NaN": NaN}"#), text("NaN", 9));
        assert_eq!(parse("[1, -Infinity]"), text("-Infinity", 5));
        assert_eq!(parse("Infinity"), text("Infinity", 1));
        assert_eq!(parse(r#""NaN"#).unwrap_err().split(" at ").next(), Some("not JSON: EOF while parsing a string"));
    }

    #[test]
    fn long_digits_in_text_and_fractions_are_not_long_integers() {
        let line =
            r#"{"9999999999999999999\"": "99999999999999999999", "f": 1.00000000000000000000000001, "e": 1e300}"#;

        assert!(!has_odd_integer(line));
        assert!(matches!(parse(line), Ok(Value::Map(entries)) if entries.len() == 3));
    }

    #[test]
    fn fractions_are_read_to_the_last_bit() {
        assert_eq!(parse("0.1"), Ok(Value::Float(0.1)));
        assert_eq!(parse("5e-324"), Ok(Value::Float(5e-324)));
        assert_eq!(parse("122.41629403378659"), Ok(Value::Float(122.416_294_033_786_59)));
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(parse(r#"{"a": 1, "a": 2}"#), Ok(Value::Map(vec![("a".into(), Value::Int(2))])));
    }
}
