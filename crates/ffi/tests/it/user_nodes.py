"""Nodes as users write them, for the tests that drive them from Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Counter:
    """Passes items on, counts them, and notes what happens to it."""

    def __init__(self) -> None:
        self.count = 0
        self.calls: list[str] = []

    def initialize(self) -> None:
        """Note it."""
        self.calls.append("initialize")

    def process(self, item: Any) -> Any:
        """The item itself."""
        self.count += 1
        return item

    def cleanup(self) -> None:
        """Note it."""
        self.calls.append("cleanup")


class Twice:
    """A generator."""

    def process(self, item: Any) -> Iterator[Any]:
        """The item, two times."""
        yield item
        yield item


class Awaited:
    """A coroutine."""

    async def process(self, item: int) -> int:
        """The next number, after a turn of the event loop."""
        import asyncio

        await asyncio.sleep(0)
        return item + 1


class Counting:
    """An asynchronous generator."""

    async def process(self, item: int) -> AsyncIterator[int]:
        """The numbers below the item."""
        for number in range(item):
            yield number


class Last:
    """Keeps the last item for the end."""

    def __init__(self) -> None:
        self.last: Any = None

    def process(self, item: Any) -> None:
        """Nothing yet."""
        self.last = item

    def flush(self) -> Any:
        """The last item."""
        return self.last


class Numbers:
    """A source."""

    def process(self) -> Iterator[int]:
        """Three numbers."""
        yield from (1, 2, 3)


class FailOn:
    """Passes items on until the bad one comes."""

    def __init__(self, bad: Any, error: type[BaseException]) -> None:
        self.bad = bad
        self.error = error

    def process(self, item: Any) -> Any:
        """The item itself."""
        if item == self.bad:
            raise self.error(item)
        return item


class Item:
    """An object that can be watched."""
