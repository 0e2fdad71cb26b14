"""Runs from asyncio whose nodes are coroutines, all of them or some."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from benchmarks.harness.loop_timing import against_coroutine
from benchmarks.harness.measuring import Benchmark
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Node, execute_pipeline_with_input

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS", "AsyncAddOne"]

ITEMS = list(range(4_000))


class AsyncAddOne(Node):
    """A coroutine that does not suspend."""

    async def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


class SuspendedAddOne(Node):
    """A coroutine that gives the event loop one turn."""

    async def process(self, item: int) -> int:
        """Return the next number, one turn later."""
        await asyncio.sleep(0)
        return item + 1


def async_run(effort: Effort) -> Samples:
    """Three coroutines that do not suspend."""
    return asyncio.run(_async_rounds([AsyncAddOne(), AsyncAddOne(), AsyncAddOne()], effort.rounds(60)))


def suspended_run(effort: Effort) -> Samples:
    """Three coroutines, each of which suspends once."""
    nodes = [SuspendedAddOne(), SuspendedAddOne(), SuspendedAddOne()]
    return asyncio.run(_async_rounds(nodes, effort.rounds(60)))


def mixed_run_inline(effort: Effort) -> Samples:
    """A coroutine between two functions that run on the event loop, too."""
    first, second, third = AddOne(), AsyncAddOne(), AddOne()
    placed = [first.with_options(placement="inline"), second, third.with_options(placement="inline")]
    return asyncio.run(_mixed_rounds(placed, (first, second, third), effort.rounds(60)))


def mixed_run(effort: Effort) -> Samples:
    """A coroutine between two functions that run beside the event loop."""
    nodes = AddOne(), AsyncAddOne(), AddOne()
    return asyncio.run(_mixed_rounds(list(nodes), nodes, effort.rounds(60)))


async def _async_rounds(nodes: list[Any], rounds: int) -> Samples:
    first, second, third = nodes

    async def by_hand() -> list[int]:
        outputs = []
        for item in ITEMS:
            outputs.append(await third.process(await second.process(await first.process(item))))  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return await against_coroutine(lambda: execute_pipeline_with_input(nodes, ITEMS), by_hand, rounds)


async def _mixed_rounds(
    pipeline: list[Any], nodes: tuple[AddOne, AsyncAddOne, AddOne], rounds: int
) -> Samples:
    first, second, third = nodes

    async def by_hand() -> list[int]:
        outputs = []
        for item in ITEMS:
            outputs.append(third.process(await second.process(first.process(item))))  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return await against_coroutine(lambda: execute_pipeline_with_input(pipeline, ITEMS), by_hand, rounds)


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row("async-run", "3 async nodes, 4,000 ints, an item", "a loop of awaits by hand", 1.5, async_run),
    _row(
        "suspended-run",
        "3 async nodes with asyncio.sleep(0), an item",
        "a loop of awaits by hand",
        1.15,
        suspended_run,
    ),
    _row(
        "mixed-inline-run",
        "def, async, def; all inline, an item",
        "a loop of calls and awaits by hand",
        1.6,
        mixed_run_inline,
    ),
    _row(
        "mixed-run",
        "def, async, def; no placement, an item",
        "a loop of calls and awaits by hand",
        3.0,
        mixed_run,
        compared_by="ours",
    ),
]
