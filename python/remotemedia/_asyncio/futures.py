"""Results that an event loop sets once and that threads wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Awaitable, Callable

    Done = Callable[[Any, BaseException | None], object]

__all__ = ["Answer", "Started", "cancel"]

leave_fork: Callable[[BaseException | None], object] | None = None
"""Exits this process with the failure of a coroutine. Set in the child if a node has forked in a worker,
because the thread that waits for the coroutine does not exist there."""


class Started:
    """An awaitable that was started without a waiting thread."""

    __slots__ = ("answer", "awaitable", "context", "done", "is_cancelled", "task", "timeout", "when_given")

    def __init__(
        self,
        awaitable: Awaitable[Any],
        done: Done,
        timeout: float | None,
        when_given: Callable[[Started], None],
        context: contextvars.Context,
    ) -> None:
        self.awaitable = awaitable
        self.context = context
        self.done = done
        self.timeout = timeout
        self.when_given = when_given
        self.task: asyncio.Task[None] | None = None
        self.answer: tuple[Any, BaseException | None] | None = None
        self.is_cancelled = False

    def give(self, value: Any, failure: BaseException | None = None) -> None:
        """Store the result until it is reported; only the first call counts."""
        if leave_fork is not None:
            leave_fork(failure)
        if self.answer is None:
            self.answer = (value, failure)
            self.when_given(self)

    def tell(self) -> None:
        """Report the result."""
        answer, self.answer = self.answer, (None, None)
        if answer is not None:
            self.done(*answer)

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            cancel(self.task)


class Answer:
    """A result that the event loop sets once and that a thread waits for."""

    __slots__ = ("_failure", "_lock", "_value", "is_given", "when_given")

    def __init__(self) -> None:
        # A plain lock: Ctrl-C can interrupt a thread that waits for it, and it is the fastest.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._failure: BaseException | None = None
        self.is_given = False
        self.when_given: Callable[[], object] | None = None

    def give(self, value: Any, failure: BaseException | None = None) -> None:
        """Set the result and wake the thread; only the first call counts."""
        if leave_fork is not None:
            leave_fork(failure)
        if self.is_given:
            return
        self._value, self._failure = value, failure
        self.is_given = True
        if self.when_given is not None:
            self.when_given()
        self._lock.release()

    def comes_within(self, timeout: float) -> bool:
        """Wait a short time for the result: a signal that arrives just before a wait does not end it."""
        # Ctrl-C may have arrived just after the lock was acquired.
        return self.is_given or self._lock.acquire(timeout=timeout)

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
