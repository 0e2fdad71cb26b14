"""Initializes the nodes of a run, and cleans them up once, in reverse order."""

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

# How often each object is used in open runs: the first use initializes it, the last one cleans it up.
_users: dict[int, int] = {}


async def finish(answer: Any, limit: float | None = None) -> Any:
    """Return the result of a call; a coroutine is awaited.

    Raises:
        CallTimeoutError: If the coroutine takes longer than `limit` seconds.
    """
    while answer_kind(answer) == "coroutine":
        if limit is None:
            answer = await answer
        else:
            from remotemedia._asyncio.retries import within

            answer = await within(answer, limit)
    return answer


class Lifecycle:
    """Initialization and cleanup of the nodes of one run."""

    def __init__(
        self,
        entries: Sequence[Entry],
        close: Closer,
        tell: Listener,
    ) -> None:
        """Store the nodes, in plan order.

        Args:
            entries: The nodes.
            close: Stops the work of the node at an index before it is cleaned up.
            tell: Called for each step with the index of the entry, the phase, and the seconds.
        """
        self._entries = entries
        self._close = close
        self._tell = tell
        # Each node that was entered, and whether this run must clean it up.
        self._met: list[tuple[int, bool]] = []

    async def initialize(self) -> None:
        """Initialize all nodes, except those that the caller has initialized.

        Raises:
            NodeError: If one fails. It and the earlier ones must still be cleaned up.
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
        """Clean up all nodes that this run has initialized, even if one fails; return what they raised."""
        failures: list[BaseException] = []
        while self._met:
            index, is_ours = self._met.pop()
            try:
                await self._close(index)
            except BaseException as error:  # noqa: BLE001 - Raised by the caller after all nodes are cleaned up.
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
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = error
        self._tell(index, phase, time.perf_counter() - started)
        try:
            if failure is not None:
                raise self._failure(index, phase, failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    def _failure(self, index: int, phase: str, error: BaseException) -> BaseException:
        return error if is_interrupt(error) else node_error(self._entries[index].id, None, phase, error)


def mark(node: Any, *, initialized: bool) -> None:
    """Set `is_initialized` of a node, for nodes that do not call their base class."""
    if getattr(node, "is_initialized", False) is not initialized:
        try:
            node.is_initialized = initialized
        except Exception:  # noqa: BLE001 - A proxy may raise anything.
            # The attribute cannot be set, or is computed.
            return


def _leave(node: object) -> bool:
    """End one use of an object; return whether it was the last."""
    _users[id(node)] -= 1
    return not _users[id(node)] and not _users.pop(id(node))
