"""A run whose nodes are in several stages, between which items wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._limits import DEFAULT_QUEUE_SIZE
from remotemedia._loop.sessions.chain import Chain
from remotemedia._loop.sessions.streams.concurrent_stream import ConcurrentStream
from remotemedia._loop.sessions.streams.forwarding import ForwardingStream
from remotemedia._loop.sessions.streams.queues import Failed, close_task
from remotemedia._loop.sessions.streams.staged import StagedStream

if TYPE_CHECKING:
    from remotemedia._core import LoopMetrics
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["StagedRun"]


class StagedRun:
    """A stream through the stages of a pipeline that runs once."""

    def __init__(self, graph: Graph, metrics: LoopMetrics | None = None) -> None:
        """Claim the nodes, whose metrics may be collected; none is called yet."""
        self._chain = Chain(graph, metrics)
        self._stream: _RunStream | None = None

    async def initialize(self) -> None:
        """Initialize the nodes. `clean_up` must be called in any case."""
        await self._chain.initialize()

    async def run(self, feed: Any, outputs: list[Any]) -> None:
        """Pass all items through the nodes, and flush them.

        Args:
            feed: The items: a list, tuple or range, an async iterable, or `None` for those of a source.
            outputs: Receives the outputs.

        Raises:
            NodeError: If a node fails.
        """
        kind = _ConcurrentRunStream if self._chain.is_concurrent else _ForwardingRunStream
        stream = self._stream = kind(self._chain, DEFAULT_QUEUE_SIZE, counts_own_items=True)
        # They are taken at once.
        stream.set_overflow("keep")
        if feed is None:
            stream.feed_source()
        else:
            stream.feed(feed)
        while True:
            while stream.outputs:
                output = stream.outputs.popleft()
                if type(output) is Failed:
                    try:
                        throw(output.error)
                    finally:
                        del output
                outputs.append(output)
            if stream.is_complete:
                return
            await stream.changes.wait()

    async def clean_up(self) -> list[BaseException]:
        """Stop what is in progress, and clean up the nodes; return what they raised."""
        if self._is_active():
            self._stream.drop_all()  # type: ignore[union-attr] # It is active.
            await self._stream.wait_for_end()  # type: ignore[union-attr]
        return await self._chain.clean_up()

    def may_wait_in_cleanup(self) -> bool:
        """Whether `clean_up` may suspend, and so be cancelled."""
        return self._is_active() or self._chain.may_wait_in_cleanup()

    def end_alone(self) -> None:
        """Stop what is in progress where the event loop no longer runs."""
        if self._stream is not None:
            self._stream.close_task()
        for entrance in self._chain.entrances:
            for task in [*entrance.tasks]:
                close_task(task)
        self._chain.settle_alone()

    def _is_active(self) -> bool:
        return self._stream is not None and self._stream.is_active


class _RunStream(StagedStream):
    """The stream of a run: its nodes are not flushed after a failure."""

    _has_failed = False

    def _keep(self, outputs: list[Any]) -> None:
        self._has_failed |= any(type(output) is Failed for output in outputs)
        super()._keep(outputs)

    async def _finish(self, failure: BaseException | None) -> None:
        self._has_failed |= failure is not None
        try:
            await super()._finish(failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    async def _flush_stage(self, position: int, entrance: Entrance, generation: int) -> bool:
        return not self._has_failed and await super()._flush_stage(position, entrance, generation)


class _ConcurrentRunStream(_RunStream, ConcurrentStream):
    """A run with nodes that receive several items at once."""


class _ForwardingRunStream(_RunStream, ForwardingStream):
    """A run with nodes that may have any number of outputs for an item."""
