"""The nodes that come with RemoteMedia, as instances and from a manifest."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import against_loop, run_pipeline
from remotemedia import Pipeline
from remotemedia.nodes import CalculatorNode, PassThroughNode

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ITEMS = 100_000


class PlainPassThrough:
    """A class that a programmer would write without a library."""

    def process(self, item: Any) -> Any:
        """The item itself."""
        return item


class PlainAdd:
    """As `CalculatorNode("add", …)`, for numbers alone."""

    def __init__(self, operand: int) -> None:
        self.operand = operand

    def process(self, item: int) -> int:
        """The sum."""
        return item + self.operand


def _instances() -> list[Any]:
    return [PassThroughNode(), CalculatorNode("add", 10), PassThroughNode()]


def builtin(effort: Effort) -> Samples:
    """Built-in nodes against plain classes in a loop by hand."""
    plain: list[Any] = [PlainPassThrough(), PlainAdd(10), PlainPassThrough()]
    return against_loop(_instances(), plain, list(range(ITEMS)), effort.rounds(60))


def manifest(effort: Effort) -> Samples:
    """The manifest of built-in nodes against the instances."""
    items = list(range(ITEMS))
    nodes = _instances()
    text = Pipeline(nodes).serialize()
    with asyncio.Runner() as runner:
        return alternate(
            lambda: runner.run(run_pipeline(text, items))[0],
            lambda: runner.run(run_pipeline(nodes, items))[0],
            effort.rounds(120),
        )


_row = functools.partial(Benchmark, unit="ms", compared_by="ratio")

BENCHMARKS = [
    _row(
        "builtin",
        "PassThrough, Calculator, PassThrough, 100,000 ints",
        "loop by hand over plain classes",
        1.0,
        builtin,
    ),
    _row("manifest", "a manifest of the same nodes", "their instances", 1.05, manifest, is_two_sided=True),
]
