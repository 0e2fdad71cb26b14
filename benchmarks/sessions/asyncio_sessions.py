"""An open session in asyncio: calls and streams of nodes on the event loop, and of nodes beside it."""

from __future__ import annotations

import asyncio
import functools
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness.loop_timing import against_coroutine, alternate_on_loop
from benchmarks.harness.measuring import Benchmark
from benchmarks.runs.asyncio_runs import AsyncAddOne
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Pipeline, with_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

CALLS = 2_000
"""Calls in a round, timed together."""

ITEMS = range(10_000)
POLICY = {"timeout": 30, "retries": 2}
QUEUE_SIZE = 64
"""The number of items that wait between the hand-written tasks, as in a session."""

END = None


def async_call(effort: Effort) -> Samples:
    """Calls of three coroutines."""
    first, second, third = nodes = [AsyncAddOne(), AsyncAddOne(), AsyncAddOne()]

    async def by_hand(item: int) -> int:
        return await third.process(await second.process(await first.process(item)))

    return asyncio.run(_call_rounds(nodes, by_hand, effort.rounds(60)))


def inline_call(effort: Effort) -> Samples:
    """Calls of three functions that run on the event loop."""
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]

    async def by_hand(item: int) -> int:
        return third.process(second.process(first.process(item)))

    return asyncio.run(_call_rounds(_inline(nodes), by_hand, effort.rounds(60)))


def policy_call(effort: Effort) -> Samples:
    """Calls of a coroutine with a limit of time, which is tried again when it fails."""
    node = AsyncAddOne()

    async def by_hand(item: int) -> int:
        for _attempt in range(POLICY["retries"]):
            try:
                async with asyncio.timeout(POLICY["timeout"]):
                    return await node.process(item)
            except Exception:  # noqa: BLE001 - As the node with these options.
                continue
        async with asyncio.timeout(POLICY["timeout"]):
            return await node.process(item)

    return asyncio.run(_call_rounds([with_options(node, **POLICY)], by_hand, effort.rounds(60)))


def inline_map(effort: Effort) -> Samples:
    """A stream through three functions on the event loop, against an async generator."""
    return _map_against(_by_generator, effort, is_inline=True)


def inline_map_queues(effort: Effort) -> Samples:
    """The same against tasks and queues."""
    return _map_against(_by_queues, effort, is_inline=True)


def beside_map(effort: Effort) -> Samples:
    """A stream through three functions beside the event loop, against an async generator."""
    return _map_against(_by_generator, effort, is_inline=False)


def beside_map_queues(effort: Effort) -> Samples:
    """The same against tasks and queues."""
    return _map_against(_by_queues, effort, is_inline=False)


def _inline(nodes: Iterable[AddOne]) -> list[Any]:
    return [node.with_options(placement="inline") for node in nodes]


async def _call_rounds(pipeline: list[Any], by_hand: Callable[[int], Awaitable[int]], rounds: int) -> Samples:
    async def micros_of(call: Callable[[int], Awaitable[int]]) -> float:
        started = perf_counter()
        for item in range(CALLS):
            await call(item)
        return (perf_counter() - started) * 1e6 / CALLS

    async with Pipeline(pipeline).open() as session:
        if await session.call(1) != await by_hand(1):
            raise AssertionError("the session gives another output than the calls by hand")
        return await alternate_on_loop(lambda: micros_of(session.call), lambda: micros_of(by_hand), rounds)


def _map_against(
    by_hand: Callable[[list[AddOne], Iterable[int]], AsyncIterator[int]], effort: Effort, *, is_inline: bool
) -> Samples:
    nodes = [AddOne(), AddOne(), AddOne()]

    async def rounds() -> Samples:
        async with Pipeline(_inline(nodes) if is_inline else nodes).open() as session:
            return await against_coroutine(
                lambda: _taken(session.map(ITEMS)), lambda: _taken(by_hand(nodes, ITEMS)), effort.rounds(60)
            )

    return asyncio.run(rounds())


async def _taken(outputs: AsyncIterator[int]) -> list[int]:
    taken = []
    async for output in outputs:
        taken.append(output)  # noqa: PERF401 - As a programmer would write it.
    return taken


async def _by_generator(nodes: list[AddOne], items: Iterable[int]) -> AsyncIterator[int]:
    first, second, third = nodes
    for item in items:
        yield third.process(second.process(first.process(item)))


async def _by_queues(nodes: list[AddOne], items: Iterable[int]) -> AsyncIterator[int]:
    """Run a task for each node, with bounded queues between them."""
    queues: list[asyncio.Queue[int | None]] = [asyncio.Queue(QUEUE_SIZE) for _ in nodes]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_feed(nodes[0], items, queues[0]))
        for node, before, behind in zip(nodes[1:], queues, queues[1:], strict=False):
            tasks.create_task(_work(node, before, behind))
        while (output := await queues[-1].get()) is not END:
            yield output


async def _feed(node: AddOne, items: Iterable[int], behind: asyncio.Queue[int | None]) -> None:
    for item in items:
        await behind.put(node.process(item))
    await behind.put(END)


async def _work(node: AddOne, before: asyncio.Queue[int | None], behind: asyncio.Queue[int | None]) -> None:
    while (item := await before.get()) is not END:
        await behind.put(node.process(item))
    await behind.put(END)


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row(
        "async-call",
        "await session.call, 3 async nodes",
        "three awaits by hand",
        1.5,
        async_call,
        compared_by="difference",
    ),
    _row(
        "inline-call",
        "await session.call, 3 trivial nodes inline",
        "three calls of process in a coroutine",
        1.5,
        inline_call,
        compared_by="difference",
    ),
    _row(
        "policy-call",
        "await session.call, async node, timeout, retries",
        "asyncio.timeout in a loop of attempts",
        1.3,
        policy_call,
    ),
    _row(
        "inline-map",
        "async for, session.map, 3 trivial inline, an item",
        "async generator by hand",
        4.0,
        inline_map,
    ),
    _row("inline-map-tasks", "the same", "3 tasks with asyncio.Queue between them", 1.0, inline_map_queues),
    _row(
        "beside-map",
        "async for, session.map, 3 trivial nodes, an item",
        "async generator by hand",
        8.0,
        beside_map,
    ),
    _row("beside-map-tasks", "the same", "3 tasks with asyncio.Queue between them", 1.0, beside_map_queues),
]
