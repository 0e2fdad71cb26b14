"""The calls of nodes that wait for the code that runs now, as the reference executor sees them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token

    from remotemedia._graph.graph import Entry

__all__ = ["at_work", "check_not_at_work"]


_CALLS: ContextVar[tuple[at_work, ...]] = ContextVar("remotemedia reference calls", default=())


class at_work:  # noqa: N801 - It is used as a function is.
    """The call of a node, for as long as the block runs: a task that it leaves behind may run its pipeline.

    A class, because `contextlib` writes to the exceptions that leave a block, and not every class of
    exceptions bears that.
    """

    def __init__(self, pipeline: str, entry: Entry) -> None:
        """Take the name of the pipeline, and the node."""
        self.node: Any = entry.node
        self.name = f"node '{entry.id}' of pipeline '{pipeline}'"
        self.is_over = False

    def __enter__(self) -> None:
        """Count the call."""
        self._token: Token[tuple[at_work, ...]] = _CALLS.set((*_CALLS.get(), self))

    def __exit__(self, *_: object) -> None:
        """Count it no longer."""
        self.is_over = True
        _CALLS.reset(self._token)


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
                    f"The object of {own} is already in use and would wait for itself: {path}; "
                    "give each pipeline its own object"
                )
