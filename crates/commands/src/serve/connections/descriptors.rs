//! How many connections the process has descriptors for.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as a service can use; systems that allow more keep them for others.
const MOST: u64 = 65_536;

/// The share of the descriptors that is left to nodes and workers: one in this many.
const RESERVED_SHARE: usize = 4;

/// More need not be left to them.
const MOST_RESERVED: usize = 256;

/// Allow the process as many descriptors as its owner permits. The usual limit, 1024, is for programs that call `select`.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(MOST, |maximum| maximum.min(MOST));
    if current.is_some_and(|current| current < wanted) {
        // What is not allowed is not needed either: fewer connections are accepted at once.
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).ok();
    }
}

/// How many connections may be open at once, so that some descriptors are left for the nodes.
pub(crate) fn room_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    room(usize::try_from(limit).unwrap_or(usize::MAX), open)
}

fn room(limit: usize, open: usize) -> usize {
    let reserved = (limit / RESERVED_SHARE).min(MOST_RESERVED);
    limit.saturating_sub(open).saturating_sub(reserved).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_to_the_nodes() {
        assert_eq!(room(1024, 20), 748);
        assert_eq!(room(65_536, 36), 65_244);
        assert_eq!(room(64, 40), 8);
        assert_eq!(room(16, 14), 1);
    }
}
