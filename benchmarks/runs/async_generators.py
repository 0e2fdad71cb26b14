"""Async generators: as the input of a run, as a node, and as a node that takes the whole stream."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from benchmarks.harness.loop_timing import against_coroutine
from benchmarks.harness.measuring import Benchmark
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Node, Pipeline, execute_pipeline_with_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

COUNT = 4_000
QUEUE_SIZE = 64
"""The number of items that wait before and behind a hand-written task, as in a session."""

OUTPUTS = 4
"""What the async generator yields for an item."""


class Spread(Node):
    """Several outputs for an item, none of which has to be waited for."""

    async def process(self, item: int) -> AsyncIterator[int]:
        """Yield the item and the numbers after it."""
        for number in range(OUTPUTS):
            yield item + number


class AddOneToAll(Node):
    """Takes the whole stream."""

    is_streaming = True

    async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        """Yield the next number for each item."""
        async for item in items:
            yield item + 1


def beside(effort: Effort) -> Samples:
    """A stream through an async generator between two functions beside the event loop."""
    first, spread, last = nodes = [AddOne(), Spread(), AddOne()]

    async def by_hand() -> list[int]:
        outputs = []
        for item in range(COUNT // OUTPUTS):
            async for output in spread.process(await asyncio.to_thread(first.process, item)):
                outputs.append(await asyncio.to_thread(last.process, output))  # noqa: PERF401 - As one would write it.
        return outputs

    async def rounds() -> Samples:
        async with Pipeline(nodes).open() as session:

            async def mapped() -> list[int]:
                return [output async for output in session.map(range(COUNT // OUTPUTS))]

            return await against_coroutine(mapped, by_hand, effort.rounds(12))

    return asyncio.run(rounds())


async def numbers() -> AsyncIterator[int]:
    """Yield the items of a run without suspending."""
    for number in range(COUNT):
        yield number


def as_input(effort: Effort) -> Samples:
    """An async generator through three trivial nodes on the event loop."""
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]
    inline = [node.with_options(placement="inline") for node in nodes]

    async def by_hand() -> list[int]:
        outputs = []
        async for item in numbers():
            outputs.append(third.process(second.process(first.process(item))))  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return asyncio.run(
        against_coroutine(lambda: execute_pipeline_with_input(inline, numbers()), by_hand, effort.rounds(60))
    )


def as_node(effort: Effort) -> Samples:
    """A node that yields several outputs for each item."""
    node = Spread()
    items = list(range(COUNT // OUTPUTS))

    async def by_hand() -> list[int]:
        outputs = []
        for item in items:
            async for output in node.process(item):
                outputs.append(output)  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return asyncio.run(
        against_coroutine(lambda: execute_pipeline_with_input([node], items), by_hand, effort.rounds(60))
    )


def streaming(effort: Effort) -> Samples:
    """A node that reads its items itself."""
    node = AddOneToAll()
    items = list(range(COUNT))

    async def by_hand() -> list[int]:
        outputs = []
        async for output in node.process(numbers()):
            outputs.append(output)  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return asyncio.run(
        against_coroutine(lambda: execute_pipeline_with_input([node], items), by_hand, effort.rounds(60))
    )


def streaming_map(effort: Effort) -> Samples:
    """The same node in an open session, against an async generator."""
    return asyncio.run(_map_against(lambda node: node.process(numbers()), effort))


def streaming_map_tasks(effort: Effort) -> Samples:
    """The same against a task with queues."""
    return asyncio.run(_map_against(_by_queues, effort))


async def _map_against(by_hand: Callable[[AddOneToAll], AsyncIterator[int]], effort: Effort) -> Samples:
    node = AddOneToAll()
    async with Pipeline([node]).open() as session:
        return await against_coroutine(
            lambda: _taken(session.map(range(COUNT))), lambda: _taken(by_hand(node)), effort.rounds(60)
        )


async def _taken(outputs: AsyncIterator[int]) -> list[int]:
    return [output async for output in outputs]


async def _by_queues(node: AddOneToAll) -> AsyncIterator[int]:
    """Run the node in a task of its own, so that others may put items in, too."""
    before: asyncio.Queue[int | None] = asyncio.Queue(QUEUE_SIZE)
    behind: asyncio.Queue[int | None] = asyncio.Queue(QUEUE_SIZE)

    async def feed() -> None:
        for item in range(COUNT):
            await before.put(item)
        await before.put(None)

    async def items() -> AsyncIterator[int]:
        while (item := await before.get()) is not None:
            yield item

    async def work() -> None:
        async for output in node.process(items()):
            await behind.put(output)
        await behind.put(None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(work())
        while (output := await behind.get()) is not None:
            yield output


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row(
        "async-input",
        "async generator, 3 trivial nodes inline, an item",
        "async for and three calls by hand",
        2.0,
        as_input,
    ),
    _row(
        "async-generator",
        "a node that is an async generator, an output",
        "async for over process by hand",
        1.5,
        as_node,
    ),
    _row(
        "generator-beside",
        "def, async generator, def; session.map, an output",
        "asyncio.to_thread for each call of a def node",
        0.6,
        beside,
    ),
    _row(
        "streaming",
        "a node with is_streaming, 4,000 ints, an item",
        "async for over process by hand",
        2.5,
        streaming,
    ),
    _row(
        "stream-map",
        "async for, session.map, a node with is_streaming",
        "async for over process by hand",
        16.0,
        streaming_map,
    ),
    _row(
        "stream-map-tasks",
        "the same",
        "2 tasks with asyncio.Queue before and behind",
        1.2,
        streaming_map_tasks,
    ),
]
