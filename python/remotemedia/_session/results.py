"""Results of other threads that a task waits for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from remotemedia._errors import throw
from remotemedia._shutdown import SecondInterrupt

__all__ = ["Result"]


class Result:
    """A result for a task, set on the loop.

    The future only signals it. A future with an error would refer to the frames that wait for it, and these
    to the future, so the items in them would live until a garbage collection.
    """

    __slots__ = ("_failure", "_value", "future", "is_set")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.is_set = False
        self._value: Any = None
        self._failure: BaseException | None = None

    def set(self, value: Any, error: BaseException | None = None) -> None:
        """Set the result; only the first call counts."""
        if not self.is_set:
            self.is_set, self._value, self._failure = True, value, error
        if not self.future.done():
            self.future.set_result(None)

    def take_failure(self) -> BaseException | None:
        """Return the failure, and forget it."""
        failure, self._failure = self._failure, None
        return failure

    def take(self) -> Any:
        """Return the value.

        Raises:
            BaseException: If the result is a failure.
        """
        failure = self.take_failure()
        value, self._value = self._value, None
        try:
            if failure is not None:
                throw(failure)
            return value
        finally:
            # Its traceback refers to this frame.
            del failure, value

    async def wait_for_end(self, timeout: float, second: SecondInterrupt | None = None) -> bool:  # noqa: ASYNC109 - Called repeatedly.
        """Wait for stopped work, ignoring further cancellations; return whether it ended in time.

        Args:
            timeout: The maximum time, in seconds.
            second: Ends the wait; it may have been created before.
        """
        loop = asyncio.get_running_loop()
        second = second or SecondInterrupt()
        deadline = loop.time() + timeout
        while not self.is_set and loop.time() < deadline and not second.has_occurred():
            if self.future.done():
                # The first cancellation also cancels the future.
                self.future = loop.create_future()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self.future], timeout=deadline - loop.time())
        return self.is_set
