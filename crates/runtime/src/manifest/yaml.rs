//! Reads YAML text into a [`Tree`].
//!
//! The types of plain scalars are those of YAML 1.2: `yes`, `0755` and `1_000` are text. What aliases may expand to is
//! bounded, so that a small text cannot fill the memory.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error as Broken, Location, Options, Spanned};

use super::json::exact_number;
use super::tree::{Content, MAX_DEPTH, Path, Tree, refused, shortened};
use crate::error::{Error, Result};

/// What [`MAX_DEPTH`] levels need with room to spare: the parser takes up to 40 kB a level in a debug build. The system gives only
/// the part of it that is used.
const STACK_BYTES: usize = 16 << 20;

pub(super) fn read(text: &str) -> Result<Tree<'_>> {
    // On a thread of its own: the caller may have little stack left.
    let thread = std::thread::Builder::new().name("remotemedia-yaml".to_owned()).stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let reading = thread
            .spawn_scoped(scope, || parse(text))
            .map_err(|error| refused(1, &Path::Root, format!("cannot start a thread to read it: {error}")))?;
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn parse(text: &str) -> Result<Tree<'_>> {
    let root: Placed = serde_saphyr::from_str_with_options(text, options(text)).map_err(|error| broken(&error))?;
    convert(text, root.raw, root.line, &Path::Root)
}

fn options(text: &str) -> Options {
    // Looking for merge keys in every object is a good part of the time; they have no other spelling.
    let merge_keys = if text.contains("<<") { MergeKeyPolicy::Merge } else { MergeKeyPolicy::AsOrdinary };
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_DEPTH,
            // More than the messages that the scanner looks ahead, so that the limit above is the one that is met.
            flow_nesting_limit: 2048,
            // Room for hundreds of thousands of nodes with a handful of fields each. Without aliases a text cannot hold
            // more events than messages, and what aliases add has limits of its own.
            max_events: 50_000_000,
            max_nodes: 50_000_000,
            max_aliases: 1_000_000,
            max_recorded_anchor_events: 200_000,
            // Many nodes may share the parameters of one anchor.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 1_000_000 },
        // Equal names are refused together with their path, by `Tree::object`.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: merge_keys,
        emit_comments: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// A value with the line on which it is used.
struct Placed {
    line: usize,
    raw: Raw,
}

/// The name of a field with its line.
struct Name {
    line: usize,
    text: String,
}

/// A value as the parser gives it. A float also says where in the text it is written.
enum Raw {
    Null,
    Bool(bool),
    Integer(Number),
    Float(f64, Range<usize>),
    Text(String),
    List(Vec<Placed>),
    Object(Vec<(Name, Placed)>),
}

fn convert<'t>(text: &'t str, raw: Raw, line: usize, path: &Path<'_>) -> Result<Tree<'t>> {
    let content = match raw {
        Raw::Null => Content::Null,
        Raw::Bool(flag) => Content::Bool(flag),
        Raw::Integer(number) => Content::Number(number),
        Raw::Float(float, at) => {
            let written = text.get(at).unwrap_or_default().trim();
            Content::Number(checked_float(float, written).map_err(|message| refused(line, path, message))?)
        }
        Raw::Text(text) => Content::Text(Cow::Owned(text)),
        Raw::List(elements) => {
            let elements = elements.into_iter().enumerate();
            let trees = elements.map(|(index, Placed { line, raw })| convert(text, raw, line, &path.element(index)));
            Content::List(trees.collect::<Result<_>>()?)
        }
        Raw::Object(fields) => {
            let fields = fields.into_iter().map(|(name, Placed { raw, .. })| {
                let tree = convert(text, raw, name.line, &path.field(&name.text))?;
                Ok((Cow::Owned(name.text), tree))
            });
            return Tree::object(line, fields.collect::<Result<_>>()?, path);
        }
    };
    Ok(Tree { line, content })
}

/// The parser reads an integer that is too long as a float; that would change it in silence.
fn checked_float(float: f64, written: &str) -> Result<Number, String> {
    let is_integer = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit() || b"+-".contains(&byte));
    if is_integer {
        return exact_number(written);
    }
    Number::from_f64(float).ok_or_else(|| format!("the number {} is out of range", shortened(written)))
}

fn line_of(location: Location) -> usize {
    usize::try_from(location.line()).unwrap_or(usize::MAX)
}

/// The bytes of the text in which a value is written.
fn range_of(location: Location) -> Option<Range<usize>> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    Some(start..start + len)
}

fn broken(error: &Broken) -> Error {
    let cause = cause(error);
    match error.location() {
        Some(at) => {
            let message = format!("not valid YAML: {cause} (column {})", at.column());
            refused(line_of(at), &Path::Root, message)
        }
        None => refused(1, &Path::Root, format!("not valid YAML: {cause}")),
    }
}

/// The text of an error without the position, which stands in front of ours.
fn cause(error: &Broken) -> String {
    match error {
        Broken::AliasError { error, .. } => cause(error),
        Broken::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested deeper than {MAX_DEPTH} levels")
        }
        Broken::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "a second document starts here; a manifest must be one document".to_owned()
        }
        Broken::Budget { .. } | Broken::AliasReplayLimitExceeded { .. } => {
            "its aliases expand to too much data, or it is too long".to_owned()
        }
        _ => {
            let text = error.to_string();
            text.find(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned()
        }
    }
}

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { mut value, referenced, defined, .. } = Spanned::<Raw>::deserialize(deserializer)?;
        if let Raw::Float(_, at) = &mut value {
            *at = range_of(defined).unwrap_or_default();
        }
        Ok(Self { line: line_of(referenced), raw: value })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { line: line_of(referenced), text: value })
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Float(number, 0..0))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Raw::Object(object))
    }
}
