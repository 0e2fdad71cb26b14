//! Options as manifests write them.

use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{Batch, OnError, Options, Placement, WhenFull};
use crate::limits::{LARGEST_COUNT, LONGEST_SECS};
use crate::suggest::did_you_mean;

/// The names of all options, in the order of the documentation.
pub const OPTION_NAMES: [&str; 16] = [
    "placement",
    "group",
    "replicas",
    "ordered",
    "concurrency",
    "batch",
    "queue_size",
    "when_full",
    "on_error",
    "retries",
    "retry_delay",
    "timeout",
    "max_restarts",
    "restart_window",
    "initialize_timeout",
    "snapshot_every",
];

/// The options of workers alone.
pub const WORKER_OPTIONS: [&str; 4] = ["max_restarts", "restart_window", "initialize_timeout", "snapshot_every"];

const PLACEMENTS: [Placement; 3] = [Placement::Inline, Placement::Thread, Placement::Process];
const FULL_QUEUES: [WhenFull; 3] = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest];

/// How options are written, and so how an error shows what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// In a manifest: `"placement": "process"`.
    Json,
    /// As keywords of Python: `placement='process'`.
    Python,
}

/// An option that was refused: its name, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("option '{name}': {}", self.message())]
pub struct OptionProblem {
    /// The name that was written.
    pub name: String,
    /// What is wrong with it.
    pub reason: Refusal,
}

/// Why an option was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such option. Ends with a suggestion.
    Unknown(String),
    /// The value is none of those that it may have: the value as JSON, and what to use.
    Value(String, String),
    /// It cannot be used together with other options: the whole sentence.
    Combination(String),
}

impl OptionProblem {
    /// What is wrong and what to do, for callers that know which option it is about.
    pub fn message(&self) -> String {
        match &self.reason {
            Refusal::Unknown(hint) => format!("unknown option{hint}"),
            Refusal::Value(value, expected) => format!("{value} is not valid; {expected}"),
            Refusal::Combination(text) => text.clone(),
        }
    }
}

impl Options {
    /// The options that a manifest writes.
    pub fn from_json(written: &Map<String, Value>) -> Result<Self, OptionProblem> {
        Self::read(written, Notation::Json, &OPTION_NAMES)
    }

    /// Options that are written this way. `names` are all that there are, for an unknown one.
    pub fn read(written: &Map<String, Value>, notation: Notation, names: &[&str]) -> Result<Self, OptionProblem> {
        let mut options = Self::default();
        for (name, value) in written {
            let problem = |reason| OptionProblem { name: name.clone(), reason };
            options.set(name, value, Words(notation)).map_err(|expected| {
                problem(match expected {
                    Some(expected) => Refusal::Value(value.to_string(), expected),
                    None => Refusal::Unknown(hint(name, names)),
                })
            })?;
        }
        options
            .check(written, Words(notation))
            .map_err(|(name, text)| OptionProblem { name: name.into(), reason: Refusal::Combination(text) })?;
        Ok(options)
    }

    /// What the value of an option may be, if it may not be this one.
    pub fn expected(name: &str, value: &Value, notation: Notation) -> Option<String> {
        Self::default().set(name, value, Words(notation)).err().flatten()
    }

    /// Returns what the value may be if it is refused; nothing if there is no such option.
    fn set(&mut self, name: &str, value: &Value, words: Words) -> Result<(), Option<String>> {
        match name {
            "placement" => self.placement = words.choice(value, &PLACEMENTS, Placement::name)?,
            "group" => self.group = words.group(value)?,
            "replicas" => self.replicas = count(value, 1)?,
            "ordered" => self.is_ordered = value.as_bool().ok_or_else(|| words.flags())?,
            "concurrency" => self.concurrency = count(value, 1)?,
            "batch" => self.batch = words.batch(value)?,
            "queue_size" => self.queue_size = Some(count(value, 1)?),
            "when_full" => self.when_full = words.choice(value, &FULL_QUEUES, WhenFull::name)?,
            "on_error" => self.on_error = words.choice(value, &[OnError::Stop, OnError::Skip], OnError::name)?,
            "retries" => self.retries = u32::try_from(count(value, 0)?).map_err(|_| use_count(0))?,
            "retry_delay" => self.retry_delay = seconds(value)?,
            "timeout" if value.is_null() => self.timeout = None,
            "timeout" => self.timeout = Some(positive_seconds(value).map_err(|text| text + words.or_null())?),
            "max_restarts" => self.max_restarts = count(value, 0)?,
            "restart_window" => self.restart_window = positive_seconds(value)?,
            "initialize_timeout" => self.initialize_timeout = positive_seconds(value)?,
            "snapshot_every" => self.snapshot_every = count(value, 1)?,
            _ => return Err(None),
        }
        Ok(())
    }

    /// Refuse what cannot be combined.
    fn check(&self, written: &Map<String, Value>, words: Words) -> Result<(), (&'static str, String)> {
        if self.concurrency > 1 && self.replicas > 1 {
            return Err(("replicas", "replicas and concurrency cannot be combined; use one of them".into()));
        }
        if self.concurrency > 1 && self.batch.is_some() {
            return Err(("batch", "batch and concurrency cannot be combined; use one of them".into()));
        }
        let [thread, process] = [Placement::Thread, Placement::Process].map(|placement| words.placement(placement));
        if self.replicas > 1 && self.placement == Placement::Inline {
            return Err(("replicas", format!("replicas requires {thread} or {process}")));
        }
        let is_idle = |name: &&&str| self.placement != Placement::Process && written.contains_key(**name);
        if let Some(name) = WORKER_OPTIONS.iter().find(is_idle) {
            return Err((name, format!("{name} requires {process}")));
        }
        Ok(())
    }
}

fn hint(name: &str, names: &[&str]) -> String {
    let near = did_you_mean(name, names.iter().copied());
    if near.is_empty() { format!("; the options are: {}", names.join(", ")) } else { near }
}

fn use_count(least: u64) -> String {
    format!("use a whole number from {least} to {LARGEST_COUNT}")
}

fn count(value: &Value, least: u64) -> Result<usize, String> {
    let number = value.as_u64().filter(|&number| (least..=LARGEST_COUNT).contains(&number));
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| use_count(least))
}

fn seconds(value: &Value) -> Result<Duration, String> {
    let secs = value.as_f64().filter(|&secs| secs <= LONGEST_SECS);
    let duration = secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    duration.ok_or_else(|| "use a number of seconds, 0 or more".into())
}

fn positive_seconds(value: &Value) -> Result<Duration, String> {
    let duration = seconds(value).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "use a number of seconds above 0".into())
}

/// The words of a notation.
#[derive(Clone, Copy)]
struct Words(Notation);

impl Words {
    fn flags(self) -> String {
        match self.0 {
            Notation::Json => "use true or false".into(),
            Notation::Python => "use True or False".into(),
        }
    }

    fn or_null(self) -> &'static str {
        match self.0 {
            Notation::Json => ", or null",
            Notation::Python => ", or None",
        }
    }

    fn placement(self, placement: Placement) -> String {
        match self.0 {
            Notation::Json => format!("\"placement\": \"{}\"", placement.name()),
            Notation::Python => format!("placement='{}'", placement.name()),
        }
    }

    fn choice<T: Copy>(self, value: &Value, choices: &[T], name_of: impl Fn(T) -> &'static str) -> Result<T, String> {
        let names: Vec<&str> = choices.iter().map(|&choice| name_of(choice)).collect();
        let found = value.as_str().and_then(|name| choices.iter().find(|&&choice| name_of(choice) == name));
        found.copied().ok_or_else(|| {
            let near = value.as_str().map_or_else(String::new, |name| did_you_mean(name, names.iter().copied()));
            let mark = if self.0 == Notation::Json { '"' } else { '\'' };
            let quoted: Vec<String> = names.iter().map(|name| format!("{mark}{name}{mark}")).collect();
            format!("use one of {}{near}", quoted.join(", "))
        })
    }

    fn group(self, value: &Value) -> Result<Option<String>, String> {
        match value {
            Value::Null => Ok(None),
            Value::String(name) if !name.trim().is_empty() => Ok(Some(name.clone())),
            _ => Err(format!("use a name that is not empty{}", self.or_null())),
        }
    }

    fn batch(self, value: &Value) -> Result<Option<Batch>, String> {
        let (size, max_wait) = match value {
            Value::Null => return Ok(None),
            Value::Object(fields) => {
                if fields.keys().any(|name| !matches!(name.as_str(), "size" | "max_wait")) {
                    return Err("use an object with size and max_wait".into());
                }
                (fields.get("size"), fields.get("max_wait").filter(|wait| !wait.is_null()))
            }
            size => (Some(size), None),
        };
        let size = size.and_then(|size| count(size, 1).ok());
        match (size, max_wait.map(seconds).transpose()) {
            (Some(size), Ok(max_wait)) => Ok(Some(Batch { size, max_wait })),
            _ => Err(match self.0 {
                Notation::Json => "use a number of items, or an object with size and max_wait in seconds".into(),
                Notation::Python => "use a number of items, or Batch(size, max_wait=seconds)".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Options, OptionProblem> {
        Options::from_json(value.as_object().unwrap())
    }

    #[test]
    fn every_option_has_its_value() {
        let options = parse(&json!({
            "placement": "process", "group": "gpu", "replicas": 2, "ordered": false, "batch": {"size": 8, "max_wait": 0.5},
            "queue_size": 7, "when_full": "drop_oldest", "on_error": "skip", "retries": 3, "retry_delay": 0.25, "timeout": 2,
            "max_restarts": 0, "restart_window": 1.5, "initialize_timeout": 20, "snapshot_every": 1,
        }));

        let expected = Options {
            placement: Placement::Process,
            is_placement_inherited: false,
            group: Some("gpu".into()),
            replicas: 2,
            is_ordered: false,
            concurrency: 1,
            batch: Some(Batch { size: 8, max_wait: Some(Duration::from_millis(500)) }),
            queue_size: Some(7),
            when_full: WhenFull::DropOldest,
            on_error: OnError::Skip,
            handler: None,
            retries: 3,
            retry_delay: Duration::from_millis(250),
            timeout: Some(Duration::from_secs(2)),
            max_restarts: 0,
            restart_window: Duration::from_millis(1500),
            initialize_timeout: Duration::from_secs(20),
            snapshot_every: 1,
        };
        assert_eq!(options.unwrap(), expected);
    }

    #[test]
    fn options_are_listed_as_far_as_they_differ() {
        let options = parse(&json!({"batch": {"size": 8, "max_wait": 0.01}, "timeout": 2.5, "on_error": "stop"}));

        assert_eq!(options.unwrap().differing(), [("batch", "8 within 10 ms".into()), ("timeout", "2.5 s".into())]);
        assert!(Options::default().differing().is_empty());
    }

    #[test]
    fn options_of_the_watch_over_a_worker_are_listed_too() {
        let options =
            parse(&json!({"placement": "process", "max_restarts": 0, "restart_window": 60, "snapshot_every": 1}));

        assert_eq!(options.unwrap().differing(), [("max_restarts", "0".into()), ("snapshot_every", "1".into())]);
    }

    #[test]
    fn a_mistyped_option_gets_the_nearest_name() {
        let problem = parse(&json!({"replica": 2})).unwrap_err();

        assert_eq!(problem.message(), "unknown option; did you mean 'replicas'?");
    }

    #[test]
    fn options_of_workers_are_refused_elsewhere() {
        for name in WORKER_OPTIONS {
            let mut written = json!({"placement": "thread"});
            written[name] = 3.into();

            let problem = parse(&written).unwrap_err();

            assert_eq!(problem.message(), format!("{name} requires \"placement\": \"process\""));
        }
    }

    #[test]
    fn a_worker_may_have_several_of_each_copy() {
        let replicas = parse(&json!({"placement": "process", "replicas": 4})).unwrap();
        let concurrent = parse(&json!({"placement": "process", "concurrency": 4})).unwrap();

        assert_eq!((replicas.replicas, concurrent.concurrency), (4, 4));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let problem = parse(&json!({"concurrency": 4, "batch": 8})).unwrap_err();

        assert_eq!(problem.message(), "batch and concurrency cannot be combined; use one of them");
    }
}
