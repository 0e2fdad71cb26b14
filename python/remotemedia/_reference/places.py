"""The nodes of a run of the reference executor, with their failure policies: retry, skip, dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._errors import is_interrupt, node_error, original_of
from remotemedia._graph.node_kinds import classify, is_source, return_kind
from remotemedia._graph.policy import Policy
from remotemedia._reference.lifecycle import finish
from remotemedia._reference.metrics import Recorder

if TYPE_CHECKING:
    from remotemedia._asyncio.streaming import StreamingNode
    from remotemedia._graph.graph import Entry
    from remotemedia.exceptions import NodeError

__all__ = ["Place"]


class Place:
    """One node in its place in a pipeline.

    Attributes:
        downstreams: The places that receive its outputs; empty if they leave the pipeline.
        arrived: The outputs of the branches that meet here, for the current input; `None` if none do.
    """

    def __init__(self, entry: Entry) -> None:
        """Take the node of an entry, or create it with its factory."""
        node: Any = entry.node
        self.entry = entry
        self.node = node if not isinstance(node, type) and hasattr(node, "process") else node()
        self.adapter = _adapter(self.node)
        self.recorder = Recorder()
        self.downstreams: list[Place] = []
        self.arrived: dict[Place, list[Any]] | None = None
        self.policy = Policy(entry.options)

    def process(self, item: Any) -> Any:
        """Call the node with an item."""
        if self.entry.options.get("batch") is None:
            return self.node.process(item)
        return _only(self.node.process([item]))

    def failure(self, phase: str, item_index: int | None, error: BaseException) -> BaseException:
        """Return the error for what the node raised."""
        return error if is_interrupt(error) else node_error(self.entry.id, item_index, phase, error)

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt."""
        import asyncio

        from remotemedia._asyncio.retries import pause_secs

        await asyncio.sleep(pause_secs(attempt, self.policy.retry_delay))

    async def handle_failure(self, item: Any, failure: NodeError) -> None:
        """Handle an item that failed after all retries.

        Raises:
            BaseException: The failure if no policy handles it, or the failure of the handler.
        """
        refusal: BaseException = failure
        if self.policy.dead_letter is not None:
            index = failure.item_index
            try:
                reported = node_error(self.entry.id, index, "process", original_of(failure))
                await finish(self.policy.dead_letter(item, reported))
            except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
                refusal = self.failure("process", index, error)
            else:
                self.recorder.dead_lettered += 1
                return
            finally:
                del reported
        elif self.policy.skips:
            self.recorder.skipped += 1
            return
        try:
            raise refusal
        finally:
            # Its traceback refers to this frame.
            del failure, refusal


def _adapter(node: object) -> StreamingNode | None:
    if classify(node) != "streaming" or is_source(node):
        return None
    from remotemedia._asyncio.streaming import StreamingNode

    return StreamingNode(node.process)  # type: ignore[attr-defined]


def _only(result: Any) -> Any:
    """Return the result for the item of a batch of one; that of a coroutine is awaited first.

    Raises:
        TypeError: If the result is not a list.
        ValueError: If the list does not have one element.
    """
    if return_kind(result) == "coroutine":
        return _only_of(result)
    if not isinstance(result, (list, tuple)):
        kind = type(result).__name__
        raise TypeError(
            f"process() received a batch of 1 items and returned {kind}; return a list of the same length"
        )
    if len(result) != 1:
        raise ValueError(f"process() received a batch of 1 items and returned {len(result)}")
    return result[0]


async def _only_of(result: Any) -> Any:
    return _only(await result)
