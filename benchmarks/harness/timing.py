"""Compares a pipeline in this process with a hand-written loop."""

from __future__ import annotations

import asyncio
import operator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness.measuring import alternate
from remotemedia import execute_pipeline_with_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from benchmarks.harness.measuring import Samples

    class Processor(Protocol):
        """The interface that the hand-written loop needs."""

        def process(self, item: Any, /) -> Any:
            """The output for an item."""


__all__ = ["against_loop", "micros_of_each", "millis_to_read", "run_pipeline"]


def millis_to_read(outputs: Iterable[Any], expected: int) -> float:
    """Read all outputs: milliseconds.

    Raises:
        AssertionError: If their number is not the expected one.
    """
    started = perf_counter()
    count = sum(1 for _ in outputs)
    took = (perf_counter() - started) * 1e3
    if count != expected:
        raise AssertionError(f"{count} of {expected} items came out")
    return took


def micros_of_each(call: Callable[[Any], object], items: Iterable[Any]) -> list[float]:
    """Call a function for each item: the microseconds of each call."""
    times = []
    for item in items:
        started = perf_counter()
        call(item)
        times.append((perf_counter() - started) * 1e6)
    return times


def by_hand(nodes: Sequence[Processor], items: list[Any]) -> tuple[float, list[Any]]:
    """The loop that a programmer would write for three nodes: milliseconds, and the outputs."""
    first, second, third = nodes
    outputs = []
    started = perf_counter()
    for item in items:
        outputs.append(third.process(second.process(first.process(item))))  # noqa: PERF401 - As a programmer would write it.
    return (perf_counter() - started) * 1e3, outputs


async def run_pipeline(
    pipeline: Any, items: list[Any], *, with_metrics: bool = False
) -> tuple[float, list[Any]]:
    """One call of the public function: milliseconds, and the outputs."""
    started = perf_counter()
    result = await execute_pipeline_with_input(pipeline, items, with_metrics)
    took = (perf_counter() - started) * 1e3
    return took, result["outputs"] if with_metrics else result


def against_loop(
    pipeline: Any,
    plain_nodes: Sequence[Processor],
    items: list[Any],
    rounds: int,
    *,
    with_metrics: bool = False,
) -> Samples:
    """Compare a pipeline with the hand-written loop over `plain_nodes`.

    Raises:
        AssertionError: If their outputs differ: they must be equal numbers, or the same objects.
    """
    with asyncio.Runner() as runner:
        _, expected = by_hand(plain_nodes, items)
        _, outputs = runner.run(run_pipeline(pipeline, items, with_metrics=with_metrics))
        is_same = operator.eq if isinstance(items[0], int) else operator.is_
        if not all(is_same(*pair) for pair in zip(outputs, expected, strict=True)):
            raise AssertionError("the pipeline gives other outputs than the loop by hand")
        del outputs, expected

        return alternate(
            lambda: runner.run(run_pipeline(pipeline, items, with_metrics=with_metrics))[0],
            lambda: by_hand(plain_nodes, items)[0],
            rounds,
        )
