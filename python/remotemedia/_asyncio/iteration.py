"""Iteration of a thread over an async iterable, through its bridge."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import aclosing, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from remotemedia._errors import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from remotemedia._asyncio.bridge import Bridge
    from remotemedia._asyncio.futures import Result

__all__ = ["Iteration"]


class Iteration:
    """An async iterator that runs in a separate task.

    Timeouts, task groups and context variables that span a `yield` therefore work as in an `async for`.
    """

    def __init__(
        self,
        bridge: Bridge,
        iterable: AsyncIterable[Any],
        *,
        is_ours: bool,
        timeout: float | None,
        context: contextvars.Context | None,
    ) -> None:
        self._bridge = bridge
        self._iterable = iterable
        self._is_ours = is_ours
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False
        self._context = contextvars.copy_context() if context is None else context
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def next(self) -> tuple[bool, Any]:
        """Return `(True, item)`, or `(False, None)` at the end."""
        return self._bridge.ask(self._continue, can_be_cancelled=True)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop before the end."""
        self._is_closing = True
        # An iterator that was cancelled at its last output has ended only now.
        with suppress(asyncio.CancelledError):
            self._bridge.ask(self._continue, can_be_cancelled=False)

    def _continue(self, result: Result) -> asyncio.Task[None] | None:
        self._result = result
        if self._task is None and not self._is_closing:
            self._task = self._bridge.begin(self._run(), self._context)
            self._task.add_done_callback(self._end)
        elif self._task is None or self._task.done():
            result.set((False, None))
        else:
            self._is_wanted.set()
        if self._timeout is not None and not result.is_set:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._overrun, result)
        return self._task

    def _overrun(self, result: Result) -> None:
        if self._task is not None and not result.is_set:
            self._is_late = True
            self._task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self) -> None:
        try:
            async with aclosing(self._iterable) if self._is_ours else nullcontext():  # type: ignore[type-var]
                async for item in self._iterable:
                    self._is_wanted = asyncio.Event()
                    self._result.set((True, item))
                    await self._is_wanted.wait()
                    if self._is_closing:
                        break
        except BaseException as failure:  # noqa: BLE001 - As in `_await`.
            is_late = self._is_late and self._timeout is not None
            self._result.set(
                None, CallTimeoutError(self._timeout or 0.0) if is_late else self._bridge.reported(failure)
            )
        else:
            self._result.set((False, None))

    def _end(self, _task: asyncio.Task[None]) -> None:
        self._stop_timer()
        # If it was cancelled before it started, there is no result yet.
        self._result.set(None, asyncio.CancelledError())
