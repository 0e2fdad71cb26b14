"""The block in which the nodes of a pipeline stay initialized: a session for all runs in it."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._graph.factories import with_nodes
from remotemedia._graph.graph import is_factory
from remotemedia._graph.options import session_settings
from remotemedia._reference.lifecycle import mark
from remotemedia._session.async_session import enter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from types import TracebackType

    from remotemedia._graph.graph import Graph
    from remotemedia._session.async_session import AsyncSession
    from remotemedia.core.pipeline import Pipeline

__all__ = ["Managed"]

_END = object()


class Managed:
    """A block in which the nodes of a graph stay initialized, for all runs in it.

    A class, because `contextlib` assigns to the exceptions that leave a block, which not every class of
    exceptions allows.
    """

    _session: AsyncSession

    def __init__(self, pipeline: Pipeline, graph: Graph, blocks: list[Managed]) -> None:
        """Store the pipeline, its graph, and the list of its open blocks; nothing is initialized yet."""
        self._pipeline = pipeline
        self._graph = graph
        self._blocks = blocks

    async def __aenter__(self) -> Pipeline:
        """Initialize the nodes."""
        settings, _ = session_settings({"stall_warning": None})
        self._session = await enter(with_nodes(self._graph), settings, is_block=True)
        for entry in self._graph.entries:
            # A node in a worker, or of a factory, is another object.
            if entry.options.get("placement") != "process" and not is_factory(entry.node):
                mark(entry.node, initialized=True)
        self._blocks.append(self)
        return self._pipeline

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Clean up the nodes."""
        self._blocks.remove(self)
        await self._session.leave(error)

    def is_of(self, graph: Graph) -> bool:
        """Whether the nodes of a graph are those of the block."""
        return graph.entries is self._graph.entries

    def takes_runs(self) -> bool:
        """Whether a run that starts now can use the session of the block."""
        is_here = asyncio.get_running_loop() is self._session.loop
        return is_here and not self._session.has_ended and self._graph.source is None

    async def run(self, feed: Any) -> AsyncGenerator[Any, None]:
        """Run the pipeline on a stream of items, and yield each output as soon as it is ready."""
        is_at_hand = isinstance(feed, (list, tuple, range)) or hasattr(type(feed), "__aiter__")
        async with aclosing(self._session.map(feed if is_at_hand else _read(feed))) as outputs:
            async for output in outputs:
                yield output


async def _read(items: Iterable[Any]) -> AsyncGenerator[Any, None]:
    """Read items that may be slow on a separate thread."""
    reader = ThreadPoolExecutor(1, "remotemedia-read")
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    iterator: Iterator[Any] | None = None

    def read() -> Any:
        nonlocal iterator
        if iterator is None:
            iterator = iter(items)
        return next(iterator, _END)

    try:
        while (item := await loop.run_in_executor(reader, context.run, read)) is not _END:
            yield item
    finally:
        reader.shutdown(wait=False)
