//! What stands in a manifest, with the line of each value: the common form of JSON and YAML.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// How deep lists and objects may lie in one another. Keeps every walk over a tree far from the end of the stack.
pub(super) const MAX_DEPTH: usize = 128;

/// A value and the line on which it, or the name it stands under, begins.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    pub(super) line: usize,
    pub(super) content: Content<'t>,
}

/// A value as both formats know it. What stands in the text as it is is not copied.
#[derive(Debug)]
pub(super) enum Content<'t> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'t, str>),
    List(Vec<Tree<'t>>),
    Object(Vec<(Cow<'t, str>, Tree<'t>)>),
}

/// The way to a value from the root of its manifest.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(super) fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    pub(super) fn element(&'a self, index: usize) -> Self {
        Self::Element(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => formatter.write_str(name),
            Self::Field(parent, name) => write!(formatter, "{parent}.{name}"),
            Self::Element(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// The error about what stands at a place.
pub(super) fn refused(line: usize, path: &Path<'_>, message: impl Into<String>) -> Error {
    let place = match path {
        Path::Root => format!("line {line}"),
        _ => format!("line {line}, {}", shortened(&path.to_string())),
    };
    Error::Manifest { place, message: message.into() }
}

impl<'t> Tree<'t> {
    /// An object, unless two of its fields have the same name: one of them would be lost in silence.
    pub(super) fn object(line: usize, fields: Vec<(Cow<'t, str>, Self)>, path: &Path<'_>) -> Result<Self> {
        let repeated = match fields.len() {
            // Comparing a few names is several times faster than hashing them, and most objects are small.
            ..=16 => (1..fields.len()).find(|&index| fields[..index].iter().any(|(name, _)| *name == fields[index].0)),
            count => {
                let mut names = HashSet::with_capacity(count);
                fields.iter().position(|(name, _)| !names.insert(name))
            }
        };
        match repeated {
            None => Ok(Self { line, content: Content::Object(fields) }),
            Some(index) => {
                let (name, field) = &fields[index];
                Err(refused(field.line, &path.field(name), "appears twice; keep one of them"))
            }
        }
    }

    /// The line of each field, if this is an object.
    pub(super) fn field_lines(&self) -> Vec<(String, usize)> {
        match &self.content {
            Content::Object(fields) => {
                fields.iter().map(|(name, field)| (name.clone().into_owned(), field.line)).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn into_text(self, path: &Path<'_>) -> Result<String> {
        match self.content {
            Content::Text(text) => Ok(text.into_owned()),
            _ => Err(self.unexpected("a string", path)),
        }
    }

    /// A text that names something, and so has at least one message.
    pub(super) fn into_name(self, path: &Path<'_>) -> Result<String> {
        let line = self.line;
        let name = self.into_text(path)?;
        if name.trim().is_empty() { Err(refused(line, path, "must not be empty")) } else { Ok(name) }
    }

    pub(super) fn into_bool(self, path: &Path<'_>) -> Result<bool> {
        match self.content {
            Content::Bool(flag) => Ok(flag),
            _ => Err(self.unexpected("true or false", path)),
        }
    }

    pub(super) fn into_list(self, path: &Path<'_>) -> Result<Vec<Self>> {
        match self.content {
            Content::List(elements) => Ok(elements),
            _ => Err(self.unexpected("a list", path)),
        }
    }

    pub(super) fn into_object(self, path: &Path<'_>) -> Result<Vec<(Cow<'t, str>, Self)>> {
        match self.content {
            Content::Object(fields) => Ok(fields),
            _ => Err(self.unexpected("an object", path)),
        }
    }

    pub(super) fn into_map(self, path: &Path<'_>) -> Result<Map<String, Value>> {
        let fields = self.into_object(path)?;
        Ok(fields.into_iter().map(|(name, tree)| (name.into_owned(), tree.into_value())).collect())
    }

    pub(super) fn into_value(self) -> Value {
        match self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(flag),
            Content::Number(number) => Value::Number(number),
            Content::Text(text) => Value::String(text.into_owned()),
            Content::List(elements) => elements.into_iter().map(Tree::into_value).collect(),
            Content::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, tree)| (name.into_owned(), tree.into_value())).collect())
            }
        }
    }

    /// The error that says what was wanted here and what stands here.
    pub(super) fn unexpected(&self, wanted: &str, path: &Path<'_>) -> Error {
        refused(self.line, path, format!("expected {wanted}, found {}", self.content))
    }
}

impl fmt::Display for Content<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(flag) => write!(formatter, "{flag}"),
            Self::Number(number) => write!(formatter, "the number {number}"),
            Self::Text(text) => write!(formatter, "the string '{}'", shortened(text)),
            Self::List(_) => formatter.write_str("a list"),
            Self::Object(_) => formatter.write_str("an object"),
        }
    }
}

/// Text as it is quoted in a message: what a user wrote, up to a readable length.
pub(super) fn shortened(text: &str) -> String {
    const QUOTED_CHARS: usize = 100;
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
