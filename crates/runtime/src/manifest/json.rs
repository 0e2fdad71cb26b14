//! Reads JSON text into a [`Tree`].
//!
//! `serde_json` checks the syntax of the whole text first and then takes it apart level by level. Each part is a slice of the
//! text, so its line is known, and a number is seen as it is written before anything rounds it.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use super::tree::{Content, MAX_DEPTH, Path, Tree, refused, shortened};
use crate::{Error, Result};

pub(super) fn read(text: &str) -> Result<Tree> {
    let root: &RawValue = serde_json::from_str(text).map_err(|error| broken(&error))?;
    let reader = Reader { text, line_ends: text.match_indices('\n').map(|(offset, _)| offset).collect() };
    let line = reader.line_of(root.get());
    reader.tree(root, line, &Path::Root, 0)
}

/// A number as a manifest keeps it, or what is wrong with it.
pub(super) fn exact_number(written: &str) -> Result<Number, String> {
    if let Ok(number) = written.parse::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = written.parse::<u64>() {
        return Ok(number.into());
    }
    let is_integer = written.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'+');
    if is_integer {
        return Err(format!("the integer {} does not fit in 64 bits; write it as a string", shortened(written)));
    }
    // The parser of the standard library, as it rounds to the nearest float in every case.
    let float: f64 = written.parse().map_err(|_| format!("'{}' is not a number", shortened(written)))?;
    Number::from_f64(float).ok_or_else(|| format!("the number {} is out of range", shortened(written)))
}

struct Reader<'a> {
    text: &'a str,
    line_ends: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn tree(&self, raw: &'a RawValue, line: usize, path: &Path<'_>, depth: usize) -> Result<Tree> {
        let written = raw.get();
        if depth >= MAX_DEPTH {
            return Err(refused(line, path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let content = match written.as_bytes().first() {
            Some(b'{') => return Tree::object(line, self.fields(written, line, path, depth)?, path),
            Some(b'[') => Content::List(self.elements(written, line, path, depth)?),
            Some(b'"') => Content::Text(parse(written, line, path)?),
            Some(b'n') => Content::Null,
            Some(b't') => Content::Bool(true),
            Some(b'f') => Content::Bool(false),
            _ => Content::Number(exact_number(written).map_err(|message| refused(line, path, message))?),
        };
        Ok(Tree { line, content })
    }

    fn elements(&self, written: &'a str, line: usize, path: &Path<'_>, depth: usize) -> Result<Vec<Tree>> {
        let elements: Vec<&RawValue> = parse(written, line, path)?;
        elements
            .into_iter()
            .enumerate()
            .map(|(index, raw)| self.tree(raw, self.line_of(raw.get()), &path.element(index), depth + 1))
            .collect()
    }

    fn fields(&self, written: &'a str, line: usize, path: &Path<'_>, depth: usize) -> Result<Vec<(String, Tree)>> {
        let Fields(fields) = parse(written, line, path)?;
        fields
            .into_iter()
            .map(|(raw_name, raw)| {
                let line = self.line_of(raw_name.get());
                let name: String = parse(raw_name.get(), line, path)?;
                let tree = self.tree(raw, line, &path.field(&name), depth + 1)?;
                Ok((name, tree))
            })
            .collect()
    }

    /// The line of a slice of the text.
    fn line_of(&self, part: &str) -> usize {
        let offset = part.as_ptr().addr() - self.text.as_ptr().addr();
        self.line_ends.partition_point(|&end| end < offset) + 1
    }
}

/// The fields of an object in their order, equal names kept apart.
struct Fields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn parse<'a, T: Deserialize<'a>>(written: &'a str, line: usize, path: &Path<'_>) -> Result<T> {
    serde_json::from_str(written).map_err(|error| refused(line, path, format!("not valid JSON: {}", cause(&error))))
}

fn broken(error: &serde_json::Error) -> Error {
    let message = format!("not valid JSON: {} (column {})", cause(error), error.column());
    refused(error.line(), &Path::Root, message)
}

/// The text of an error without the position, which stands in front of ours.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}
