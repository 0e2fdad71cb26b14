"""Async nodes, and runs of them on the caller's event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remotemedia import execute_pipeline_with_input
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Same:
    async def process(self, item: Any) -> Any:
        return item


class Sums:
    """Yields the sum so far."""

    is_streaming = True

    async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        total = 0
        async for item in items:
            total += item
            yield total


class Logs:
    """Logs what it receives, and its cleanup."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    async def process(self, item: Any) -> Any:
        self.log.append(item)
        return item

    def cleanup(self) -> None:
        self.log.append("cleanup")


def run(nodes: list[Any], items: Any) -> Any:
    assert on_loop(resolve(nodes), is_run=True) is not None
    return asyncio.run(execute_pipeline_with_input(nodes, items))
