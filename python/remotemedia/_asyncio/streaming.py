"""Runs nodes that receive their whole stream: `async def process(self, items)` with `is_streaming = True`.

The node runs in a separate task, so that timeouts and task groups inside it work. It never runs ahead: it
continues to its next output only when that is requested, and receives an item when one is pushed.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from remotemedia._core import Callers

__all__ = ["StreamingNode"]

_UNSET = object()

_CALLERS = "remotemedia callers"
"""The variable with the waiting calls; the node has its own value."""


class StreamingNode:
    """The runs of a streaming node, one after the other. All calls use one event loop.

    For each item: `push` it, then call `next_output` until it returns `(False, None)`. At the end of input:
    `end`, then `next_output` in the same way. An item that is pushed after that, or after a failure, starts a
    new run; so does the next item after `restart`, which drops an item. Always call `close`.
    """

    def __init__(
        self,
        process: Callable[[AsyncIterator[Any]], AsyncGenerator[Any, None]],
        callers: Callers | None = None,
    ) -> None:
        """Prepare a run of `process` without calling it; `callers` receives the waiting calls."""
        self._process = process
        self._callers = callers
        self._prepare()

    def _prepare(self) -> None:
        self._items = _Items(self._notify)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._resume = asyncio.Event()
        self._output: list[Any] = []
        self._failure: BaseException | None = None
        self._is_closing = False

    async def push(self, item: Any) -> None:
        """Pass an item to the node. A node that has returned before the end of input ignores it."""
        if self._items.is_ended:
            await self.restart()
        if self._callers is not None:
            self._callers.capture()
        self._items.put(item)

    async def restart(self) -> None:
        """Stop the node; the next item starts a new run.

        Raises:
            BaseException: What the node raised while it ended.
        """
        try:
            await self.close()
        finally:
            self._prepare()

    async def next_output(self) -> tuple[bool, Any]:
        """Return `(True, output)`, or `(False, None)` if the node waits for an item or has ended.

        Raises:
            BaseException: What the node raised.
        """
        if self._callers is not None:
            self._callers.capture()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(lambda _: self._notify())
        if not self._output:
            # An output that exists already is returned first; the node is not asked for more.
            self._resume.set()
        while True:
            if self._output:
                return True, self._output.pop()
            if self._failure is not None:
                self._raise_failure()
            if self._task.done() or self._items.is_awaited():
                return False, None
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """End the input of the node."""
        if self._callers is not None:
            self._callers.capture()
        self._items.end()

    async def close(self) -> None:
        """Stop the node, and wait until it has ended.

        Raises:
            BaseException: What the node raised while it ended.
        """
        self._is_closing = True
        self._items.end()
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        cancelled = None
        while not self._task.done():
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError as error:
                # The next run must not overlap this one.
                cancelled = error
        if cancelled is not None or isinstance(self._failure, asyncio.CancelledError):
            self._failure = None
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled
        if self._failure is not None:
            self._raise_failure()

    async def _run(self) -> None:
        try:
            if self._callers is not None:
                self._callers.install()
            async with aclosing(self._process(self._items)) as outputs:
                async for output in outputs:
                    if self._is_closing:
                        break
                    self._output.append(output)
                    self._resume.clear()
                    self._notify()
                    await self._resume.wait()
        except BaseException as error:  # noqa: BLE001 - Raised by `next_output`.
            self._failure = error
            self._items.end()

    def _raise_failure(self) -> NoReturn:
        failure, self._failure = self._failure, None
        try:
            raise failure  # type: ignore[misc] # There is one.
        finally:
            # Its traceback refers to this frame.
            del failure

    def _notify(self) -> None:
        self._changed.set()


class _Items:
    """The items of a streaming node: an async iterator that receives one item at a time."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        # Each with the context of its caller.
        self._pending: list[tuple[Any, contextvars.Context]] = []
        self._adopted: list[tuple[contextvars.ContextVar[Any], contextvars.Token[Any]]] = []
        self._arrived = asyncio.Event()
        self._waiting = 0
        self.is_ended = False

    def put(self, item: Any) -> None:
        self._pending.append((item, contextvars.copy_context()))
        self._arrived.set()

    def end(self) -> None:
        self.is_ended = True
        self._arrived.set()

    def is_awaited(self) -> bool:
        return self._waiting > 0 and not self._arrived.is_set()

    def __aiter__(self) -> _Items:
        return self

    async def __anext__(self) -> Any:
        while not self._pending:
            if self.is_ended:
                raise StopAsyncIteration
            self._arrived.clear()
            self._waiting += 1
            self._notify()
            try:
                await self._arrived.wait()
            finally:
                self._waiting -= 1
        item, context = self._pending.pop(0)
        self._adopt(context)
        return item

    def _adopt(self, context: contextvars.Context) -> None:
        """Set the variables of an item's context; the node has one context for all of its items."""
        while self._adopted:
            variable, token = self._adopted.pop()
            with suppress(ValueError):
                # The node reads its items in several tasks, each with its own variables.
                variable.reset(token)
        for variable, value in context.items():
            if variable.name != _CALLERS and variable.get(_UNSET) is not value:
                self._adopted.append((variable, variable.set(value)))
