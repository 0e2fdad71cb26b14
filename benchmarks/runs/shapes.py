"""Pipelines in which an item does not become exactly one output of one node: generators, filters, joins."""

from __future__ import annotations

import asyncio
import functools
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import run_pipeline
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Node, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ITEMS = list(range(100_000))
OUTPUTS = 4
"""What the generator yields for an item."""


class Spread(Node):
    """Several outputs for an item."""

    def process(self, item: int) -> Iterator[int]:
        """Yield the item and the numbers after it."""
        for number in range(OUTPUTS):
            yield item + number


class Even(Node):
    """Passes every other item."""

    def process(self, item: int) -> int | None:
        """Return the item if it is even."""
        return None if item % 2 else item


class Add(Node):
    """Joins two branches."""

    def process(self, items: dict[str, int]) -> int:
        """Return the sum of both."""
        return items["left"] + items["right"]


def generator(effort: Effort) -> Samples:
    """A generator alone."""
    node = Spread()
    items = ITEMS[: len(ITEMS) // OUTPUTS]

    def by_hand() -> list[int]:
        outputs = []
        for item in items:
            for output in node.process(item):
                outputs.append(output)  # noqa: PERF402 - As a programmer would write it.
        return outputs

    return _against(Pipeline([node]), by_hand, items, effort)


def generator_in_chain(effort: Effort) -> Samples:
    """A generator between two functions."""
    first, spread, last = nodes = AddOne(), Spread(), AddOne()
    items = ITEMS[: len(ITEMS) // OUTPUTS]

    def by_hand() -> list[int]:
        outputs = []
        for item in items:
            for output in spread.process(first.process(item)):
                outputs.append(last.process(output))  # noqa: PERF401 - As a programmer would write it.
        return outputs

    return _against(Pipeline(list(nodes)), by_hand, items, effort)


def filtering(effort: Effort) -> Samples:
    """A filter between two functions."""
    first, even, last = nodes = AddOne(), Even(), AddOne()

    def by_hand() -> list[int]:
        outputs = []
        for item in ITEMS:
            passed = even.process(first.process(item))
            if passed is not None:
                outputs.append(last.process(passed))
        return outputs

    return _against(Pipeline(list(nodes)), by_hand, ITEMS, effort)


def diamond(effort: Effort) -> Samples:
    """Two branches that a join brings together."""
    first, left, right, join = AddOne(), AddOne(), AddOne(), Add()
    pipeline = Pipeline("diamond").add_node(first, id="first")
    pipeline.add_node(left, id="left", after="first")
    pipeline.add_node(right, id="right", after="first")
    pipeline.add_node(join, id="join", after=["left", "right"], join=True)

    def by_hand() -> list[int]:
        outputs = []
        for item in ITEMS:
            number = first.process(item)
            both = {"left": left.process(number), "right": right.process(number)}
            outputs.append(join.process(both))
        return outputs

    return _against(pipeline, by_hand, ITEMS, effort)


def _against(pipeline: Any, by_hand: Callable[[], list[int]], items: list[int], effort: Effort) -> Samples:
    """Compare a run with a function that does the same.

    Raises:
        AssertionError: If their outputs differ.
    """

    def take_by_hand() -> float:
        started = perf_counter()
        # Kept: a run does not release its outputs while it is timed, either.
        _outputs = by_hand()
        return (perf_counter() - started) * 1e3

    with asyncio.Runner() as runner:
        if runner.run(run_pipeline(pipeline, items))[1] != by_hand():
            raise AssertionError("the pipeline gives other outputs than the loop by hand")
        return alternate(
            lambda: runner.run(run_pipeline(pipeline, items))[0], take_by_hand, effort.rounds(60)
        )


_row = functools.partial(Benchmark, unit="ms", compared_by="ratio")

BENCHMARKS = [
    _row(
        "generator",
        "a generator of 4 outputs, 25,000 ints",
        "loop by hand over the same node",
        1.2,
        generator,
    ),
    _row(
        "generator-chain",
        "the same between two trivial nodes",
        "loop by hand over the same nodes",
        1.2,
        generator_in_chain,
    ),
    _row(
        "filter",
        "a filter between 2 trivial nodes, 100,000 ints",
        "loop by hand over the same nodes",
        1.2,
        filtering,
    ),
    _row("diamond", "2 branches and a join, 100,000 ints", "loop by hand over the same nodes", 1.3, diamond),
]
