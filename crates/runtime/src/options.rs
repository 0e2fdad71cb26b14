//! How a node is run: one vocabulary for Rust programs, Python and manifests.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::suggest::did_you_mean;

/// How many items may wait before a stage, if nobody says.
pub const DEFAULT_QUEUE_SIZE: usize = 64;

/// Where a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Fused with its neighbours, on the thread that they run on.
    #[default]
    Inline,
    /// On a thread of its own.
    Thread,
}

impl Placement {
    /// The word for it in options and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Thread => "thread",
        }
    }
}

/// What happens to an item that finds its queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Whoever brings it waits.
    #[default]
    Wait,
    /// The item that has waited longest is dropped.
    DropOldest,
    /// The item itself is dropped.
    DropNewest,
}

impl WhenFull {
    /// The word for it in options and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
        }
    }
}

/// What happens when a node fails on an item, after its retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The error goes to whoever put the item in.
    #[default]
    Stop,
    /// The item is dropped and counted.
    Skip,
}

impl OnError {
    /// The word for it in options and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
        }
    }
}

/// Several items in one call of `process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// As many items at the most.
    pub size: usize,
    /// How long a batch that is not full waits for more items; without it until the end of input.
    pub max_wait: Option<Duration>,
}

/// How a node is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub placement: Placement,
    /// How many copies work in parallel.
    pub replicas: usize,
    /// Whether outputs keep the order of the items although they are worked on in parallel.
    pub is_ordered: bool,
    /// How many items of a coroutine node are in flight at once.
    pub concurrency: usize,
    /// Items in one call.
    pub batch: Option<Batch>,
    /// Items that may wait before the node; `None` for the session's default.
    pub queue_size: Option<usize>,
    /// What happens to an item that finds the queue full.
    pub when_full: WhenFull,
    /// What happens when the node fails.
    pub on_error: OnError,
    /// Who gets failed items instead: the word by which it was given, and its name. Only shown.
    pub handler: Option<(&'static str, String)>,
    /// How often a failed item is tried again.
    pub retries: u32,
    /// The pause before the first retry; it doubles with each one.
    pub retry_delay: Duration,
    /// How long one call may take.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            placement: Placement::Inline,
            replicas: 1,
            is_ordered: true,
            concurrency: 1,
            batch: None,
            queue_size: None,
            when_full: WhenFull::Wait,
            on_error: OnError::Stop,
            handler: None,
            retries: 0,
            retry_delay: Duration::ZERO,
            timeout: None,
        }
    }
}

/// The names of all options, in the order of the documentation.
pub const OPTION_NAMES: [&str; 11] = [
    "placement",
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
];

const PLACEMENTS: [Placement; 2] = [Placement::Inline, Placement::Thread];
const FULL_QUEUES: [WhenFull; 3] = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest];

/// No figure of an option makes sense beyond this.
const LARGEST_COUNT: u64 = 1_000_000;

/// The clocks of some systems end soon after.
const LONGEST_SECS: f64 = 1e9;

/// An option that was refused: its name, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionProblem {
    /// The name that was written.
    pub name: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for OptionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option '{}': {}", self.name, self.message)
    }
}

impl Options {
    /// The options that a manifest writes.
    pub fn from_json(written: &Map<String, Value>) -> Result<Self, OptionProblem> {
        let mut options = Self::default();
        for (name, value) in written {
            options.set(name, value).map_err(|message| OptionProblem { name: name.clone(), message })?;
        }
        options.check().map_err(|(name, message)| OptionProblem { name: name.into(), message })?;
        Ok(options)
    }

    /// Whether a node with these options needs a queue, and with it a stage of its own.
    pub fn needs_own_stage(&self) -> bool {
        self.replicas > 1
            || self.concurrency > 1
            || self.batch.is_some()
            || self.queue_size.is_some()
            || self.when_full != WhenFull::Wait
    }

    /// What differs from the defaults, as a name and a value in words; without the placement.
    pub fn differing(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut tell = |name, differs: bool, value: String| {
            if differs {
                found.push((name, value));
            }
        };
        tell("replicas", self.replicas > 1, self.replicas.to_string());
        tell("ordered", !self.is_ordered, "false".into());
        tell("concurrency", self.concurrency > 1, self.concurrency.to_string());
        if let Some(Batch { size, max_wait }) = self.batch {
            let wait = max_wait.map_or_else(String::new, |wait| format!(" within {}", in_words(wait)));
            tell("batch", true, format!("{size}{wait}"));
        }
        if let Some(size) = self.queue_size {
            tell("queue_size", true, size.to_string());
        }
        tell("when_full", self.when_full != WhenFull::Wait, self.when_full.name().into());
        tell("on_error", self.on_error != OnError::Stop, self.on_error.name().into());
        if let Some((word, name)) = &self.handler {
            tell(word, true, name.clone());
        }
        tell("retries", self.retries > 0, self.retries.to_string());
        tell("retry_delay", !self.retry_delay.is_zero(), in_words(self.retry_delay));
        if let Some(timeout) = self.timeout {
            tell("timeout", true, in_words(timeout));
        }
        found
    }

    /// Whether failures of a node with these options are seen to at the node.
    pub fn has_policy(&self) -> bool {
        self.on_error != OnError::Stop || self.handler.is_some() || self.retries > 0
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "placement" => self.placement = choose(value, &PLACEMENTS, Placement::name)?,
            "replicas" => self.replicas = count(value, 1)?,
            "ordered" => self.is_ordered = value.as_bool().ok_or_else(|| expected("true or false", value))?,
            "concurrency" => self.concurrency = count(value, 1)?,
            "batch" => self.batch = batch(value)?,
            "queue_size" => self.queue_size = Some(count(value, 1)?),
            "when_full" => self.when_full = choose(value, &FULL_QUEUES, WhenFull::name)?,
            "on_error" => {
                self.on_error = choose(value, &[OnError::Stop, OnError::Skip], OnError::name)?;
            }
            "retries" => {
                self.retries = u32::try_from(count(value, 0)?).map_err(|_| expected("fewer retries", value))?;
            }
            "retry_delay" => self.retry_delay = seconds(value)?,
            "timeout" => self.timeout = positive_seconds(value)?,
            "dead_letter" => return Err("it is a callable, which only a program can give".into()),
            _ => return Err(format!("unknown option{}", hint(name))),
        }
        Ok(())
    }

    /// Refuse what cannot be combined.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.concurrency > 1 && self.replicas > 1 {
            return Err(("replicas", "replicas and concurrency exclude each other; use one of them".into()));
        }
        if self.concurrency > 1 && self.batch.is_some() {
            return Err(("batch", "batch and concurrency exclude each other; use one of them".into()));
        }
        if self.replicas > 1 && self.placement == Placement::Inline {
            return Err(("replicas", "replicas need threads: add placement \"thread\"".into()));
        }
        Ok(())
    }
}

/// `10 ms`, `2 s`.
fn in_words(duration: Duration) -> String {
    let secs = duration.as_secs_f64();
    if secs < 1.0 { format!("{} ms", (secs * 1e6).round() / 1e3) } else { format!("{secs} s") }
}

fn hint(name: &str) -> String {
    let near = did_you_mean(name, OPTION_NAMES);
    if near.is_empty() { format!("; the options are: {}", OPTION_NAMES.join(", ")) } else { near }
}

fn choose<T: Copy>(value: &Value, choices: &[T], name_of: impl Fn(T) -> &'static str) -> Result<T, String> {
    let names: Vec<&str> = choices.iter().map(|&choice| name_of(choice)).collect();
    let found = value.as_str().and_then(|name| choices.iter().find(|&&choice| name_of(choice) == name));
    found.copied().ok_or_else(|| {
        let near = value.as_str().map_or_else(String::new, |name| did_you_mean(name, names.iter().copied()));
        format!("{value} is not available; there is \"{}\"{near}", names.join("\", \""))
    })
}

fn count(value: &Value, least: u64) -> Result<usize, String> {
    let number = value.as_u64().filter(|&number| (least..=LARGEST_COUNT).contains(&number));
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| expected(&format!("a whole number from {least} to {LARGEST_COUNT}"), value))
}

fn seconds(value: &Value) -> Result<Duration, String> {
    let secs = value.as_f64().filter(|&secs| secs <= LONGEST_SECS);
    let duration = secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    duration.ok_or_else(|| expected("a number of seconds, 0 or more", value))
}

fn positive_seconds(value: &Value) -> Result<Option<Duration>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let duration = seconds(value).ok().filter(|duration| !duration.is_zero());
    duration.map(Some).ok_or_else(|| expected("a number of seconds above 0", value))
}

fn batch(value: &Value) -> Result<Option<Batch>, String> {
    let Value::Object(fields) = value else {
        return if value.is_null() { Ok(None) } else { Ok(Some(Batch { size: count(value, 1)?, max_wait: None })) };
    };
    if let Some(name) = fields.keys().find(|name| !matches!(name.as_str(), "size" | "max_wait")) {
        return Err(format!("a batch has no '{name}'{}", did_you_mean(name, ["size", "max_wait"])));
    }
    let size = count(fields.get("size").ok_or_else(|| expected("an object with a size", value))?, 1)?;
    let max_wait = fields.get("max_wait").filter(|wait| !wait.is_null()).map(seconds).transpose()?;
    Ok(Some(Batch { size, max_wait }))
}

fn expected(what: &str, found: &Value) -> String {
    format!("expected {what}, found {found}")
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
            "placement": "thread", "replicas": 2, "ordered": false, "batch": {"size": 8, "max_wait": 0.5},
            "queue_size": 7, "when_full": "drop_oldest", "on_error": "skip", "retries": 3, "retry_delay": 0.25, "timeout": 2,
        }));

        let expected = Options {
            placement: Placement::Thread,
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
        };
        assert_eq!(options.unwrap(), expected);
    }

    #[test]
    fn options_are_told_as_far_as_they_differ() {
        let options = parse(&json!({"batch": {"size": 8, "max_wait": 0.01}, "timeout": 2.5, "on_error": "stop"}));

        assert_eq!(options.unwrap().differing(), [("batch", "8 within 10 ms".into()), ("timeout", "2.5 s".into())]);
        assert!(Options::default().differing().is_empty());
    }

    #[test]
    fn a_mistyped_option_gets_the_nearest_name() {
        let problem = parse(&json!({"replica": 2})).unwrap_err();

        assert_eq!(problem.message, "unknown option; did you mean 'replicas'?");
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let problem = parse(&json!({"concurrency": 4, "batch": 8})).unwrap_err();

        assert_eq!(problem.message, "batch and concurrency exclude each other; use one of them");
    }
}
