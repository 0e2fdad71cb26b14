//! Reads JSON text into a [`Tree`].
//!
//! `serde_json` checks the syntax of the whole text first, so that the reader here, which knows the line of each value and sees a
//! number as it is written, meets no mistakes in it.

use std::borrow::Cow;

use serde_json::Number;
use serde_json::value::RawValue;

use super::tree::{Content, MAX_DEPTH, Path, Tree, refused, shortened};
use crate::error::{Error, Result};

pub(super) fn read(text: &str) -> Result<Tree<'_>> {
    serde_json::from_str::<&RawValue>(text).map_err(|error| broken(&error))?;
    let mut reader = Reader { text, at: 0, line: 1 };
    reader.next_byte();
    reader.value(reader.line, &Path::Root, 0)
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

/// Goes once through a text whose syntax is checked.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The line of `at`, as there are line ends in white space alone.
    line: usize,
}

impl<'a> Reader<'a> {
    /// The next value. `line` is that of the name it stands under, or its own.
    fn value(&mut self, line: usize, path: &Path<'_>, depth: usize) -> Result<Tree<'a>> {
        if depth >= MAX_DEPTH {
            return Err(refused(line, path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let content = match self.next_byte() {
            b'{' => return Tree::object(line, self.fields(path, depth)?, path),
            b'[' => Content::List(self.elements(path, depth)?),
            b'"' => Content::Text(self.string(line, path)?),
            _ => match self.word() {
                "null" => Content::Null,
                "true" => Content::Bool(true),
                "false" => Content::Bool(false),
                number => Content::Number(exact_number(number).map_err(|message| refused(line, path, message))?),
            },
        };
        Ok(Tree { line, content })
    }

    fn elements(&mut self, path: &Path<'_>, depth: usize) -> Result<Vec<Tree<'a>>> {
        let mut elements = Vec::new();
        self.at += 1;
        while self.next_byte() != b']' {
            elements.push(self.value(self.line, &path.element(elements.len()), depth + 1)?);
            self.skip_comma();
        }
        self.at += 1;
        Ok(elements)
    }

    fn fields(&mut self, path: &Path<'_>, depth: usize) -> Result<Vec<(Cow<'a, str>, Tree<'a>)>> {
        let mut fields = Vec::new();
        self.at += 1;
        while self.next_byte() != b'}' {
            let line = self.line;
            let name = self.string(line, path)?;
            self.next_byte();
            // The colon.
            self.at += 1;
            let tree = self.value(line, &path.field(&name), depth + 1)?;
            fields.push((name, tree));
            self.skip_comma();
        }
        self.at += 1;
        Ok(fields)
    }

    fn string(&mut self, line: usize, path: &Path<'_>) -> Result<Cow<'a, str>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        let mut is_plain = true;
        while bytes[end] != b'"' {
            is_plain &= bytes[end] != b'\\';
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        if is_plain {
            return Ok(Cow::Borrowed(&self.text[start + 1..end]));
        }
        // Half a surrogate pair is not seen before.
        let unescaped = serde_json::from_str(&self.text[start..=end]);
        unescaped.map(Cow::Owned).map_err(|error| refused(line, path, format!("not valid JSON: {}", cause(&error))))
    }

    /// A number or a literal.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let len = rest.bytes().position(|byte| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace());
        let word = &rest[..len.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn skip_comma(&mut self) {
        if self.next_byte() == b',' {
            self.at += 1;
        }
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> u8 {
        loop {
            match self.text.as_bytes()[self.at] {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                byte => return byte,
            }
            self.at += 1;
        }
    }
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
