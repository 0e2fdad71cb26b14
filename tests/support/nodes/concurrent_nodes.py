"""Coroutines that receive several items at once, and the ways of items through them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia._session.loop.session import LoopSession

ENGINES = pytest.mark.parametrize("options", [{}, {"queue_size": 64}], ids=["loop", "threads"])
"""An option that needs a queue lets all nodes run on threads."""


class Gate:
    """Returns each item when it is released; items of the same number are released together."""

    def __init__(self):
        self.inside = []
        self.most = 0
        self.threads = set()
        self.cancelled = []
        self.events = {}
        self.changed = asyncio.Event()

    def event(self, item):
        return self.events.setdefault(item, asyncio.Event())

    def release(self, *items):
        for item in items:
            self.event(item).set()

    async def process(self, item):
        self.inside.append(item)
        self.most = max(self.most, len(self.inside))
        self.threads.add(threading.active_count())
        self.changed.set()
        try:
            await self.event(item).wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.inside.remove(item)
            self.changed.set()
        return item

    async def until(self, *items):
        """Wait until exactly these items are inside."""
        while sorted(self.inside) != [*items]:
            self.changed.clear()
            await self.changed.wait()


class Later:
    """Suspends once for each item; some fail."""

    def __init__(self, fails_on=()):
        self.fails_on = fails_on
        self.inside = self.most = 0

    async def process(self, item):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(0.001 * (item % 3))
            if item in self.fails_on:
                raise ValueError(item)
            return item
        finally:
            self.inside -= 1


class Notes:
    """A coroutine that notes its items."""

    def __init__(self):
        self.items = []
        self.is_inside = False

    async def process(self, item):
        assert not self.is_inside
        self.is_inside = True
        await asyncio.sleep(0)
        self.items.append(item)
        self.is_inside = False
        return item


class Def:
    def process(self, item):
        return item


class LaterTwice:
    async def process(self, item):
        yield item
        yield item


class Flushed(Later):
    def flush(self):
        assert self.inside == 0
        return "end"


def start(work):
    return asyncio.get_running_loop().create_task(work)


def opened(*nodes, **settings):
    return Pipeline(list(nodes)).open(**settings)


async def all_of(outputs):
    return [output async for output in outputs]


async def later(items):
    for item in items:
        yield item
        await asyncio.sleep(0)


async def by_call(nodes, items):
    async with opened(*nodes) as session:
        assert isinstance(session, LoopSession)
        return await asyncio.gather(*map(session.call, items))


async def by_map(nodes, items):
    async with opened(*nodes) as session:
        return await all_of(session.map(items))


async def by_put(nodes, items):
    async with opened(*nodes) as session:
        for item in items:
            await session.put(item)
        session.end()
        return await all_of(session)


async def by_run(nodes, items):
    return await execute_pipeline_with_input(nodes, [*items])


async def by_run_of_later_items(nodes, items):
    return await execute_pipeline_with_input(nodes, later(items))


async def by_run_of_a_source(nodes, items):
    class Source:
        async def process(self):
            for item in items:
                yield item

    pipeline = Pipeline([Source(), *nodes])
    return await pipeline.run()


WAYS = [by_call, by_map, by_put, by_run, by_run_of_later_items, by_run_of_a_source]
