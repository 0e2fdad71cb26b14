"""Nodes of a user's own: trivial ones, ones that work for 10 µs, and large arrays between them."""

from __future__ import annotations

import functools
import sys
from itertools import repeat
from typing import TYPE_CHECKING, Any

from benchmarks.harness.measuring import Benchmark, NotMeasuredError
from benchmarks.harness.timing import against_loop, micros_of_each
from remotemedia import Node

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

TRIVIAL_BAR = 1.15 if sys.version_info < (3, 12) else 1.2
ARRAYS_BAR = 1.2 if sys.version_info < (3, 12) else 1.3
TRIVIAL_ITEMS = 100_000

WORK_US = 10.0
# Fewer than above, to allow many rounds. This is the harder case, because fewer items share the cost of
# the call.
WORKING_ITEMS = 5_000

ARRAY_BYTES = 1_000_000
# More than the caches hold; a run uses these items repeatedly.
ARRAYS = 64


class AddOne(Node):
    """The smallest node that does something."""

    def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


class Magnitude(Node):
    """A node that calls something, so that its result could be a generator and has to be checked."""

    def process(self, item: int) -> int:
        """Return the item without its sign."""
        return abs(item)


class Level(Node):
    """Python code that takes a given time: it computes the level of some constant samples."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.samples = [index % 17 / 17 for index in range(count)]

    def process(self, item: int) -> int | None:
        """Return the item, some time later."""
        level = 0.0
        for sample in self.samples:
            level = level * 0.9 + sample * sample
        return item if level >= 0 else None


class Frame:
    """An item of a class of the user's own."""

    def __init__(self, number: int) -> None:
        self.number = number


class Pass(Node):
    """Passes an item on."""

    def process(self, item: Any) -> Any:
        """Return the same item."""
        return item


def samples_for(micros: float) -> int:
    """Return the number of samples for which `Level` takes this time on this machine."""
    node = Level(1000)
    best = min(micros_of_each(node.process, repeat(0, 200)))
    return round(len(node.samples) * micros / best)


def trivial(effort: Effort) -> Samples:
    """Three nodes that add one."""
    nodes = [AddOne(), AddOne(), AddOne()]
    return against_loop(nodes, nodes, list(range(TRIVIAL_ITEMS)), effort.rounds(60))


def trivial_with_metrics(effort: Effort) -> Samples:
    """Three nodes that add one, each call measured."""
    nodes = [AddOne(), AddOne(), AddOne()]
    return against_loop(nodes, nodes, list(range(TRIVIAL_ITEMS)), effort.rounds(60), with_metrics=True)


def calling(effort: Effort) -> Samples:
    """Three nodes that call a function."""
    nodes = [Magnitude(), Magnitude(), Magnitude()]
    return against_loop(nodes, nodes, list(range(TRIVIAL_ITEMS)), effort.rounds(60))


def working(effort: Effort) -> Samples:
    """Three nodes that work."""
    count = samples_for(WORK_US)
    nodes = [Level(count), Level(count), Level(count)]
    return against_loop(nodes, nodes, list(range(WORKING_ITEMS)), effort.rounds(48))


def working_with_metrics(effort: Effort) -> Samples:
    """Three nodes that work, each call measured."""
    count = samples_for(WORK_US)
    nodes = [Level(count), Level(count), Level(count)]
    return against_loop(nodes, nodes, list(range(WORKING_ITEMS)), effort.rounds(48), with_metrics=True)


def objects(effort: Effort) -> Samples:
    """Objects of a class of the user's own through three nodes."""
    nodes = [Pass(), Pass(), Pass()]
    items = [Frame(number) for number in range(TRIVIAL_ITEMS)]
    return against_loop(nodes, nodes, items, effort.rounds(60))


def arrays(effort: Effort) -> Samples:
    """Large arrays through three nodes; that the outputs are the very objects that went in is checked."""
    try:
        import numpy as np
    except ImportError as error:
        raise NotMeasuredError("numpy is not installed") from error

    distinct = [np.full(ARRAY_BYTES, index, dtype=np.uint8) for index in range(ARRAYS)]
    items = [distinct[index % ARRAYS] for index in range(TRIVIAL_ITEMS)]
    nodes = [Pass(), Pass(), Pass()]
    return against_loop(nodes, nodes, items, effort.rounds(60))


_row = functools.partial(
    Benchmark, against="loop by hand over the same nodes", unit="ms", compared_by="ratio"
)

BENCHMARKS = [
    _row("trivial", "3 trivial nodes, 100,000 ints", bar=TRIVIAL_BAR, measure=trivial),
    _row("calling", "3 nodes that call abs(), 100,000 ints", bar=1.3, measure=calling),
    _row("working", "3 nodes of 10 µs, 5,000 ints", bar=1.02, measure=working),
    _row("trivial-metrics", "3 trivial nodes, with metrics", bar=2.0, measure=trivial_with_metrics),
    _row("working-metrics", "3 nodes of 10 µs, with metrics", bar=1.05, measure=working_with_metrics),
    _row("objects", "3 nodes, 100,000 objects of a class", bar=ARRAYS_BAR, measure=objects),
    _row("arrays", "3 nodes, 100,000 arrays of 1 MB", bar=ARRAYS_BAR, measure=arrays),
]
