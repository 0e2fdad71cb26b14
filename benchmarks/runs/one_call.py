"""The cost of one call of one node in an asyncio program."""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark
from remotemedia import execute_pipeline_with_input

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

CALLS = 100
"""Calls of a round, the median of which is its sample."""


class AddOne:
    """A node that costs nothing."""

    def process(self, item: int) -> int:
        """The next number."""
        return item + 1


async def _round(node: AddOne) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    ours: list[float] = []
    executor: list[float] = []
    for item in range(CALLS):
        started = perf_counter()
        await execute_pipeline_with_input([node], [item])
        between = perf_counter()
        await loop.run_in_executor(None, node.process, item)
        ended = perf_counter()
        ours.append((between - started) * 1e6)
        executor.append((ended - between) * 1e6)
    return statistics.median(ours), statistics.median(executor)


async def _rounds(rounds: int) -> Samples:
    node = AddOne()
    samples = [await _round(node) for _ in range(rounds + 1)]
    return samples[1:]


def one_call(effort: Effort) -> Samples:
    """Calls in turn with calls of the default executor."""
    return asyncio.run(_rounds(effort.rounds(60)))


BENCHMARKS = [
    Benchmark(
        "call",
        "one call of one node (median of calls)",
        "run_in_executor(None, node.process, x)",
        "µs",
        "difference",
        60.0,
        one_call,
    ),
]
