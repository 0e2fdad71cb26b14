"""How long a task works on items before other tasks get a turn."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remotemedia._core import LoopCall
    from remotemedia._loop.stages.stage import Stage

__all__ = ["CHUNK_SECS", "CROSSING_SECS", "SharedTurns", "Turns", "cancellations", "is_current", "next_size"]

_LARGEST_CHUNK = 4096

_TURN_SECS = 0.001
"""How long nodes that never suspend may run before the other tasks of the loop get a turn."""

_IDLE_SECS = 0.005
"""Between items that come as slowly, the loop has been idle, or CPython has given others the interpreter."""

CHUNK_SECS = 0.0005
"""How long a chunk should take on the loop: its first output waits for its last item."""

CROSSING_SECS = 0.004
"""How long one should take that crosses to a thread, so that the crossing is a small part of it."""


class _Released(threading.local):
    """When the current thread has let others have the interpreter."""

    at = 0.0


_released = _Released()


def _let_threads_run() -> None:
    """Let other threads have the interpreter, if this one has had it for long; called after turns of a loop.

    CPython takes the interpreter from a thread when another one has waited for the switch interval and has
    not seen it free. A turn of the loop frees it, but only for a moment: the other thread does not wake in
    time, and begins to wait anew. It could wait for seconds.
    """
    now = time.perf_counter()
    if now - _released.at > sys.getswitchinterval():
        time.sleep(0)
        _released.at = time.perf_counter()


class Turns:
    """Gives the other tasks of the loop a turn, for nodes that never suspend.

    Attributes:
        were_given: Whether another task is known to have run since the last `give`.
    """

    __slots__ = ("__weakref__", "_last", "were_given")

    def __init__(self) -> None:
        """Start to measure."""
        self.were_given = False
        self._last = time.perf_counter()

    async def give(self) -> None:
        """Let other tasks run, if this one has run for long."""
        if not self.were_given:
            if time.perf_counter() - self._last <= _TURN_SECS:
                return
            await asyncio.sleep(0)
        self.note_given()

    def note_given(self) -> None:
        """Note that other tasks have had a turn; if the loop is busy, let other threads run, too."""
        self.were_given = False
        now = time.perf_counter()
        if now - self._last < _IDLE_SECS:
            _let_threads_run()
        self._last = now


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


def next_size(size: int, took: float, target: float, largest: int = _LARGEST_CHUNK) -> int:
    """Return the size of the next chunk, after one of `size` items took so many seconds.

    Args:
        size: The size of the last chunk.
        took: How long it took.
        target: How long a chunk should take; see `Stage.chunk_secs`.
        largest: The limit.
    """
    factor = min(max(target / (took or target), 0.25), 4.0)
    return max(1, min(math.ceil(size * factor) if factor > 1 else int(size * factor), largest))


def cancellations() -> int:
    """Return how often the current task was cancelled."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # The loop has stopped.
        task = None
    return 0 if task is None else task.cancelling()


def is_current(task: asyncio.Task[Any] | None) -> bool:
    """Whether an event loop runs this task now. Otherwise, a `GeneratorExit` in it closes it."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False
