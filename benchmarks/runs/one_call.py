"""The cost of one call of one node in an asyncio program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks.harness.loop_timing import medians_in_turn
from benchmarks.harness.measuring import Benchmark
from remotemedia import execute_pipeline_with_input

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]


class AddOne:
    """A node that costs nothing."""

    def process(self, item: int) -> int:
        """The next number."""
        return item + 1


async def _rounds(rounds: int) -> Samples:
    node = AddOne()
    loop = asyncio.get_running_loop()
    return await medians_in_turn(
        lambda item: execute_pipeline_with_input([node], [item]),
        lambda item: loop.run_in_executor(None, node.process, item),
        rounds,
    )


def one_call(effort: Effort) -> Samples:
    """Calls in turn with calls of the default executor."""
    return asyncio.run(_rounds(effort.rounds(60)))


BENCHMARKS = [
    Benchmark(
        "call",
        "one call of one node (median of calls)",
        "run_in_executor(None, node.process, x)",
        60.0,
        one_call,
        unit="µs",
        compared_by="difference",
    ),
]
