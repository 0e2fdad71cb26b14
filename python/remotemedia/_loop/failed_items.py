"""What becomes of items on which nodes fail under their failure policies."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._asyncio.retries import within
from remotemedia._graph.node_kinds import return_kind
from remotemedia._loop.turns import cancellations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from remotemedia._core import LoopMetrics
    from remotemedia._graph.policy import Policy
    from remotemedia.exceptions import NodeError

__all__ = ["END", "FailedItemError", "Guard", "LateResult", "draw", "resolved", "rest"]

END: Any = object()
"""Stands for an output after the last one."""


class FailedItemError(Exception):
    """A node has failed on an item for good.

    Attributes:
        item: The item.
        original: What the node raised.
        dead_letter: Receives the item; `None` if the error is raised to the caller.
    """

    def __init__(
        self, item: Any, original: Exception, dead_letter: Callable[[Any, NodeError], object] | None
    ) -> None:
        """Store the fields. They are not arguments, which would be closed if the error is not needed."""
        super().__init__()
        self.item = item
        self.original = original
        self.dead_letter = dead_letter


class Guard:
    """Stands for a node where items are passed to it.

    Attributes:
        policy: What is done with items on which the node fails.
        flush: The method of the node, if it has one.
    """

    def __init__(self, node: Any, policy: Policy, metrics: LoopMetrics | None = None, index: int = 0) -> None:
        """Guard a node.

        Args:
            node: The node, or what takes its items.
            policy: Its policy.
            metrics: Collects the metrics of the stage.
            index: The number of the node in the stage.
        """
        self.policy = policy
        self.flush = getattr(node, "flush", None)
        self._call = node.process
        self._metrics = metrics
        self._index = index

    def refuse(self, item: Any, error: Exception, *, is_stopped: bool = False) -> None:
        """Skip an item that has failed for good.

        Raises:
            FailedItemError: If it is not skipped, or its call was stopped.
        """
        try:
            if is_stopped or not self.policy.skips:
                raise FailedItemError(item, error, None if is_stopped else self.policy.dead_letter)
        finally:
            del error
        if self._metrics is not None:
            self._metrics.note_handled(self._index, False)  # noqa: FBT003 - As in Rust.

    async def refuse_on_loop(self, item: Any, error: Exception, before: int) -> None:
        """Skip an item that has failed for good in the current task.

        Args:
            item: The item.
            error: What was raised.
            before: How often the task had been cancelled before. What the node raises after a cancellation is
                not handled.

        Raises:
            FailedItemError: If it is not skipped, or its call was stopped.
            asyncio.CancelledError: If the task was cancelled before the node raised the error by itself.
        """
        is_stopped = cancellations() > before
        try:
            if is_stopped:
                # Here a cancellation is raised that the node has not received.
                await asyncio.sleep(0)
            self.refuse(item, error, is_stopped=is_stopped)
        finally:
            del error


class LateResult:
    """An awaitable that a `def` node returned, under the policy of the node. It is awaited or closed."""

    def __init__(self, guard: Guard, item: Any, result: Any) -> None:
        """Await nothing yet."""
        self._guard = guard
        self._item = item
        self._result = result

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the result, or `None` for an item that is skipped."""
        return self._wait().__await__()

    async def _wait(self) -> Any:
        guard, item = self._guard, self._item
        before = cancellations()
        try:
            result = await resolved(self._result)
        except Exception as raised:  # noqa: BLE001 - As above.
            error = raised
        else:
            return result if return_kind(result) == "plain" else rest(guard, item, result)
        try:
            return await guard.refuse_on_loop(item, error, before)
        finally:
            del error

    def close(self) -> None:
        """Close a coroutine that is not needed: Python would warn about it."""
        if type(self._result) is CoroutineType:
            self._result.close()


async def rest(
    guard: Guard, item: Any, generator: Any, first: tuple[Any, ...] = ()
) -> AsyncGenerator[Any, None]:
    """Yield the outputs of a generator that a node returned. It is not called again if it fails."""
    before = 0
    try:
        for output in first:
            yield output
        while True:
            before = cancellations()
            output = await draw(generator, guard.policy.timeout)
            if output is END:
                break
            yield output
    except Exception as raised:  # noqa: BLE001 - Handled below, without another context.
        error = raised
    else:
        return
    finally:
        await _close(generator)
    try:
        await guard.refuse_on_loop(item, error, before)
    finally:
        del error


async def resolved(result: Any) -> Any:
    """Return what a coroutine results in, and anything else unchanged."""
    while return_kind(result) == "coroutine":
        result = await result
    return result


async def draw(generator: Any, timeout: float | None) -> Any:  # noqa: ASYNC109 - The word of the option.
    """Return the next output of a generator of any kind, or `END`."""
    if hasattr(type(generator), "__anext__"):
        return await within(anext(generator, END), timeout)
    return next(generator, END)


async def _close(generator: Any) -> None:
    if hasattr(generator, "aclose"):
        await generator.aclose()
    else:
        generator.close()
