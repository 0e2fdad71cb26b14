"""The nodes whose workers are timed. This module imports few others, because the workers import it."""

from __future__ import annotations

import os
import statistics
from itertools import repeat
from time import perf_counter
from typing import Any

from remotemedia import Node

__all__ = ["AddOne", "AddOneLater", "Filled", "Labels", "Spin", "Weighty", "WhoAmI"]

WORK_SECS = 0.001


class Spin:
    """Adds small numbers up in Python for some time, holding the interpreter's lock.

    The speed of an interpreter differs between processes of the same program, by a sixth if objects are
    created and deleted, and is constant within a process. So no objects are, and each process measures
    the amount of work for itself.
    """

    def __init__(self, secs: float = WORK_SECS) -> None:
        self.secs = secs
        self.turns = 10_000

    def initialize(self) -> None:
        """Measure how many turns take so long here."""
        took = statistics.median([self._secs() for _ in range(100)][50:])
        self.turns = round(self.turns * self.secs / took)

    def _secs(self) -> float:
        started = perf_counter()
        self.process(1)
        return perf_counter() - started

    def process(self, item: int) -> int:
        """The item, some time later."""
        total = 0
        for _ in repeat(None, self.turns):
            total = total + 3 & 63
        return item + (total < 0)


class AddOne:
    """Returns the next number, which takes no time."""

    def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


class AddOneLater:
    """The same as a coroutine."""

    async def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


class Filled:
    """Returns an array that it already has, so that only the transport is measured."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.array: Any = None

    def initialize(self) -> None:
        """Create the array."""
        import numpy as np

        self.array = np.zeros(self.count)

    def process(self, _item: Any) -> Any:
        """Return the array."""
        return self.array


class Labels:
    """Adds a label to a dict."""

    def process(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the dict with one more label."""
        item["labels"].append("d")
        return item


class WhoAmI(Node):
    """Returns the id of its process."""

    def process(self, _item: int) -> int:
        """Return the process id for any item."""
        return os.getpid()


class Weighty(Node):
    """A node with weights."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.weights = weights

    def process(self, item: int) -> int:
        """The item."""
        return item
