"""What a user has: a module with a pipeline of their own objects."""

from __future__ import annotations


class Scale:
    """Multiplies each item."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def process(self, item: int) -> int:
        """The product."""
        return item * self.factor


class Total:
    """Keeps the sum of all items."""

    def __init__(self) -> None:
        self.total = 0

    def process(self, item: int) -> int:
        """The sum so far."""
        self.total += item
        return self.total


pipeline = [Scale(10), Total()]
