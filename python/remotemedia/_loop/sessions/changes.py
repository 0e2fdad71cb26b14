"""What tasks wait for: changes of the state of a session or stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Changes", "resolve_later"]

_BATCH = 64
"""How many waiting tasks are woken in one turn of the loop."""


class Changes:
    """The tasks that wait until a condition changes."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        """Start without waiting tasks."""
        self.waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake the tasks, which check their conditions."""
        for waiting in self.waiting:
            if not waiting.done():
                try:
                    waiting.set_result(None)
                except RuntimeError:
                    # A loop that is closed runs no task that could be woken.
                    continue
        self.waiting.clear()

    async def wait(self) -> None:
        """Wait for a change."""
        changed = asyncio.get_running_loop().create_future()
        self.waiting.add(changed)
        try:
            await changed
        except BaseException:
            self.waiting.discard(changed)
            raise

    async def wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is false."""
        while condition():
            await self.wait()


def resolve_later(futures: Sequence[asyncio.Future[Any]], value: object) -> None:
    """Set the result of futures after the current task has gone on, some in each turn of the loop."""
    if not futures:
        return

    def resolve(start: int) -> None:
        for future in futures[start : start + _BATCH]:
            if not future.done():
                future.set_result(value)
        if start + _BATCH < len(futures):
            loop.call_soon(resolve, start + _BATCH)

    loop = asyncio.get_running_loop()
    loop.call_soon(resolve, 0)
