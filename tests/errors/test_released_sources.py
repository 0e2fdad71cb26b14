"""A source whose reader stops is closed at once, without the garbage collector.

The event loop closes an async generator when nothing refers to it any more. A cancelled task refers to the
frames that it was in; if one of these refers to the task, only a collection ends that.
"""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest
from stream_nodes import AsyncHold, Hold, arrived

from remotemedia import Pipeline, with_options


class Pass:
    def process(self, item):
        return item


class HoldsBetween:
    """Holds an item between two outputs."""

    def __init__(self):
        self.hold = AsyncHold()
        self.is_there = self.hold.is_there

    async def process(self, item):
        yield item
        yield await self.hold.process(item)


class Sleeps:
    """Holds items in a worker."""

    async def process(self, item):
        await asyncio.sleep(60)


class HoldsStreaming:
    is_streaming = True

    def __init__(self):
        self.hold = AsyncHold()
        self.is_there = self.hold.is_there

    async def process(self, items):
        async for item in items:
            yield await self.hold.process(item)


NODES = {
    "thread": (Hold, {"placement": "thread"}),
    "coroutine": (AsyncHold, {}),
    "coroutine on a thread": (AsyncHold, {"placement": "thread"}),
    "concurrency": (AsyncHold, {"concurrency": 2}),
    "generator": (HoldsBetween, {}),
    "concurrent generator": (HoldsBetween, {"concurrency": 2}),
    "streaming": (HoldsStreaming, {}),
    "timeout": (AsyncHold, {"timeout": 60.0}),
    "worker": (Sleeps, {"placement": "process"}),
}


class Source:
    def __init__(self):
        self.has_begun = asyncio.Event()
        self.is_closed = asyncio.Event()

    async def items(self):
        try:
            for number in itertools.count():
                yield number
                self.has_begun.set()
        finally:
            self.is_closed.set()


@pytest.fixture(autouse=True)
def without_collector():
    gc.disable()
    yield
    gc.enable()


async def read(outputs):
    async for _output in outputs:
        pass


def stages(node, beside):
    """Return the nodes: the one that holds, alone or with a stage before it."""
    return [node] if not beside else [with_options(Pass(), placement="thread"), node]


async def until_held(node, source):
    if isinstance(node, Sleeps):
        # The object of the worker is another one, and receives items ahead.
        async with asyncio.timeout(20):
            await source.has_begun.wait()
    else:
        await arrived(node.is_there)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("way", ["session", "run", "process"])
def test_by_cancelling_the_reader(name, way, beside):
    kind, options = NODES[name]
    node = kind()
    nodes = stages(with_options(node, **options), beside)

    async def main():
        source = Source()
        if way == "session":
            async with Pipeline(nodes).open() as session:
                await cancel(read(session.map(source.items())), source)
        elif way == "run":
            await cancel(Pipeline(nodes).run(source.items()), source)
        else:
            await cancel(read(Pipeline(nodes).process(source.items())), source)

    async def cancel(reading, source):
        reader = asyncio.create_task(reading)
        await until_held(node, source)
        reader.cancel()
        if isinstance(node, Hold):
            node.go.set()
        await asyncio.wait([reader])
        del reader
        async with asyncio.timeout(20):
            await source.is_closed.wait()

    asyncio.run(main())
