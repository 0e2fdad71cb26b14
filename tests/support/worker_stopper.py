"""Stops each child of a process, and reports those that had not begun: `worker_stopper.py PROCESS`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from leftovers import has_begun


def main():
    tasks = Path(f"/proc/{sys.argv[1]}/task")
    seen = {os.getpid()}
    print("ready", flush=True)  # noqa: T201 - What a test waits for.
    while tasks.exists():
        for thread in os.listdir(tasks):  # noqa: PTH208 - A child has begun after some 50 µs.
            try:
                with open(f"{tasks}/{thread}/children") as children:  # noqa: PTH123 - As above.
                    new = {int(child) for child in children.read().split()} - seen
            except OSError:
                continue
            for child in new:
                os.kill(child, signal.SIGSTOP)
                if not has_begun(child, sys.argv[1]):
                    print(child, flush=True)  # noqa: T201 - As above.
            seen |= new


if __name__ == "__main__":
    main()
