//! JSON lines: one JSON value a line, blank lines aside.

use std::io::BufRead;

use remotemedia_runtime::Value;
use serde_json::Value as Json;

use super::lines::Lines;
use crate::Failure;

/// A number of fewer digits always fits into an `i64`.
const DIGITS_THAT_FIT: usize = 18;

/// The values of a file of JSON lines.
pub(crate) struct JsonItems<R> {
    lines: Lines<R>,
    is_over: bool,
}

impl<R: BufRead> JsonItems<R> {
    pub(crate) fn new(reader: R, name: String) -> Self {
        Self { lines: Lines::new(reader, name), is_over: false }
    }

    fn read(&mut self) -> Option<Result<Value, Failure>> {
        loop {
            match self.lines.next()? {
                Err(failure) => return Some(Err(failure)),
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Some(parse(&line).map_err(|what| self.lines.failure(what))),
            }
        }
    }
}

impl<R: BufRead> Iterator for JsonItems<R> {
    type Item = Result<Value, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let item = self.read();
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}

fn parse(line: &str) -> Result<Value, String> {
    let json: Json = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        let hint = if error.is_eof() { "; each line must hold one whole JSON value (jq -c . makes it so)" } else { "" };
        format!("not JSON: {what} at column {}{hint}", error.column())
    })?;
    if let Some(number) = oversized_integer(line) {
        return Err(format!(
            "the integer {number} does not fit into 64 bits; write it as text (\"{number}\") to keep all its digits"
        ));
    }
    Ok(to_value(json))
}

/// The first integer in a line of valid JSON that an `i64` cannot hold; the parser would round it in silence.
fn oversized_integer(line: &str) -> Option<&str> {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
                let number = &line[at..at + length];
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && length > DIGITS_THAT_FIT && number.parse::<i64>().is_err() {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
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
    fn integers_keep_all_their_digits_or_are_refused() {
        assert_eq!(parse("9223372036854775807"), Ok(Value::Int(i64::MAX)));
        assert_eq!(parse("-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert!(parse("[1, 9223372036854775808]").unwrap_err().contains("9223372036854775808 does not fit"));
        assert!(parse("123456789012345678901234567890").is_err());
    }

    #[test]
    fn long_digits_in_text_and_fractions_are_no_oversized_integers() {
        let line =
            r#"{"9999999999999999999\"": "99999999999999999999", "f": 1.00000000000000000000000001, "e": 1e300}"#;

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
