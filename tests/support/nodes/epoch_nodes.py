"""Nodes of every kind, for tests of which caller receives which outputs. Workers import this, too."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from remotemedia import with_options

__all__ = ["KINDS", "Item", "node_of", "result_of"]

Item = tuple[str, int]
"""The name of the caller, and a number. A negative number fails."""


def check(item: Item) -> Item:
    if item[1] < 0:
        raise ValueError(item)
    return item


class Plain:
    def process(self, item):
        return check(item)


class Generating:
    def process(self, item):
        for part in range(3):
            yield (*item, part)
        check(item)


class Awaiting:
    async def process(self, item):
        await asyncio.sleep(0)
        await asyncio.sleep(0.0002)
        return check(item)


class AsyncGenerating:
    async def process(self, item):
        for part in range(3):
            await asyncio.sleep(0)
            yield (*item, part)
        check(item)


class Streaming:
    is_streaming = True

    async def process(self, items):
        async for item in items:
            for part in range(3):
                await asyncio.sleep(0)
                yield (*item, part)
            check(item)


class Pairs:
    """Holds an item until the next one arrives."""

    is_streaming = True

    async def process(self, items):
        held = None
        async for item in items:
            if held is not None:
                yield held, item
            held = item


class Batching:
    def process(self, items):
        return list(items)


class Counting:
    """Takes a little while, and returns how many items it has seen."""

    def __init__(self):
        self.seen = 0

    def process(self, _item):
        time.sleep(0.005)
        self.seen += 1
        return self.seen


KINDS: dict[str, Any] = {
    "def": Plain,
    "generator": Generating,
    "coroutine": Awaiting,
    "async generator": AsyncGenerating,
    "streaming": Streaming,
    "batch": lambda: with_options(Batching(), batch=2),
    "concurrency": lambda: with_options(Awaiting(), concurrency=4),
    "concurrent generator": lambda: with_options(AsyncGenerating(), concurrency=4),
}


def node_of(kind: str) -> Any:
    return KINDS[kind]()


def result_of(kind: str, item: Item) -> Any:
    """Return what `call` returns for an item."""
    return outputs_of(kind, item) if kind in PARTED else item


def outputs_of(kind: str, item: Item) -> list[Any]:
    """Return the outputs of an item."""
    return [(*item, part) for part in range(3)] if kind in PARTED else [item]


PARTED = {"generator", "async generator", "streaming", "concurrent generator"}
