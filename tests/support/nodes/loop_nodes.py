"""Async nodes, and runs of them on the caller's event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


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


def in_session(nodes: Any, work: Callable[[Any], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    """Return what `work` returns for a session whose nodes are all on the loop."""

    async def main() -> Any:
        async with asyncio.timeout(TIMEOUT_SECS), Pipeline(nodes).open(**settings) as session:
            return await work(session)

    assert on_loop(resolve(Pipeline(nodes)), is_run=False) is not None
    return asyncio.run(main())


async def mapped(session: Any, items: Any) -> list[Any]:
    return [output async for output in session.map(items)]


async def called(session: Any, *items: Any) -> list[Any]:
    return [await session.call(item) for item in items]


class Waits:
    """Waits in the middle of the item 1."""

    is_streaming = True

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()
        self.log: list[str] = []

    async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
        seen = []
        try:
            async for item in items:
                seen.append(item)
                if item == 1:
                    self.is_waiting.set()
                    await asyncio.Event().wait()
                yield [*seen]
        finally:
            self.log.append("closed")

    def cleanup(self) -> None:
        self.log.append("cleanup")
