"""The event loop of the caller keeps its beat, whatever nodes do, and no call of it waits for ever."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stream_nodes import shortly_and_long

from remotemedia import Pipeline, execute_pipeline_with_input

BEATS = 5
MOST_ITEMS = 5_000


class Ticker:
    """Counts the turns that the event loop gives to another task."""

    def __init__(self):
        self.beats = 0
        self.has_beaten = threading.Condition()

    async def run(self):
        while True:
            await asyncio.sleep(0)
            with self.has_beaten:
                self.beats += 1
                self.has_beaten.notify_all()

    def wait(self):
        """Block the thread until the loop has taken some more turns."""
        with self.has_beaten:
            goal = self.beats + BEATS
            self.has_beaten.wait_for(lambda: self.beats >= goal)

    def beside(self, work):
        """Run a coroutine to its end, while this ticks."""

        async def main():
            ticking = asyncio.create_task(self.run())
            try:
                return await work
            finally:
                ticking.cancel()

        return asyncio.run(main())


class Blocks:
    """A function that blocks its thread."""

    def __init__(self, ticker):
        self.ticker = ticker

    def process(self, item):
        self.ticker.wait()
        return item


class BlocksGenerating(Blocks):
    def process(self, item):
        self.ticker.wait()
        yield item


class Passes:
    """A coroutine that never suspends."""

    async def process(self, item):
        return item


async def run(nodes, items):
    return await execute_pipeline_with_input(nodes, items)


async def call(nodes, items):
    async with Pipeline(nodes).open() as session:
        return [await session.call(item) for item in items]


async def map_items(nodes, items):
    async with Pipeline(nodes).open() as session:
        return [output async for output in session.map(items)]


async def put(nodes, items):
    async def put_all():
        for item in items:
            await session.put(item)
        session.end()

    async with Pipeline(nodes).open() as session, asyncio.TaskGroup() as group:
        group.create_task(put_all())
        return [output async for output in session]


WAYS = pytest.mark.parametrize("way", [run, call, map_items, put])
KINDS = pytest.mark.parametrize("kind", [Blocks, BlocksGenerating])


@WAYS
@KINDS
@pytest.mark.parametrize("order", ["alone", "before", "behind", "between"])
def test_a_function_without_a_placement_does_not_block_the_loop(way, kind, order):
    """Each item waits for turns of the loop, which a blocked loop would never take."""
    ticker = Ticker()
    blocks = kind(ticker)
    nodes = {
        "alone": [blocks],
        "before": [blocks, Passes()],
        "behind": [Passes(), blocks],
        "between": [Passes(), blocks, Passes()],
    }[order]

    outputs = ticker.beside(way(nodes, range(10)))

    assert outputs == list(range(10))


class Counts:
    """A coroutine that never suspends, and notes how many items it takes between two turns of the loop."""

    WORK = range(50)

    def __init__(self, ticker):
        self.ticker = ticker
        self.beats_seen = 0
        self.stretch = 0
        self.longest = 0

    async def process(self, item):
        if self.ticker.beats != self.beats_seen:
            self.beats_seen, self.stretch = self.ticker.beats, 0
        self.stretch += 1
        self.longest = max(self.longest, self.stretch)
        sum(self.WORK)
        return item


@WAYS
@pytest.mark.parametrize("count", shortly_and_long(10_000, 100_000))
def test_coroutines_that_never_suspend_leave_turns_to_other_tasks(way, count):
    """A turn is due every millisecond, which is enough for some thousands of items."""
    ticker = Ticker()
    node = Counts(ticker)

    outputs = ticker.beside(way([node], range(count)))

    assert len(outputs) == count
    assert node.longest <= MOST_ITEMS
