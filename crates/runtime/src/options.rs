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
        let mut found = Vec::new();
        let mut add = |name, differs: bool, value: &dyn Fn() -> String| {
            if differs {
                found.push((name, value()));
            }
        };
        if let Some(group) = &self.group {
            add("group", true, &|| group.clone());
        }
        add("replicas", self.replicas > 1, &|| self.replicas.to_string());
        add("ordered", !self.is_ordered, &|| "false".into());
        add("concurrency", self.concurrency > 1, &|| self.concurrency.to_string());
        if let Some(Batch { size, max_wait }) = self.batch {
            let wait = max_wait.map_or_else(String::new, |wait| format!(" within {}", in_words(wait)));
            add("batch", true, &|| format!("{size}{wait}"));
        }
        if let Some(size) = self.queue_size {
            add("queue_size", true, &|| size.to_string());
        }
        add("when_full", self.when_full != WhenFull::Wait, &|| self.when_full.name().into());
        add("on_error", self.on_error != OnError::Stop, &|| self.on_error.name().into());
        if let Some((word, name)) = &self.handler {
            add(word, true, &|| name.clone());
        }
        add("retries", self.retries > 0, &|| self.retries.to_string());
        add("retry_delay", !self.retry_delay.is_zero(), &|| in_words(self.retry_delay));
        if let Some(timeout) = self.timeout {
            add("timeout", true, &|| in_words(timeout));
        }
        add("max_restarts", self.max_restarts != usual.max_restarts, &|| self.max_restarts.to_string());
        add("restart_window", self.restart_window != usual.restart_window, &|| in_words(self.restart_window));
        let differs = self.initialize_timeout != usual.initialize_timeout;
        add("initialize_timeout", differs, &|| in_words(self.initialize_timeout));
        add("snapshot_every", self.snapshot_every != usual.snapshot_every, &|| self.snapshot_every.to_string());
        found
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
