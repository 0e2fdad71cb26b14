"""Nodes that fail, wait and are tried again, for tests of failure policies on the event loop."""

from __future__ import annotations

import asyncio

from stream_nodes import TIMEOUT_SECS

LONG_PAUSE = {"retries": 9, "retry_delay": 50}


class Flaky:
    """Fails the first times; records its calls."""

    def __init__(self, failures):
        self.failures = failures
        self.tries = []
        self.has_failed = asyncio.Event()

    async def process(self, item):
        self.tries.append(item)
        if len(self.tries) <= self.failures:
            self.has_failed.set()
            raise ValueError(f"try {len(self.tries)}")
        return item


class Hangs:
    """Waits for ever for the item `hang`, the first times; what follows its cancellation depends on `end`."""

    def __init__(self, end=None, times=1):
        self.end = end
        self.times = times
        self.calls = 0
        self.is_inside = asyncio.Event()

    async def process(self, item):
        self.calls += 1
        if item == "hang" and self.calls <= self.times:
            self.is_inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.end is None:
                    raise
                return self.end()
        return item


class Promises:
    """A `def` whose results say only when they are made that they are lazy."""

    def __init__(self, kind):
        self.make = getattr(self, kind)
        self.calls = 0
        self.is_closed = False

    def process(self, item):
        self.calls += 1
        # It does not end by itself because nothing refers to it.
        self.result = self.make(item, self.calls)
        return self.result

    async def coroutine(self, item, call):
        await asyncio.sleep(0)
        if call == 1:
            raise ValueError("once")
        return item

    def generator(self, item, call):
        if call == 1:
            raise ValueError("once")
        yield item
        yield (item, 2)

    async def async_generator(self, item, call):
        if call == 1:
            raise ValueError("once")
        yield item
        await asyncio.sleep(0)
        yield (item, 2)

    def closing_generator(self, item, call):
        try:
            yield item
        finally:
            self.is_closed = True

    async def closing_async_generator(self, item, call):
        try:
            yield item
        finally:
            self.is_closed = True

    def broken_generator(self, item, call):
        yield item
        raise ValueError(f"after the first output, call {call}")


class Generates:
    """Yields numbered outputs; at some calls, fails or hangs after this many of them."""

    def __init__(self, fails_at=None, hangs_at=None, count=2, *, raises_at_end=False):
        self.fails_at = fails_at or {}
        self.hangs_at = hangs_at or {}
        self.count = count
        self.raises_at_end = raises_at_end
        self.tries = []
        self.ends = 0
        self.is_inside = asyncio.Event()

    def fail(self):
        raise ValueError(f"try {len(self.tries)}")

    def end(self, error=None):
        self.ends += 1
        if self.raises_at_end:
            raise LookupError("at the end") from error

    def process(self, item):
        self.tries.append(item)
        call = len(self.tries)
        for number in range(self.count + 1):
            if self.fails_at.get(call) == number:
                self.fail()
            if number < self.count:
                try:
                    yield f"{item}{number + 1}"
                except GeneratorExit:
                    self.end()
                    raise


class GeneratesLater(Generates):
    async def process(self, item):
        self.tries.append(item)
        call = len(self.tries)
        for number in range(self.count + 1):
            await asyncio.sleep(0)
            if self.fails_at.get(call) == number:
                self.fail()
            try:
                if self.hangs_at.get(call) == number:
                    self.is_inside.set()
                    await asyncio.Event().wait()
                if number < self.count:
                    yield f"{item}{number + 1}"
            except (GeneratorExit, asyncio.CancelledError) as error:
                self.end(error)
                raise


class Raises:
    def process(self, item):
        raise ValueError(item)


class HangsInTask:
    """Waits for a task of its own, so that a cancellation takes several turns of the event loop."""

    def __init__(self):
        self.is_inside = asyncio.Event()

    async def process(self, item):
        if item == "hang":
            self.is_inside.set()
            await asyncio.create_task(asyncio.Event().wait())
        return item


class Waits:
    """Waits until `may_go` is set for the item `wait`."""

    def __init__(self):
        self.is_inside, self.may_go = asyncio.Event(), asyncio.Event()

    async def process(self, item):
        if item == "wait":
            self.is_inside.set()
            await self.may_go.wait()
        return item


class Letters:
    """Takes failed items, in a coroutine."""

    def __init__(self):
        self.taken = []
        self.tasks = []

    async def __call__(self, item, error):
        await asyncio.sleep(0)
        self.taken.append((item, error.item_index, repr(error.__cause__)))
        self.tasks.append(asyncio.current_task())


def skip_time(loop, secs=2 * TIMEOUT_SECS):
    """Let the clock of an event loop show a later time."""
    now = loop.time
    loop.time = lambda: now() + secs


async def let_timers_run():
    for _ in range(3):
        await asyncio.sleep(0)


def fail():
    raise ValueError("because it was cancelled")
