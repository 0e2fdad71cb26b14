"""What a process holds: files, threads, children, shared memory. For tests that must leave nothing behind."""

from __future__ import annotations

import gc
import os
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECS = 5.0
LOOK_SECS = 0.01


def holdings():
    """How many of each this process has, and how many names there are in shared memory."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return {
        "files": count_in("/proc/self/fd"),
        "threads": count_in("/proc/self/task"),
        "children": len(children()),
        "mapped shared memory": maps.count("memfd:"),
        "named shared memory": count_in("/dev/shm"),
    }


def count_in(directory):
    """How many entries a directory has."""
    return sum(1 for _ in Path(directory).iterdir())


def children(of=None):
    """The ids of the processes that a process has started, dead ones that nobody waited for too."""
    processes = (int(directory.name) for directory in Path("/proc").glob("[0-9]*"))
    parent = str(of or os.getpid())
    return [process for process in processes if state_of(process)[1:2] == [parent]]


def is_running(process):
    """Whether a process is there and is not dead, waiting for somebody to hear of it."""
    return state_of(process)[:1] not in ([], ["Z"], ["X"])


def state_of(process):
    """What the system tells of a process, its state and its parent first; nothing if there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # Its name, which may be anything, stands in brackets before that.
    return text.rpartition(")")[2].split()


def wait_until(is_so):
    """Wait for what happens in other processes."""
    until = time.monotonic() + PATIENCE_SECS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(LOOK_SECS)


@contextmanager
def nothing_left_behind():
    """Afterwards this process holds not one more of anything."""
    before = holdings()
    yield
    until = time.monotonic() + PATIENCE_SECS
    while more := {name: count - before[name] for name, count in holdings().items() if count > before[name]}:
        assert time.monotonic() < until, f"left behind: {more}"
        gc.collect()
        time.sleep(LOOK_SECS)
