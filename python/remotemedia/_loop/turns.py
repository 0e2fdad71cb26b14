"""How long a task works on items before other tasks get a turn."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Turns", "next_size"]

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


def next_size(size: int, took: float, largest: int = _LARGEST_CHUNK) -> int:
    """Return the size of the next chunk, after one of `size` items took so many seconds."""
    if took > _TURN_SECS:
        return max(1, size // 4)
    return min(4 * size, largest) if took < _TURN_SECS / 4 else size
