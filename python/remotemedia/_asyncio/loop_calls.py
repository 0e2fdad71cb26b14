"""Calls of the methods of async nodes, which run on the event loop even if they are `def`."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._graph.node_kinds import return_kind
from remotemedia.core.node import Node

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncIterator, Callable, Generator

    from remotemedia._asyncio.bridge import Bridge

__all__ = ["call"]

# They use nothing that belongs to a thread.
_ANYWHERE = (Node.initialize, Node.cleanup)


def call(
    bridge: Bridge,
    method: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    to_the_end: bool,
    context: contextvars.Context | None = None,
) -> Any:
    """Call a method on the loop of a bridge, and wait for its result; a coroutine that it returns is awaited.

    Args:
        bridge: Waits for the loop.
        method: The method of a node.
        args: Its arguments.
        to_the_end: Wait even if the run is cancelled. If the loop is closed, a `def` is called on this
            thread.
        context: The method runs in a copy of it, or of the context of this thread.

    Returns:
        The result. A generator becomes an async generator, which runs on the loop, too.
    """
    if getattr(method, "__func__", None) in _ANYWHERE:
        return method(*args)
    work = _Work(method, args)
    wait = bridge.wait_to_the_end if to_the_end else bridge.wait
    try:
        result = wait(work.run(), None, context)
    except asyncio.CancelledError:
        if work.has_begun or not to_the_end:
            raise
        result = method(*args)
        if return_kind(result) == "coroutine":
            if hasattr(result, "close"):
                result.close()
            raise
    if work.failure is not None:
        throw(work.failure)
    return result


class _Work:
    """A call of a method on the loop."""

    def __init__(self, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._method = method
        self._args = args
        self.has_begun = False
        self.failure: BaseException | None = None

    async def run(self) -> Any:
        self.has_begun = True
        try:
            result = self._method(*self._args)
            while return_kind(result) == "coroutine":
                result = await result
        except StopIteration as failure:
            # A coroutine cannot raise it.
            self.failure = failure
            return None
        return _outputs_of(result) if return_kind(result) == "generator" else result


async def _outputs_of(generator: Generator[Any]) -> AsyncIterator[Any]:
    with closing(generator):
        for output in generator:
            yield output
