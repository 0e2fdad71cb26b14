"""How long it takes to open and close a session."""

from __future__ import annotations

import asyncio
import functools
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness.loop_timing import alternate_on_loop
from benchmarks.harness.measuring import Benchmark
from benchmarks.runs.asyncio_runs import AsyncAddOne
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Pipeline

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

SESSIONS = 100
"""Sessions in a round, one after the other."""


class OnThread(AddOne):
    """A node with a lifecycle of its own, which needs its thread."""

    def initialize(self) -> None:
        """Do as `Node` does."""
        super().initialize()

    def cleanup(self) -> None:
        """Do as `Node` does."""
        super().cleanup()


def inline(effort: Effort) -> Samples:
    """Three functions on the event loop."""
    nodes = [AddOne(), AddOne(), AddOne()]
    placed = [node.with_options(placement="inline") for node in nodes]
    return asyncio.run(_rounds(placed, nodes, effort.rounds(30)))


def coroutines(effort: Effort) -> Samples:
    """Three coroutines."""
    nodes = [AsyncAddOne(), AsyncAddOne(), AsyncAddOne()]
    return asyncio.run(_rounds(nodes, nodes, effort.rounds(30)))


def with_thread(effort: Effort) -> Samples:
    """A function on a thread, where it is initialized and cleaned up, before a coroutine."""
    placed, beside = OnThread(), AsyncAddOne()
    pipeline = [placed.with_options(placement="thread"), beside]
    return asyncio.run(_rounds(pipeline, [placed, beside], effort.rounds(30), has_thread=True))


async def _rounds(pipeline: list[Any], nodes: list[Any], rounds: int, *, has_thread: bool = False) -> Samples:
    opened = Pipeline(pipeline)

    async def ours() -> float:
        started = perf_counter()
        for _ in range(SESSIONS):
            async with opened.open():
                pass
        return (perf_counter() - started) * 1e6 / SESSIONS

    async def by_hand() -> float:
        started = perf_counter()
        for _ in range(SESSIONS):
            if has_thread:
                thread = threading.Thread(target=_live, args=(nodes,))
                thread.start()
                thread.join()
            else:
                _live(nodes)
        return (perf_counter() - started) * 1e6 / SESSIONS

    return await alternate_on_loop(ours, by_hand, rounds)


def _live(nodes: list[Any]) -> None:
    """Initialize and clean up the nodes."""
    for node in nodes:
        node.initialize()
    for node in reversed(nodes):
        node.cleanup()


_row = functools.partial(Benchmark, unit="µs", compared_by="ours")

BENCHMARKS = [
    _row(
        "open-inline",
        "a session opened and closed, 3 nodes inline",
        "initialize and cleanup of the nodes",
        50.0,
        inline,
    ),
    _row("open-async", "the same, 3 async nodes", "initialize and cleanup of the nodes", 50.0, coroutines),
    _row(
        "open-thread",
        "the same, a node on a thread and an async one",
        "a thread that initializes and cleans up",
        120.0,
        with_thread,
    ),
]
