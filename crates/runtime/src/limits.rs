//! Defaults and limits that several modules, crates and the Python package share.

use std::time::Duration;

/// How many items may wait before a stage, unless an option says otherwise.
pub const DEFAULT_QUEUE_SIZE: usize = 64;

/// How long a session or a run may take to close before the nodes that have not returned are abandoned.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest count that an option accepts.
pub(crate) const LARGEST_COUNT: u64 = 1_000_000;

/// The longest time that an option accepts, in seconds: the clocks of some systems end soon after.
pub const LONGEST_SECS: f64 = 1e9;

/// The longest pause before a retry.
pub const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Stack of a thread that runs nodes: deep recursion in user code must end as an error of its language.
pub const STACK_BYTES: usize = 16 << 20;
