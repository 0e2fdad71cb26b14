"""Compares two coroutines on one event loop."""

from __future__ import annotations

import gc
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.harness.measuring import Samples

    Work = Callable[[], Awaitable[list[Any]]]

__all__ = ["against_coroutine", "alternate_on_loop", "medians_in_turn"]

CALLS = 100
"""Calls in a round of `medians_in_turn`."""


async def against_coroutine(ours: Work, by_hand: Work, rounds: int) -> Samples:
    """Compare a pipeline with a coroutine: microseconds for each output.

    Raises:
        AssertionError: If their outputs differ.
    """
    outputs = await ours()
    if outputs != await by_hand():
        raise AssertionError("the pipeline gives other outputs than the coroutine by hand")
    count = len(outputs)
    del outputs
    return await alternate_on_loop(
        lambda: _micros_of(ours, count), lambda: _micros_of(by_hand, count), rounds
    )


async def alternate_on_loop(
    ours: Callable[[], Awaitable[float]], baseline: Callable[[], Awaitable[float]], rounds: int
) -> Samples:
    """Take samples in the order of `measuring.alternate`, without leaving the event loop."""
    samples: Samples = []
    before = await _settled(baseline)
    for _ in range(rounds + 1):
        took = await _settled(ours)
        after = await _settled(baseline)
        samples.append((took, (before + after) / 2))
        before = after
    return samples[1:]


async def medians_in_turn(
    ours: Callable[[int], Awaitable[Any]], baseline: Callable[[int], Awaitable[Any]], rounds: int
) -> Samples:
    """Call both in turn; a sample consists of the medians of a round, in microseconds."""
    samples: Samples = []
    for _ in range(rounds + 1):
        our_times: list[float] = []
        baseline_times: list[float] = []
        for item in range(CALLS):
            started = perf_counter()
            await ours(item)
            between = perf_counter()
            await baseline(item)
            ended = perf_counter()
            our_times.append((between - started) * 1e6)
            baseline_times.append((ended - between) * 1e6)
        samples.append((statistics.median(our_times), statistics.median(baseline_times)))
    return samples[1:]


async def _settled(side: Callable[[], Awaitable[float]]) -> float:
    gc.collect()
    return await side()


async def _micros_of(work: Work, count: int) -> float:
    started = perf_counter()
    await work()
    return (perf_counter() - started) * 1e6 / count
