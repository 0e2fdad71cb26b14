//! Options as manifests write them.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Batch, OnError, Options, Placement, WhenFull};
use crate::limits::{LARGEST_COUNT, LONGEST_SECS};
use crate::suggest::did_you_mean;

/// The names of all options, in the order of the documentation.
pub const OPTION_NAMES: [&str; 15] = [
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
    "max_restarts",
    "restart_window",
    "initialize_timeout",
    "snapshot_every",
];

/// What is said of workers alone.
const WORKER_OPTIONS: [&str; 4] = ["max_restarts", "restart_window", "initialize_timeout", "snapshot_every"];

const PLACEMENTS: [Placement; 3] = [Placement::Inline, Placement::Thread, Placement::Process];
const FULL_QUEUES: [WhenFull; 3] = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest];

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
        options
            .check(written)
            .map_err(|(name, message)| OptionProblem { name: name.into(), message: message.into() })?;
        Ok(options)
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
            "timeout" => self.timeout = if value.is_null() { None } else { Some(positive_seconds(value)?) },
            "max_restarts" => self.max_restarts = count(value, 0)?,
            "restart_window" => self.restart_window = positive_seconds(value)?,
            "initialize_timeout" => self.initialize_timeout = positive_seconds(value)?,
            "snapshot_every" => self.snapshot_every = count(value, 1)?,
            _ => return Err(format!("unknown option{}", hint(name))),
        }
        Ok(())
    }

    /// Refuse what cannot be combined.
    fn check(&self, written: &Map<String, Value>) -> Result<(), (&'static str, &'static str)> {
        if self.concurrency > 1 && self.replicas > 1 {
            return Err(("replicas", "replicas and concurrency cannot be combined; use one of them"));
        }
        if self.concurrency > 1 && self.batch.is_some() {
            return Err(("batch", "batch and concurrency cannot be combined; use one of them"));
        }
        if self.replicas > 1 && self.placement == Placement::Inline {
            return Err(("replicas", "replicas requires placement \"thread\" or \"process\""));
        }
        let is_idle = |name: &&&str| self.placement != Placement::Process && written.contains_key(**name);
        if let Some(name) = WORKER_OPTIONS.iter().find(is_idle) {
            return Err((name, "requires placement \"process\""));
        }
        Ok(())
    }
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
        format!("{value} is not valid; use one of \"{}\"{near}", names.join("\", \""))
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

fn positive_seconds(value: &Value) -> Result<Duration, String> {
    let duration = seconds(value).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| expected("a number of seconds above 0", value))
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
            "placement": "process", "replicas": 2, "ordered": false, "batch": {"size": 8, "max_wait": 0.5},
            "queue_size": 7, "when_full": "drop_oldest", "on_error": "skip", "retries": 3, "retry_delay": 0.25, "timeout": 2,
            "max_restarts": 0, "restart_window": 1.5, "initialize_timeout": 20, "snapshot_every": 1,
        }));

        let expected = Options {
            placement: Placement::Process,
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
    fn options_are_told_as_far_as_they_differ() {
        let options = parse(&json!({"batch": {"size": 8, "max_wait": 0.01}, "timeout": 2.5, "on_error": "stop"}));

        assert_eq!(options.unwrap().differing(), [("batch", "8 within 10 ms".into()), ("timeout", "2.5 s".into())]);
        assert!(Options::default().differing().is_empty());
    }

    #[test]
    fn how_a_worker_is_watched_is_told_too() {
        let options =
            parse(&json!({"placement": "process", "max_restarts": 0, "restart_window": 60, "snapshot_every": 1}));

        assert_eq!(options.unwrap().differing(), [("max_restarts", "0".into()), ("snapshot_every", "1".into())]);
    }

    #[test]
    fn a_mistyped_option_gets_the_nearest_name() {
        let problem = parse(&json!({"replica": 2})).unwrap_err();

        assert_eq!(problem.message, "unknown option; did you mean 'replicas'?");
    }

    #[test]
    fn what_is_said_of_workers_is_refused_elsewhere() {
        for name in WORKER_OPTIONS {
            let mut written = json!({"placement": "thread"});
            written[name] = 3.into();

            let problem = parse(&written).unwrap_err();

            assert_eq!((&*problem.name, &*problem.message), (name, "requires placement \"process\""));
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

        assert_eq!(problem.message, "batch and concurrency cannot be combined; use one of them");
    }
}
