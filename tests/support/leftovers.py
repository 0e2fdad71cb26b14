"""The resources of a process: files, threads, children, shared memory. For tests that must not leak any."""

from __future__ import annotations

import gc
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path

TIMEOUT_SECS = 5.0
POLL_INTERVAL_SECS = 0.01


def holdings():
    """Return the number of each resource of this process, and of the names in shared memory."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return {
        "files": count_in("/proc/self/fd"),
        "threads": count_in("/proc/self/task"),
        "children": len(children()),
        "mapped shared memory": maps.count("memfd:"),
        "named shared memory": count_in("/dev/shm"),
    }


def count_in(directory):
    """Return the number of entries of a directory."""
    return sum(1 for _ in Path(directory).iterdir())


def children(of=None):
    """Return the ids of the children of a process, including dead ones that were not waited for."""
    found = []
    for thread in Path(f"/proc/{of or os.getpid()}/task").glob("*/children"):
        # The thread may end meanwhile.
        with suppress(OSError):
            found += map(int, thread.read_text(encoding="utf-8").split())
    return found


def fields_of(process_id):
    """Return the kernel's fields of a process, from its state on; nothing if there is no such process."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name before may contain any characters, but ends with the last parenthesis.
    return stat.rpartition(")")[2].split()


def is_running(process_id):
    """Return whether a process is neither dead nor stopped."""
    return fields_of(process_id)[:1] in (["R"], ["S"], ["D"])


def has_begun(process_id, parent="self"):
    """Return whether a child runs its own program, instead of a copy of its parent that will start it."""
    try:
        words, of_parent = (Path(f"/proc/{process}/cmdline").read_bytes() for process in (process_id, parent))
    except OSError:
        return False
    return words != of_parent


def wait_until(is_so, timeout_secs=20.0):
    """Wait for a condition of other processes; fail if it is not met in time."""
    until = time.monotonic() + timeout_secs
    while not is_so():
        assert time.monotonic() < until, "the condition was not met in time"
        time.sleep(POLL_INTERVAL_SECS)
    return True


@contextmanager
def nothing_remains():
    """Check that this process holds no more resources afterwards than before."""
    before = holdings()
    yield
    until = time.monotonic() + TIMEOUT_SECS
    while more := {name: count - before[name] for name, count in holdings().items() if count > before[name]}:
        assert time.monotonic() < until, f"remaining: {more}"
        gc.collect()
        time.sleep(POLL_INTERVAL_SECS)
