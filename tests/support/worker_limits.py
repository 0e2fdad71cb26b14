"""A program whose workers have little shared memory, or none: `worker_limits.py LIMIT…`."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path

import numpy as np
from leftovers import children
from worker_nodes import in_worker, metrics_of

from remotemedia.exceptions import NodeError

# The numbers of the system call in the tables of the kernel.
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


class Double:
    def process(self, item):
        return item * 2


class Makes:
    """Returns a given number of bytes, or the length of the given bytes."""

    def process(self, item):
        return b"x" * item if isinstance(item, int) else len(item)


class Counts:
    """Counts its items. Some of its states are large."""

    def __init__(self):
        self.count = 0

    def process(self, _item):
        self.count += 1
        return self.count

    def snapshot(self):
        return self.count, b"x" * (200_000_000 if self.count in {4, 6} else 10)

    def restore(self, state):
        self.count = state[0]


class Returns:
    def process(self, item):
        return item


def limit_files():
    """Limit the size of files, including anonymous memory, to less than an item."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))


def limit_open_files():
    """Allow fewer files than there are buffers in flight."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def forbid_memfd():
    """Refuse the system call for anonymous memory, like the filter of a container."""
    number = MEMFD_CREATE[os.uname().machine]
    steps = [
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, number),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no filter")


def limit_memory():
    """Limit the memory of this process, and of the workers that it starts, to little more than it uses."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000, resource.RLIM_INFINITY))


def segments():
    """Return the shared memory that this process and its workers have mapped, by the names of its files."""
    found = []
    for process in (os.getpid(), *children()):
        lines = Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines()
        names = [line.split(maxsplit=5)[5] for line in lines if "s" in line.split()[1]]
        found += [name for name in names if "remotemedia" in name]
    return found


def use_many_buffers():
    """Send items with more buffers than there may be files."""

    def items():
        return ([np.full(20_000, n) for n in range(number, number + 30)] for number in range(100))

    with in_worker(Returns()).open(enable_metrics=True) as session:
        outputs = session.map(items())
        are_equal = [
            all((a == b).all() for a, b in zip(item, output, strict=True))
            for item, output in zip(items(), outputs, strict=True)
        ]
        return {"equal": sum(are_equal), "restarts": metrics_of(session)["restarts"]}


def use_little_memory():
    """Send items that fit into the remaining memory, and some that do not, in both directions."""
    # No arena of the allocator has this much in reserve.
    large = b"y" * 200_000_000

    def outcome(item):
        try:
            result = session.call(item)
        except NodeError as error:
            return type(error.__cause__).__name__
        return result if isinstance(result, int) else len(result)

    with in_worker(Makes()).open(enable_metrics=True) as session:
        session.call(1)
        limit_memory()
        items = (10, 5_000_000, 150_000_000, 300_000_000, 5_000_000, 10, large, b"z" * 100_000, 10)
        outcomes = [outcome(item) for item in items]
        return {"outcomes": outcomes, "restarts": metrics_of(session)["restarts"]}


def use_large_states():
    """Run a node whose states are sometimes too large, in a worker that dies after one of these."""
    with in_worker(Counts()).open(enable_metrics=True, snapshot_every=2) as session:
        outcomes = [session.call(None)]
        limit_memory()
        outcomes += [session.call(None) for _ in range(6)]
        os.kill(children()[0], signal.SIGKILL)
        outcomes += [session.call(None) for _ in range(3)]
        return {"outcomes": outcomes, "restarts": metrics_of(session)["restarts"]}


def use_shared_memory():
    """Send arrays to two workers, and return which memory carried them."""
    with in_worker(Double(), replicas=2).open() as session:
        outputs = list(session.map(np.full(1_000_000, number) for number in range(6)))
        return {
            "sums": [int(output.sum()) for output in outputs],
            "has_large": len(segments()) > 4,
            "is_deleted": all(name.endswith(" (deleted)") for name in segments()),
            "is_memfd": all(name.startswith("/memfd:") for name in segments()),
            "names": [str(name) for name in Path("/dev/shm").glob(f"remotemedia-{os.getpid()}-*")],
        }


def main():
    limits = {
        "files": limit_files,
        "memfd": forbid_memfd,
        "open files": limit_open_files,
    }
    uses = {"open files": use_many_buffers, "address space": use_little_memory, "states": use_large_states}
    for limit in sys.argv[1:]:
        limits.get(limit, lambda: None)()
    print(json.dumps(uses.get(sys.argv[-1], use_shared_memory)()))  # noqa: T201 - What a test reads.


if __name__ == "__main__":
    main()
