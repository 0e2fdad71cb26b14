"""Retries of failed calls: for concurrent items, and for the reference executor."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._errors import CallTimeoutError
from remotemedia._graph.node_kinds import return_kind
from remotemedia._limits import LONGEST_RETRY_DELAY_SECS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Collected", "Retrying", "collected", "pause_secs", "within"]

_MOST_DOUBLINGS = 16


class Collected:
    """The outputs of an async generator, and its failure after them, if any."""

    __slots__ = ("failure", "outputs")

    def __init__(self, outputs: list[Any], failure: Exception | None) -> None:
        """Store what was collected."""
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
        """Store a method, and the options of its node."""
        self._process = process
        self._retries = retries
        self._retry_delay = retry_delay
        self._timeout = timeout
        self._count_retry = count_retry

    async def __call__(self, item: Any) -> Any:
        """Return the result of the first call that succeeds.

        Raises:
            BaseException: What the last call raised.
        """
        for attempt in range(self._retries):
            try:
                return await self._attempt(item)
            except Exception:  # noqa: BLE001 - Only the last failure counts.
                await asyncio.sleep(pause_secs(attempt, self._retry_delay))
            self._count_retry()
        return await self._attempt(item)

    async def _attempt(self, item: Any) -> Any:
        result = self._process(item)
        kind = return_kind(result)
        if kind == "async_generator":
            return await collected(result, self._timeout)
        return await within(result, self._timeout) if kind == "coroutine" else result


async def collected(generator: AsyncGenerator[Any, None], timeout: float | None) -> Collected:  # noqa: ASYNC109 - The word of the option.
    """Collect the outputs of an async generator; each may take `timeout` seconds.

    Raises:
        Exception: What the generator raised before its first output.
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
    """Return the pause after a failed attempt, with jitter, so that retries of many items spread."""
    longest: float = min(retry_delay * 2 ** min(attempt, _MOST_DOUBLINGS), LONGEST_RETRY_DELAY_SECS)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - No secret.


async def within(awaitable: Awaitable[Any], timeout: float | None) -> Any:  # noqa: ASYNC109 - The word of the option.
    """Await something for at most `timeout` seconds.

    Raises:
        CallTimeoutError: If it takes longer; it is cancelled.
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
        # The frame refers to the task, the task to the failure, and its traceback to this frame.
        del limit
