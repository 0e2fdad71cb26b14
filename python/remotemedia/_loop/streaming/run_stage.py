"""Runs of chains with streaming nodes: each of these iterates over the nodes before it, without a queue.

The chain is divided at its streaming nodes into parts, which are compiled. All but the last are async
generators: a streaming node receives the one before it as its items, and the part behind it iterates over the
outputs of the node. So the run is one coroutine, in which each part requests what it needs.

A failure must not pass through the code of the streaming nodes behind it, which could handle it. It is stored
in the stage, and these nodes are cancelled.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from remotemedia._errors import combine, throw
from remotemedia._graph.node_kinds import classify
from remotemedia._loop.stages.stage import Stage
from remotemedia._loop.streaming.part import Part
from remotemedia._loop.turns import cancellations

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph

__all__ = ["StreamingStage"]


class StreamingStage(Stage):
    """A chain with streaming nodes, for one run.

    Attributes:
        parts: The parts of the chain, while it runs.
        failed: What has ended the run, if anything.
    """

    def __init__(self, graph: Graph) -> None:
        """Claim the nodes; none is called yet."""
        super().__init__(graph)
        self._streaming = [index for index, node in enumerate(self.nodes) if classify(node) == "streaming"]
        self.parts: list[Part] = []
        self.failed: BaseException | None = None
        self._cancellations = 0

    async def run(self, feed: Any, outputs: list[Any]) -> None:
        """Pass all items through the nodes, and flush them.

        Args:
            feed: The items: a list, tuple or range, an async iterable, or `None` for those of a source.
            outputs: Receives the outputs.

        Raises:
            NodeError: If a node fails.
        """
        if feed is None:
            async with aclosing(self.source_items()) as items:
                await self._pass_all(items, outputs)
        elif hasattr(type(feed), "__aiter__"):
            await self._pass_all(aiter(feed), outputs)
        else:
            await self._pass_all(iter(feed), outputs)

    async def _pass_all(self, items: Any, outputs: list[Any]) -> None:
        parts = self.parts = self._divide()
        try:
            if not parts[0].is_shared:
                await parts[0].enter()
            for part, behind in pairwise(parts):
                await part.begin(items)
                items = await behind.call_node()
            await parts[-1].take_all(outputs)
        except BaseException as error:  # noqa: BLE001 - Raised below.
            if self.failed is None:
                self.note(error)
                await parts[-1].close_all()
        finally:
            parts[0].leave()
            self.parts = []
            parts.clear()
        failure, self.failed = self.failed, None
        try:
            if failure is not None:
                throw(failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    def _divide(self) -> list[Part]:
        starts = [self.first, *(node + 1 for node in self._streaming)]
        ends = [*self._streaming, len(self.nodes)]
        parts: list[Part] = []
        for start, end in zip(starts, ends, strict=True):
            parts.append(Part(self, parts[-1] if parts else None, start, end))
        return parts

    def index_at_work(self) -> int:
        """Return the index of the node that is called or awaited now."""
        for part in reversed(self.parts):
            node = part.index_at_work()
            if node is not None:
                return node
        return self.node

    def is_at_input(self) -> bool:
        """Whether the run waits for its next item."""
        return bool(self.parts) and self.parts[0].is_at_input()

    def item_index(self) -> int:
        """Return the index of the item that passes through the nodes."""
        return self.parts[0].item_index()

    def note(self, failure: BaseException) -> None:
        """Store a failure; the first one is raised, with later ones."""
        if self.failed is None:
            self._cancellations = cancellations()
        self.failed = combine(self.failed, [failure])
        for part in self.parts:
            # Nodes that continue receive nothing more.
            part.is_shared = True

    def is_stop(self, error: BaseException) -> bool:
        """Whether an error is how a run that has failed stops its nodes, no failure of its own."""
        if self.failed is None or not isinstance(error, asyncio.CancelledError):
            return False
        return isinstance(self.failed, asyncio.CancelledError) or cancellations() == self._cancellations
