"""How long a task works on items before other tasks get a turn."""

from __future__ import annotations

import asyncio
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remotemedia._core import LoopCall
    from remotemedia._loop.stage import Stage

__all__ = ["SharedTurns", "Turns", "next_size"]

_LARGEST_CHUNK = 4096

_TURN_SECS = 0.001
"""How long nodes that never suspend may run before the other tasks of the loop get a turn."""


class Turns:
    """Gives the other tasks of the loop a turn, for nodes that never suspend."""

    def __init__(self) -> None:
        """Start to measure."""
        self._last = time.perf_counter()

    async def give(self) -> None:
        """Let other tasks run, if this one has run for long."""
        if time.perf_counter() - self._last > _TURN_SECS:
            await asyncio.sleep(0)
            self._last = time.perf_counter()


class SharedTurns(Turns):
    """The turns of a stream of items that may be slow to come.

    The nodes are entered for the whole stream, until another session uses one of them; then for each item.
    """

    def __init__(self, stage: Stage) -> None:
        """Listen for other sessions."""
        super().__init__()
        self._stage = stage
        self._call: LoopCall | None = None
        loop, share = asyncio.get_running_loop(), weakref.WeakMethod(self._share)

        def become_shared() -> None:
            # A loop that is closed runs no stream.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_call_if_there, share)

        self.is_shared = stage.core.listen(become_shared)

    def _share(self) -> None:
        self.is_shared = True
        if self._stage.is_at_input():
            self.leave()

    async def enter(self) -> None:
        """Enter the nodes."""
        self._call = await self._stage.enter(0)

    def leave(self) -> None:
        """Leave the nodes, if they are entered."""
        call, self._call = self._call, None
        if call is not None:
            call.leave()

    async def breathe(self) -> None:
        """Let other tasks run, if this one has run for long."""
        await self.give()


def _call_if_there(method: weakref.WeakMethod[Any]) -> None:
    if (share := method()) is not None:
        share()


def next_size(size: int, took: float, largest: int = _LARGEST_CHUNK) -> int:
    """Return the size of the next chunk, after one of `size` items took so many seconds."""
    if took > _TURN_SECS:
        return max(1, size // 4)
    return min(4 * size, largest) if took < _TURN_SECS / 4 else size
