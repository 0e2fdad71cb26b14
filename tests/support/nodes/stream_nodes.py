"""Nodes and small tools that the tests of sessions share."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from remotemedia import Pipeline

LONG = [pytest.mark.long, pytest.mark.timeout(1200)]

TIMEOUT_SECS = 20
"""Longer than every wait of a test, and shorter than the timeout of a test."""


class Add:
    """Adds one."""

    def process(self, item):
        return item + 1


class Odd:
    """Passes odd numbers."""

    def process(self, item):
        return item if item % 2 else None


class Twice:
    """Yields each item twice."""

    def process(self, item):
        yield item
        yield item


class AsyncAdd:
    """Adds one, in a coroutine."""

    async def process(self, item):
        await asyncio.sleep(0)
        return item + 1


class Count:
    """Counts its items, and returns the number at the end of input."""

    def __init__(self):
        self.count = 0

    def process(self, item):
        self.count += 1
        return item

    def flush(self):
        return f"{self.count} items"


class Noting:
    """Records its calls."""

    def __init__(self, name="node", log=None):
        self.name = name
        self.log = [] if log is None else log

    def initialize(self):
        self.log.append(f"initialize {self.name}")

    def process(self, item):
        self.log.append(item)
        return item

    def interrupt(self):
        self.log.append(f"interrupt {self.name}")

    def cleanup(self):
        self.log.append(f"cleanup {self.name}")


class Fails:
    """Fails on some items."""

    def __init__(self, *items):
        self.items = items

    def process(self, item):
        if item in self.items:
            raise ValueError(f"bad {item}")
        return item


class Hold:
    """Holds items until `go` is set; sets `is_there` when it has one."""

    thread_safe = True

    def __init__(self, *items):
        self.items = items
        self.is_there = threading.Event()
        self.go = threading.Event()
        self.seen = []

    def process(self, item):
        self.seen.append(item)
        if not self.items or item in self.items:
            self.is_there.set()
            assert self.go.wait(TIMEOUT_SECS)
        return item


class AsyncHold:
    """Holds items in a coroutine, for ever; sets `is_there` when it has one, and records cancelled ones."""

    def __init__(self, *items):
        self.items = items
        self.is_there = threading.Event()
        self.cancelled = []

    async def process(self, item):
        if not self.items or item in self.items:
            self.is_there.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(item)
                raise
        return item


class Endless:
    """Generates for ever; sets `has_begun`, and records the items whose generator was closed."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.closed = []

    def process(self, item):
        number = 0
        try:
            while True:
                yield (item, number)
                self.has_begun.set()
                number += 1
        except GeneratorExit:
            self.closed.append(item)
            raise


class Worker(threading.Thread):
    """Runs a function beside the test; `result()` waits for what it returns or raises."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.work()
        except BaseException as error:  # noqa: BLE001 - Raised by `result`.
            self.error = error

    def result(self):
        self.join(TIMEOUT_SECS)
        assert not self.is_alive(), "the work did not end"
        if self.error is not None:
            raise self.error
        return self.value


@contextmanager
def logged(text):
    """Yield an event that is set when `remotemedia` logs a message with `text`, and the list of records."""
    is_logged = threading.Event()
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)
            if text in record.getMessage():
                is_logged.set()

    handler = Handler()
    logger = logging.getLogger("remotemedia")
    logger.addHandler(handler)
    try:
        yield is_logged, records
    finally:
        logger.removeHandler(handler)


async def arrived(event):
    """Wait for an event of threads beside the event loop."""
    assert await asyncio.to_thread(event.wait, TIMEOUT_SECS)


def thread_count():
    """Return the number of threads of this process, including those of Rust."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def join_closing_threads():
    """Wait for the threads that close sessions dropped on their event loop."""
    for thread in threading.enumerate():
        if thread.name == "remotemedia-close":
            thread.join(TIMEOUT_SECS)


def threads_since(before):
    """Return the number of additional threads. The system lists a thread a little longer than Python."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while thread_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    return max(thread_count() - before, 0)


def shortly_and_long(short, long):
    """A number for `make test`, and one for `make test-long`."""
    return [short, pytest.param(long, marks=LONG)]


class Hangs(Hold):
    """Does not return until `go` is set, at the end of the test."""

    def process(self, item):
        return self.hang_here(item)

    def hang_here(self, item):
        return super().process(item)


def opened(*nodes, **options):
    """Open a session that only `close` closes."""
    return Pipeline(nodes).open(**options).__enter__()
