"""Initializes the nodes of a run and cleans up what was initialized, in reverse order, each once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from remotemedia._errors import is_interrupt, node_error
from remotemedia._graph.node_kinds import answer_kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from remotemedia._graph.graph import Entry

    Closer = Callable[[int], Awaitable[None]]
    Listener = Callable[[int, str, float], None]

__all__ = ["Lifecycle", "finish"]

# How many places in open runs each object has: the first initializes it, the last cleans it up.
_users: dict[int, int] = {}


async def finish(answer: Any, limit: float | None = None) -> Any:
    """What a call answered; if that is a coroutine, what it answers in the end.

    Raises:
        CallTimeoutError: If a coroutine takes longer than `limit` seconds.
    """
    while answer_kind(answer) == "coroutine":
        if limit is None:
            answer = await answer
        else:
            from remotemedia._asyncio.retries import within

            answer = await within(answer, limit)
    return answer


class Lifecycle:
    """The nodes of one run, from before the first item to after the last."""

    def __init__(
        self,
        entries: Sequence[Entry],
        close: Closer,
        tell: Listener,
    ) -> None:
        """Take the nodes, in plan order.

        Args:
            entries: The nodes.
            close: Ends what the node at an index still does, before it is cleaned up.
            tell: Hears of each step: index of the entry, phase, seconds.
        """
        self._entries = entries
        self._close = close
        self._tell = tell
        # Each node that was met, and whether it is ours to clean up.
        self._met: list[tuple[int, bool]] = []

    async def initialize(self) -> None:
        """Make all nodes ready, except those that their caller has made ready.

        Raises:
            NodeError: If one fails. The ones before it, and it too, are still to be cleaned up.
        """
        for index, entry in enumerate(self._entries):
            key = id(entry.node)
            is_ours = key in _users or getattr(entry.node, "is_initialized", False) is not True
            self._met.append((index, is_ours))
            if is_ours:
                _users[key] = _users.get(key, 0) + 1
                if _users[key] == 1:
                    await self._step(index, "initialize")

    async def clean_up(self) -> list[BaseException]:
        """Clean up all nodes that this run has initialized, also after one fails; what they raised."""
        failures: list[BaseException] = []
        while self._met:
            index, is_ours = self._met.pop()
            try:
                await self._close(index)
            except BaseException as error:  # noqa: BLE001 - Told by the caller, after all else is cleaned up.
                failures.append(self._failure(index, "cleanup", error))
            if not is_ours or not _leave(self._entries[index].node):
                continue
            try:
                await self._step(index, "cleanup")
            except BaseException as error:  # noqa: BLE001 - As above.
                failures.append(error)
            mark(self._entries[index].node, initialized=False)
        return failures

    async def _step(self, index: int, phase: str) -> None:
        method = getattr(self._entries[index].node, phase, None)
        if not callable(method):
            return
        started = time.perf_counter()
        failure: BaseException | None = None
        try:
            await finish(method())
        except BaseException as error:  # noqa: BLE001 - Raised below, where it gets no context of its own.
            failure = error
        self._tell(index, phase, time.perf_counter() - started)
        try:
            if failure is not None:
                raise self._failure(index, phase, failure)
        finally:
            # Its traceback has this frame.
            del failure

    def _failure(self, index: int, phase: str, error: BaseException) -> BaseException:
        return error if is_interrupt(error) else node_error(self._entries[index].id, None, phase, error)


def mark(node: Any, *, initialized: bool) -> None:
    """Say on a node whether it is initialized, for nodes that do not call their base class."""
    if getattr(node, "is_initialized", False) is not initialized:
        try:
            node.is_initialized = initialized
        except Exception:  # noqa: BLE001 - A proxy may raise anything.
            # It has no place for it, or computes it.
            return


def _leave(node: object) -> bool:
    """End one use of an object; whether it was the last."""
    _users[id(node)] -= 1
    return not _users[id(node)] and not _users.pop(id(node))
