"""What somebody waits for, and an event loop gives, once."""

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
"""Ends this process with what a coroutine failed with. Set where a node has forked in a worker, in the child:
the thread that waits for the coroutine is not there."""


class Started:
    """What was begun without anyone waiting."""

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
        """Keep the answer until it is told; only the first one counts."""
        if leave_fork is not None:
            leave_fork(failure)
        if self.answer is None:
            self.answer = (value, failure)
            self.when_given(self)

    def tell(self) -> None:
        """Tell the answer."""
        answer, self.answer = self.answer, (None, None)
        if answer is not None:
            self.done(*answer)

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            cancel(self.task)


class Answer:
    """What a thread waits for, and the event loop gives once."""

    __slots__ = ("_failure", "_lock", "_value", "is_given", "when_given")

    def __init__(self) -> None:
        # A plain lock: a thread that waits for it can be interrupted by Ctrl-C, and it costs the least.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._failure: BaseException | None = None
        self.is_given = False
        self.when_given: Callable[[], object] | None = None

    def give(self, value: Any, failure: BaseException | None = None) -> None:
        """Let the thread go on; only the first time counts."""
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
        """Wait for the answer, not for long: a signal that comes just before a wait is missed in it."""
        # Ctrl-C may have come just when the lock was there.
        return self.is_given or self._lock.acquire(timeout=timeout)

    def take(self) -> Any:
        """The answer.

        Raises:
            BaseException: If it is a failure.
        """
        failure, self._failure = self._failure, None
        if failure is None:
            return self._value
        try:
            raise failure
        finally:
            del failure


def cancel(task: asyncio.Task[None]) -> None:
    """Cancel it once, however often that is asked for: what it awaits on its way out must come to its end."""
    if not task.cancelling():
        task.cancel()
