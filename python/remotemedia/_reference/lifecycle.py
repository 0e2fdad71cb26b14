"""Initializes the nodes of a run, and cleans them up once, in reverse order."""

from __future__ import annotations

import time

from remotemedia._graph.node_kinds import return_kind

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from remotemedia._reference.places import Place

__all__ = ["Lifecycle", "finish"]

# How often each object is used in open runs: the first use initializes it, the last one cleans it up.
_users: dict[int, int] = {}


async def finish(result: Any, limit: float | None = None) -> Any:
    """Return the result of a call; a coroutine is awaited.

    Raises:
        CallTimeoutError: If the coroutine takes longer than `limit` seconds.
    """
    while return_kind(result) == "coroutine":
        if limit is None:
            result = await result
        else:
            from remotemedia._asyncio.retries import within

            result = await within(result, limit)
    return result


class Lifecycle:
    """Initialization and cleanup of the nodes of one run."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Store the nodes, in plan order."""
        self._places = places
        # Each node that was entered, and whether this run must clean it up.
        self._met: list[tuple[Place, bool]] = []

    async def initialize(self) -> None:
        """Initialize all nodes, except those that the caller has initialized.

        Raises:
            NodeError: If one fails. It and the earlier ones must still be cleaned up.
        """
        for place in self._places:
            key = id(place.node)
            is_ours = key in _users or getattr(place.node, "is_initialized", False) is not True
            self._met.append((place, is_ours))
            if is_ours:
                _users[key] = _users.get(key, 0) + 1
                if _users[key] == 1:
                    place.recorder.initialize_secs = await _step(place, "initialize")

    async def clean_up(self) -> list[BaseException]:
        """Clean up all nodes that this run has initialized, even if one fails; return what they raised."""
        failures: list[BaseException] = []
        while self._met:
            place, is_ours = self._met.pop()
            try:
                if place.adapter is not None:
                    await place.adapter.close()
            except BaseException as error:  # noqa: BLE001 - Raised by the caller after all nodes are cleaned up.
                failures.append(place.failure("cleanup", None, error))
            if not is_ours or not _leave(place.node):
                continue
            try:
                await _step(place, "cleanup")
            except BaseException as error:  # noqa: BLE001 - As above.
                failures.append(error)
            mark(place.node, initialized=False)
        return failures


async def _step(place: Place, phase: str) -> float:
    """Call a method of a node if it has it; return how long that took, in seconds."""
    method = getattr(place.node, phase, None)
    if not callable(method):
        return 0.0
    started = time.perf_counter()
    failure: BaseException
    try:
        await finish(method())
    except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
        failure = place.failure(phase, None, error)
    else:
        return time.perf_counter() - started
    try:
        raise failure
    finally:
        # Its traceback refers to this frame.
        del failure


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
