"""A cancelled call on a long input ends soon, whether its items are processed singly or in chunks."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest
from stuck_nodes import Noting, Stuck, cancelled

from remotemedia import execute_pipeline_with_input


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_long_chain_ends_within_milliseconds(is_compiled):
    """An endless input does not delay a cancellation, whether its items are processed singly or in chunks."""
    log = []

    class Busy(Noting):
        def process(self, item):
            if item == 10_000:
                self.loop.call_soon_threadsafe(self.is_there.set)
            return item

    class Partial:
        def __init__(self):
            self.process = functools.partial(max, -1)

    async def main():
        busy = Busy("a", log)
        busy.loop, busy.is_there = asyncio.get_running_loop(), asyncio.Event()
        nodes = [busy] if is_compiled else [busy, Partial()]
        items = iter(range(10**9))
        started = time.monotonic()
        task = await cancelled(execute_pipeline_with_input(nodes, items), busy.is_there)
        return task, next(items), time.monotonic() - started

    task, taken, took = asyncio.run(main())

    assert task.cancelled()
    assert taken > 10_000
    assert took < 5
    assert log == ["initialize a", "cleanup a"]


def test_an_endless_generator_in_a_compiled_chain_is_stopped_and_closed():
    log = []

    class Endless(Noting):
        def process(self, item):
            try:
                yield item
                while item == 10_000:
                    yield item
                    if log[-1] != "endless":
                        log.append("endless")
                        self.loop.call_soon_threadsafe(self.is_there.set)
            except GeneratorExit:
                log.append("closed")
                raise

    async def main():
        endless = Endless("a", log)
        endless.loop, endless.is_there = asyncio.get_running_loop(), asyncio.Event()
        return await cancelled(execute_pipeline_with_input([endless], range(20_000)), endless.is_there)

    assert asyncio.run(main()).cancelled()
    assert log == ["initialize a", "endless", "closed", "cleanup a"]


def test_a_chunk_in_progress_ends_after_its_current_item():
    """Items that were fast at first may be slow later: a cancellation must not wait for a chunk of them."""
    taken = []

    class Slowing(Stuck):
        def process(self, item):
            taken.append(item)
            if item == 5000:
                self.stay_in_thread()

    async def main():
        stuck = Slowing([])
        task = asyncio.create_task(execute_pipeline_with_input([stuck], range(100_000)))
        await stuck.is_there.wait()
        task.cancel()
        await asyncio.sleep(0)
        stuck.may_return.set()
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()
    assert taken[-1] == 5000
