"""What a task waits for that is made on another thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from remotemedia._errors import throw
from remotemedia._shutdown import SecondInterrupt

__all__ = ["Answer"]


class Answer:
    """What somebody on the loop waits for; given on the loop, too.

    The future only tells of it: one that holds an error holds the frames that wait for it, and they hold it,
    and the items with them, until a collection.
    """

    __slots__ = ("_failure", "_value", "future", "is_given")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.is_given = False
        self._value: Any = None
        self._failure: BaseException | None = None

    def give(self, value: Any, error: BaseException | None = None) -> None:
        """Keep what is waited for; only the first one counts."""
        if not self.is_given:
            self.is_given, self._value, self._failure = True, value, error
        if not self.future.done():
            self.future.set_result(None)

    def take_failure(self) -> BaseException | None:
        """What was given in place of a value; from then on the caller has it."""
        failure, self._failure = self._failure, None
        return failure

    def take(self) -> Any:
        """What was given.

        Raises:
            BaseException: If that is a failure.
        """
        failure = self.take_failure()
        value, self._value = self._value, None
        try:
            if failure is not None:
                throw(failure)
            return value
        finally:
            # Its traceback has this frame.
            del failure, value

    async def comes_back(self, timeout: float, second: SecondInterrupt | None = None) -> bool:  # noqa: ASYNC109 - It is waited for again and again.
        """Wait for what was told to end, whatever is cancelled meanwhile; whether it did in time.

        Args:
            timeout: Seconds that it may take.
            second: Ends the waiting; it may have begun before.
        """
        loop = asyncio.get_running_loop()
        second = second or SecondInterrupt()
        deadline = loop.time() + timeout
        while not self.is_given and loop.time() < deadline and not second.has_come():
            if self.future.done():
                # The first cancellation is that of the future, too.
                self.future = loop.create_future()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self.future], timeout=deadline - loop.time())
        return self.is_given
