"""The nodes whose workers are timed. This module imports next to nothing, for they import it."""

from __future__ import annotations

import os
from typing import Any

from remotemedia import Node

__all__ = ["Spin", "Weighty", "WhoAmI"]


class Spin:
    """Adds numbers up in Python for about a millisecond, holding the interpreter's lock."""

    def __init__(self, turns: int) -> None:
        self.turns = turns

    def process(self, item: int) -> int:
        """The item, some time later."""
        total = 0
        for turn in range(self.turns):
            total += turn
        return item + (total < 0)


class WhoAmI(Node):
    """Answers the number of its process."""

    def process(self, _item: int) -> int:
        """The number, whatever the item."""
        return os.getpid()


class Weighty(Node):
    """A node with weights."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.weights = weights

    def process(self, item: int) -> int:
        """The item."""
        return item
