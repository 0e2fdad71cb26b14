"""A wait of a thread for a task on an event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING

from remotemedia._asyncio.futures import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._asyncio.bridge import Bridge

__all__ = ["Question"]

_POLL_INTERVAL_SECS = 0.5


class Question:
    """A task on the event loop of a bridge, for whose result this thread waits.

    Call `ask`, then `wait` until it returns `True`. After an error, call `cancel`; at last, `end`.

    Attributes:
        result: The result, which the task sets.
    """

    def __init__(
        self,
        bridge: Bridge,
        begin: Callable[[Result], asyncio.Task[None] | None],
        *,
        can_be_cancelled: bool,
    ) -> None:
        """Prepare the task that `begin` starts on the loop."""
        self.result = Result()
        self._bridge = bridge
        self._begin = begin
        self._can_be_cancelled = can_be_cancelled
        self._thread_id = threading.get_ident()
        self._has_begun = False

    def ask(self) -> None:
        """Let the loop begin."""
        bridge = self._bridge
        bridge.results[self._thread_id] = self.result
        bridge.on_loop(self._start)
        if bridge.is_loop_gone():
            bridge.release_all()

    def wait(self) -> bool:
        """Wait until the task has set the result or woken this thread; return whether there is a result."""
        while not self.result.wait(_POLL_INTERVAL_SECS):
            # A loop may stop before it has run its callbacks.
            if self._bridge.is_loop_gone():
                self._bridge.release_all()
        return self.result.is_set

    def cancel(self) -> None:
        """Cancel the task, and wait until it has ended."""
        self._bridge.on_loop(self._stop)
        while not self.wait():
            pass

    def end(self) -> None:
        """Wait no longer."""
        self._bridge.results.pop(self._thread_id, None)

    def _start(self) -> None:
        result = self.result
        if result.is_set:
            # The loop had stopped, and ran again after the wait had ended.
            return
        self._has_begun = True
        try:
            task = self._begin(result)
        except BaseException as failure:  # noqa: BLE001 - Otherwise the thread would wait for ever.
            result.set(None, failure)
            return
        if task is not None and self._can_be_cancelled and not result.is_set:
            current = self._bridge.current
            current[self._thread_id] = task
            # Without a reference to this object, which refers to the result.
            result.when_set = functools.partial(current.pop, self._thread_id, None)
            if self._bridge.is_cancelled:
                task.cancel()

    def _stop(self) -> None:
        if self._has_begun:
            self._bridge.cancel_current(self._thread_id)
        else:
            self.result.set(None, asyncio.CancelledError())
