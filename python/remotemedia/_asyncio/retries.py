"""Tries again what failed: for items in flight at once, and for the reference executor."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._errors import CallTimeoutError
from remotemedia._graph.node_kinds import answer_kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Collected", "Retrying", "collected", "pause_secs", "within"]

_LONGEST_PAUSE_SECS = 60.0
_MOST_DOUBLINGS = 16


class Collected:
    """All that an async generator gave, and how it failed after that, if it did."""

    __slots__ = ("failure", "outputs")

    def __init__(self, outputs: list[Any], failure: Exception | None) -> None:
        """Take what was collected."""
        self.outputs = outputs
        self.failure = failure


class Retrying:
    """A coroutine method, or async generator, that is called again when it fails.

    Each call may take `timeout` seconds. `count_retry` is called before each call after the first.
    """

    def __init__(
        self,
        process: Callable[[Any], Any],
        retries: int,
        retry_delay: float,
        timeout: float | None,
        count_retry: Callable[[], None],
    ) -> None:
        """Take a method, and the options of its node."""
        self._process = process
        self._retries = retries
        self._retry_delay = retry_delay
        self._timeout = timeout
        self._count_retry = count_retry

    async def __call__(self, item: Any) -> Any:
        """What the method answers in the end.

        Raises:
            BaseException: What it raised the last time.
        """
        for attempt in range(self._retries):
            try:
                return await self._attempt(item)
            except Exception:  # noqa: BLE001 - Only the last failure counts.
                await asyncio.sleep(pause_secs(attempt, self._retry_delay))
            self._count_retry()
        return await self._attempt(item)

    async def _attempt(self, item: Any) -> Any:
        answer = self._process(item)
        kind = answer_kind(answer)
        if kind == "async_generator":
            return await collected(answer, self._timeout)
        return await within(answer, self._timeout) if kind == "coroutine" else answer


async def collected(generator: AsyncGenerator[Any, None], timeout: float | None) -> Collected:  # noqa: ASYNC109 - The word of the option.
    """Take all that an async generator gives; each output may take `timeout` seconds.

    Raises:
        Exception: What it raised before its first output.
    """
    outputs: list[Any] = []
    try:
        async with aclosing(generator):
            while True:
                outputs.append(await within(anext(generator), timeout))
    except StopAsyncIteration:
        return Collected(outputs, None)
    except Exception as failure:
        if not outputs:
            raise
        return Collected(outputs, failure)


def pause_secs(attempt: int, retry_delay: float) -> float:
    """How long to wait after a failed attempt. Many that failed together do not come back together."""
    longest: float = min(retry_delay * 2 ** min(attempt, _MOST_DOUBLINGS), _LONGEST_PAUSE_SECS)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - No secret.


async def within(awaitable: Awaitable[Any], timeout: float | None) -> Any:  # noqa: ASYNC109 - The word of the option.
    """Await something for no longer than `timeout` seconds.

    Raises:
        CallTimeoutError: If it took longer; it has been cancelled.
    """
    if timeout is None:
        return await awaitable
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await awaitable
    except Exception as failure:
        if limit.expired():
            raise CallTimeoutError(timeout) from failure
        raise
    finally:
        # It has the task, which has the failure, whose traceback has this frame.
        del limit
