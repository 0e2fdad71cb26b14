"""The threads and tasks that read the outputs of a session.

`drain` and the end of a block must not wait for outputs that no thread reads, or that only the waiting thread
itself could read.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Consumer", "Consumers", "OutputQueue", "who_is_here"]

Overflow = Literal["wait", "keep", "drop"]


class OutputQueue(Protocol):
    """The outputs of a stream that have not been taken."""

    @property
    def taken_by(self) -> int:
        """The thread that took the last one; 0 in asyncio."""

    def set_overflow(self, overflow: Overflow) -> None:
        """Set what happens to outputs for which there is no room."""


class Consumer:
    """The reader of a stream: the thread, or in asyncio the task, that called `next` last."""

    def __init__(self, stream: OutputQueue, *, is_main: bool) -> None:
        """Store the stream; it has no reader yet."""
        self.stream = stream
        self.is_main = is_main
        self.task: weakref.ref[asyncio.Task[object]] | None = None

    def is_elsewhere(self, here: int | asyncio.Task[object]) -> bool:
        """Whether another thread or task than `here` may continue to read outputs."""
        if self.task is not None:
            task = self.task()
            return task is not None and task is not here and not task.done()
        thread = self.stream.taken_by
        return thread != here and thread in sys._current_frames()  # noqa: SLF001 - The threads that still exist.


class Consumers:
    """The consumers of all streams of one session that are still referenced."""

    def __init__(self) -> None:
        """Start without consumers."""
        self._takers: weakref.WeakSet[Consumer] = weakref.WeakSet()

    def add(self, consumer: Consumer) -> Consumer:
        """Add the reader of one more stream."""
        self._takers.add(consumer)
        return consumer

    def is_main_taken(self, here: int | asyncio.Task[object]) -> bool:
        """Whether another thread or task reads the outputs of `put`."""
        return any(consumer.is_main and consumer.is_elsewhere(here) for consumer in self._takers.copy())

    def make_room(self, main: OutputQueue, here: int | asyncio.Task[object], overflow: Overflow) -> None:
        """Keep or drop outputs that no other reader takes if there is no room for them."""
        main.set_overflow("wait" if self.is_main_taken(here) else overflow)
        for consumer in self._takers.copy():
            if not consumer.is_main:
                consumer.stream.set_overflow("wait" if consumer.is_elsewhere(here) else overflow)

    def wait_for_room(self, main: OutputQueue) -> None:
        """Make outputs wait for room again."""
        for stream in [main, *(consumer.stream for consumer in self._takers.copy())]:
            stream.set_overflow("wait")


def who_is_here() -> int | asyncio.Task[object]:
    """Return the current task, or the current thread without a task."""
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else task
