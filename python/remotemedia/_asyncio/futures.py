"""Results that an event loop sets once and that threads wait for."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Awaitable, Callable

    Done = Callable[[Any, BaseException | None], object]

__all__ = ["Result", "Started", "cancel"]

leave_fork: Callable[[BaseException | None], object] | None = None
"""Exits this process with the failure of a coroutine. Set in the child if a node has forked in a worker,
because the thread that waits for the coroutine does not exist there."""


class Started:
    """An awaitable that was started without a waiting thread."""

    __slots__ = ("awaitable", "context", "done", "is_cancelled", "result", "task", "timeout", "when_set")

    def __init__(
        self,
        awaitable: Awaitable[Any],
        done: Done,
        timeout: float | None,
        when_set: Callable[[Started], None],
        context: contextvars.Context,
    ) -> None:
        self.awaitable = awaitable
        self.context = context
        self.done = done
        self.timeout = timeout
        self.when_set = when_set
        self.task: asyncio.Task[None] | None = None
        self.result: tuple[Any, BaseException | None] | None = None
        self.is_cancelled = False

    def set(self, value: Any, failure: BaseException | None = None) -> None:
        """Store the result until it is reported; only the first call counts."""
        if leave_fork is not None:
            leave_fork(failure)
        if self.result is None:
            self.result = (value, failure)
            self.when_set(self)

    def report(self) -> None:
        """Report the result."""
        result, self.result = self.result, (None, None)
        if result is not None:
            self.done(*result)

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            cancel(self.task)


class Result:
    """A result that the event loop sets once and that a thread waits for."""

    __slots__ = ("_failure", "_lock", "_value", "is_set", "when_set")

    def __init__(self) -> None:
        # A plain lock: Ctrl-C can interrupt a thread that waits for it, and it is the fastest.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._failure: BaseException | None = None
        self.is_set = False
        self.when_set: Callable[[], object] | None = None

    def set(self, value: Any, failure: BaseException | None = None) -> None:
        """Set the result and wake the thread; only the first call counts."""
        if leave_fork is not None:
            leave_fork(failure)
        if self.is_set:
            return
        self._value, self._failure = value, failure
        self.is_set = True
        if self.when_set is not None:
            self.when_set()
        self.wake()

    def wake(self) -> None:
        """Wake the thread, which may have something else to do before the result."""
        # If the lock is free, the thread has not gone to sleep since it was woken.
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait a short time for the result: a signal that arrives just before a wait does not end it.

        Returns:
            Whether the thread was woken. It may be without a result.
        """
        # Ctrl-C may have arrived just after the lock was acquired.
        return self.is_set or self._lock.acquire(timeout=timeout)

    def take(self) -> Any:
        """Return the result.

        Raises:
            BaseException: If the result is a failure.
        """
        failure, self._failure = self._failure, None
        if failure is None:
            return self._value
        try:
            raise failure
        finally:
            del failure


def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task at most once, so that it can finish what it awaits while it ends."""
    if not task.cancelling():
        task.cancel()
