"""`AsyncSession`: an open pipeline for asyncio."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._session.consumers import Consumer
from remotemedia.sessions import HOW_TO_OPEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from remotemedia._graph.graph import Graph
    from remotemedia._session.consumers import Consumers, OutputQueue

__all__ = ["AsyncSession", "Outputs", "enter"]


class Outputs(ABC):
    """The outputs of a stream, an async iterator that can be closed early.

    A cancelled wait loses no output: the next `anext` continues.
    """

    def __init__(self, consumers: Consumers, stream: OutputQueue, *, is_main: bool) -> None:
        """Read from a stream."""
        self._consumer = consumers.add(Consumer(stream, is_main=is_main))

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    @abstractmethod
    async def __anext__(self) -> Any:
        """Return the next output.

        Raises:
            NodeError: If a node fails. Earlier outputs have been yielded.
            SessionClosedError: If the session closes.
        """

    async def aclose(self) -> None:  # noqa: B027 - Closing is optional.
        """Close the stream: items in progress are dropped."""

    def note_reader(self) -> None:
        """Note that the current task reads the outputs."""
        task = asyncio.current_task()
        self._consumer.task = None if task is None else weakref.ref(task)


class AsyncSession(ABC):
    """An open pipeline for asyncio. Any number of tasks may use it at once.

    Open it with `async with pipeline.open() as session`. Nodes that are `async`, and nodes with
    `placement="inline"`, run on the event loop; the others do not block it.
    """

    def __new__(cls, *_parts: Any, **_options: Any) -> Self:
        """Open a session; users do this with `async with pipeline.open() as session`."""
        if cls is AsyncSession:
            raise TypeError(f"{cls.__name__} cannot be called directly; use {HOW_TO_OPEN}")
        return super().__new__(cls)

    @abstractmethod
    async def call(self, item: Any) -> Any:
        """Process one item and return its outputs: `None`, the only output, or a list of several.

        Raises:
            NodeError: If a node fails on the item.
            SessionInterruptedError: If the session was interrupted during the call.
            SessionClosedError: If the session is closed.
        """

    @abstractmethod
    def map(self, items: Iterable[Any] | AsyncIterable[Any]) -> Outputs:
        """Process a stream of items, and yield each output as soon as it is ready, in order.

        Only as many items are read in advance as the queues hold. At the end of the items the nodes are
        flushed. Items in progress are dropped when the iterator is closed (`contextlib.aclosing`), or when it
        is deleted after the loop was left early.

        Raises:
            NodeError: If a node fails. Earlier outputs have been yielded.
            SessionClosedError: If the session closes.
        """

    @abstractmethod
    async def put(self, item: Any) -> None:
        """Put one item in, and wait while the pipeline is full. Iterate over the session for the outputs.

        Raises:
            SessionClosedError: If the session has closed, or `end` was called.
        """

    @abstractmethod
    def end(self) -> None:
        """End the input: the nodes are flushed, and the iteration ends after the last output."""

    @abstractmethod
    def __aiter__(self) -> Outputs:
        """Yield the outputs of the items that were put in, or of the source, until the end."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until all earlier items have left the session, as results of calls or as outputs of streams.

        Outputs that no other task takes are kept until they are taken, without a limit. Batches that are not
        full are processed immediately.
        """

    @abstractmethod
    async def interrupt(self) -> int:
        """Drop all items that are queued or in progress, and continue with the next item.

        After this returns, no output of a dropped item can follow, and `interrupt()` of all nodes has been
        called. Calls in progress raise `SessionInterruptedError`; streams continue.

        Returns:
            The number of dropped items. `metrics()` counts them too.
        """

    @abstractmethod
    def metrics(self) -> dict[str, Any] | None:
        """Return the metrics so far, or `None` if the session was opened without `enable_metrics`."""

    @abstractmethod
    async def close(self, timeout: float = CLOSE_TIMEOUT_SECS) -> None:  # noqa: ASYNC109 - The public name.
        """Stop the work, clean up the nodes, and end all threads. A second call does nothing.

        Args:
            timeout: Seconds that nodes may take to return.

        Raises:
            NodeTimeoutError: If a node did not return in time; the error contains the node, its item and its
                Python stack. Everything else is closed.
            NodeError: If a node failed to clean up.
        """

    @abstractmethod
    async def leave(self, error: BaseException | None) -> None:
        """Finish all items, then close; after an exception, close immediately."""

    @property
    @abstractmethod
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that opened the session."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the session accepts no more items."""


async def enter(graph: Graph, settings: dict[str, Any], *, is_block: bool = False) -> AsyncSession:
    """Open a session on this loop.

    Args:
        graph: The checked pipeline.
        settings: The checked settings.
        is_block: Whether each stream is a run: its errors contain the index in the stream.
    """
    from remotemedia._loop.known import known_of
    from remotemedia._loop.places import can_measure, is_logged

    ordered = None if is_logged() else known_of(graph).on_loop(graph)
    if ordered is not None and (not settings["enable_metrics"] or can_measure(ordered, is_run=False)):
        from remotemedia._session.loop.session import open_on_loop

        return await open_on_loop(ordered, settings, counts_own_items=is_block)
    from remotemedia._session.threaded_session import open_threaded

    return await open_threaded(graph, settings, counts_own_items=is_block)
