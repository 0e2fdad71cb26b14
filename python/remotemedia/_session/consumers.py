"""Who takes the outputs of the streams of a session.

Somebody who waits for a session to come to rest must not wait for outputs to be taken that nobody takes, or
that only he could take himself.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

    from remotemedia._core import OutputStream

__all__ = ["Consumer", "Consumers", "who_is_here"]

Overflow = Literal["wait", "keep", "drop"]


class Consumer:
    """Whoever iterates over a stream: the thread, and in asyncio the task, that has asked last."""

    def __init__(self, stream: OutputStream, *, is_main: bool) -> None:
        """Know the stream; nobody has asked yet."""
        self.stream = stream
        self.is_main = is_main
        self.task: weakref.ref[asyncio.Task[object]] | None = None

    def is_elsewhere(self, here: int | asyncio.Task[object]) -> bool:
        """Whether somebody else than the one who is `here` may go on to take outputs."""
        if self.task is not None:
            task = self.task()
            return task is not None and task is not here and not task.done()
        thread = self.stream.taken_by
        return thread != here and thread in sys._current_frames()  # noqa: SLF001 - The threads that live.


class Consumers:
    """The consumers of all streams of one session that somebody still holds."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._takers: weakref.WeakSet[Consumer] = weakref.WeakSet()

    def add(self, consumer: Consumer) -> Consumer:
        """One more stream is iterated over."""
        self._takers.add(consumer)
        return consumer

    def is_main_taken(self, here: int | asyncio.Task[object]) -> bool:
        """Whether somebody else takes what was put in."""
        return any(consumer.is_main and consumer.is_elsewhere(here) for consumer in self._takers.copy())

    def make_room(self, main: OutputStream, here: int | asyncio.Task[object], overflow: Overflow) -> None:
        """Let outputs that nobody else takes be kept or dropped when there is no room for them."""
        main.set_overflow("wait" if self.is_main_taken(here) else overflow)
        for consumer in self._takers.copy():
            if not consumer.is_main:
                consumer.stream.set_overflow("wait" if consumer.is_elsewhere(here) else overflow)

    def wait_for_room(self, main: OutputStream) -> None:
        """Outputs wait for room again."""
        for stream in [main, *(consumer.stream for consumer in self._takers.copy())]:
            stream.set_overflow("wait")


def who_is_here() -> int | asyncio.Task[object]:
    """The task that calls, or the thread where there is none."""
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else task
