//! How a node is run: one vocabulary for Rust programs, Python and manifests.

mod read;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use self::read::{Notation, OPTION_NAMES, OptionProblem, Refusal, WORKER_OPTIONS};

/// Where a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Fused with its neighbours, on the thread that they run on.
    #[default]
    Inline,
    /// On a thread of its own.
    Thread,
    /// In a worker, a process of its own.
    Process,
}

impl Placement {
    /// The word for it in options and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Thread => "thread",
            Self::Process => "process",
        }
    }
}

/// What happens to an item that finds its queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The producer waits.
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
    /// The error is returned to the caller that put the item in.
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
    /// The maximum number of items.
    pub size: usize,
    /// How long a batch that is not full waits for more items; without it until the end of input.
    pub max_wait: Option<Duration>,
}

/// How a node is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub placement: Placement,
    /// Whether the placement is a default of the session, and not written on the node. Neighbours that inherit the same one share a stage.
    pub is_placement_inherited: bool,
    /// The name that neighbours have in common to share a stage.
    pub group: Option<String>,
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
    /// How many restarts of a worker are allowed within the window before its stage fails.
    pub max_restarts: usize,
    /// The window in which restarts count.
    pub restart_window: Duration,
    /// How long the nodes of a worker may take to initialize.
    pub initialize_timeout: Duration,
    /// After as many items the state of a node with snapshots is fetched from its worker.
    pub snapshot_every: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            placement: Placement::Inline,
            is_placement_inherited: false,
            group: None,
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
            max_restarts: 3,
            restart_window: Duration::from_secs(60),
            initialize_timeout: Duration::from_secs(300),
            snapshot_every: 100,
        }
    }
}

impl Options {
    /// The default, shared by all who ask for it: most nodes of a large pipeline have it.
    pub fn shared_default() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Options>> = LazyLock::new(Arc::default);
        Arc::clone(&SHARED)
    }

    /// Whether a node with these options needs a queue, and with it a stage of its own.
    pub fn needs_own_stage(&self) -> bool {
        self.replicas > 1
            || self.concurrency > 1
            || self.batch.is_some()
            || self.queue_size.is_some()
            || self.when_full != WhenFull::Wait
    }

    /// Whether a node with these options needs a worker that it shares with no neighbour.
    ///
    /// Besides a queue that is a policy: it is about one node, and is kept where the worker is watched.
    pub fn needs_own_worker(&self) -> bool {
        self.needs_own_stage() || self.has_policy() || self.timeout.is_some()
    }

    /// What differs from the defaults, as a name and a value in words; without the placement.
    pub fn differing(&self) -> Vec<(&'static str, String)> {
        let usual = Self::default();
        let batch = self.batch.map(|Batch { size, max_wait }| {
            let wait = max_wait.map_or_else(String::new, |wait| format!(" within {}", in_words(wait)));
            format!("{size}{wait}")
        });
        let (handler_word, handler) = self.handler.clone().unzip();
        let count = |count: usize, usual: usize| (count != usual).then(|| count.to_string());
        let time = |time: Duration, usual: Duration| (time != usual).then(|| in_words(time));
        let values = [
            ("group", self.group.clone()),
            ("replicas", count(self.replicas, usual.replicas)),
            ("ordered", (!self.is_ordered).then(|| "false".into())),
            ("concurrency", count(self.concurrency, usual.concurrency)),
            ("batch", batch),
            ("queue_size", self.queue_size.map(|size| size.to_string())),
            ("when_full", (self.when_full != usual.when_full).then(|| self.when_full.name().into())),
            ("on_error", (self.on_error != usual.on_error).then(|| self.on_error.name().into())),
            (handler_word.unwrap_or_default(), handler),
            ("retries", (self.retries > 0).then(|| self.retries.to_string())),
            ("retry_delay", time(self.retry_delay, usual.retry_delay)),
            ("timeout", self.timeout.map(in_words)),
            ("max_restarts", count(self.max_restarts, usual.max_restarts)),
            ("restart_window", time(self.restart_window, usual.restart_window)),
            ("initialize_timeout", time(self.initialize_timeout, usual.initialize_timeout)),
            ("snapshot_every", count(self.snapshot_every, usual.snapshot_every)),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Whether a policy handles the failures of a node with these options.
    pub fn has_policy(&self) -> bool {
        self.on_error != OnError::Stop || self.handler.is_some() || self.retries > 0
    }
}

/// `10 ms`, `2 s`.
fn in_words(duration: Duration) -> String {
    let secs = duration.as_secs_f64();
    if secs < 1.0 { format!("{} ms", (secs * 1e6).round() / 1e3) } else { format!("{secs} s") }
}
