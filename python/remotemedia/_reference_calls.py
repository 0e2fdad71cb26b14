"""The calls of nodes that wait for the code that runs now, as the reference executor sees them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remotemedia.core._graph import Entry

__all__ = ["at_work", "check_not_at_work"]


class _Call:
    """A call of a node. It counts until it is over: a task that it leaves behind may run its pipeline."""

    def __init__(self, pipeline: str, entry: Entry) -> None:
        self.node: Any = entry.node
        self.name = f"node '{entry.id}' of pipeline '{pipeline}'"
        self.is_over = False


_CALLS: ContextVar[tuple[_Call, ...]] = ContextVar("remotemedia reference calls", default=())


@contextmanager
def at_work(pipeline: str, entry: Entry) -> Iterator[None]:
    """A node is called in this block."""
    call = _Call(pipeline, entry)
    token = _CALLS.set((*_CALLS.get(), call))
    try:
        yield
    finally:
        call.is_over = True
        _CALLS.reset(token)


def check_not_at_work(pipeline: str, entries: Sequence[Entry]) -> None:
    """Refuse a pipeline with a node whose call waits for it.

    Raises:
        PipelineError: With the calls along the way.
    """
    calls = [call for call in _CALLS.get() if not call.is_over]
    for entry in entries if calls else ():
        for index, call in enumerate(calls):
            if call.node is entry.node:
                own = f"node '{entry.id}' of pipeline '{pipeline}'"
                path = " → ".join([*(call.name for call in calls[index:]), own])
                raise PipelineError(
                    f"The object of {own} is at work already, and would wait for itself: {path}; "
                    "give each pipeline an object of its own"
                )
