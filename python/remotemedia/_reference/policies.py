"""The failure policies of the reference executor: retry, skip, dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._errors import node_error, original_of
from remotemedia._graph.graph import Entry
from remotemedia._reference.lifecycle import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia.exceptions import NodeError

__all__ = ["Policy", "made"]


class Policy:
    """The options of one node that change its results."""

    __slots__ = ("dead_letter", "is_default", "retries", "retry_delay", "skips", "timeout")

    def __init__(self, options: dict[str, Any]) -> None:
        """Store checked options."""
        on_error = options.get("on_error", "stop")
        self.skips = on_error == "skip"
        self.dead_letter: Callable[[Any, NodeError], object] | None = options.get("dead_letter")
        if self.dead_letter is None and callable(on_error):
            self.dead_letter = on_error
        self.retries: int = options.get("retries", 0)
        self.retry_delay: float = options.get("retry_delay", 0.0)
        self.timeout: float | None = options.get("timeout")
        self.is_default = not self.skips and self.dead_letter is None and not self.retries

    @classmethod
    def of(cls, entry: Entry) -> Policy:
        """Return the policy of a node."""
        return cls(entry.options)

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt."""
        import asyncio

        from remotemedia._asyncio.retries import pause_secs

        await asyncio.sleep(pause_secs(attempt, self.retry_delay))

    async def give_up(self, node_id: str, item: Any, failure: NodeError) -> None:
        """Handle an item that failed after all retries.

        Raises:
            BaseException: The failure if no policy handles it, or the failure of the handler.
        """
        if self.dead_letter is not None:
            letter = node_error(node_id, failure.item_index, "process", original_of(failure))
            await finish(self.dead_letter(item, letter))
        elif not self.skips:
            try:
                raise failure
            finally:
                # Its traceback refers to this frame.
                del failure


def made(entry: Entry) -> Entry:
    """Return the entry with its node; a factory is called to create the node."""
    node: Any = entry.node
    if not isinstance(node, type) and hasattr(node, "process"):
        return entry
    return Entry(entry.id, node(), entry.node_type, entry.after, entry.join, entry.options)
