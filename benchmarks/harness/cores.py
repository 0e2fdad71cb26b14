"""The cores that a benchmark uses."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["busy_cores", "one_core"]


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and those that it starts on one core.

    Waking an idle core takes longer than everything else, and varies.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep each core busy with a process that never waits."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
