"""The outputs of a session for asyncio, and the task that reads the items for them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._loop.sessions.changes import Changes
from remotemedia._session.async_session import Outputs
from remotemedia.exceptions import SessionClosedError
from remotemedia.sessions import _END, _OUTPUT, CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._core import OutputStream
    from remotemedia._session.threaded_session import ThreadedSession

__all__ = ["FIRST_POLL_INTERVAL_SECS", "AsyncOutputs", "Map", "OutputSignal", "is_accepted", "on_loop"]

FIRST_POLL_INTERVAL_SECS = 0.002
"""The first interval for checking whether a node still processes a dropped item."""


class AsyncOutputs(Outputs):
    """The outputs of a stream of the engine."""

    def __init__(
        self, session: ThreadedSession, stream: OutputStream, signal: OutputSignal, *, is_main: bool = True
    ) -> None:
        """Read from a stream."""
        super().__init__(session.consumers, stream, is_main=is_main)
        self._session = session
        self._stream = stream
        self._output_signal = signal

    async def __anext__(self) -> Any:
        """Return the next output; see `Outputs`."""
        self.note_reader()
        while True:
            state, output = self._stream.next(0.0)
            if state == _OUTPUT:
                self._output_signal.notify()
                return output
            if state == _END:
                raise StopAsyncIteration
            waiting = self._session.begin_wait("map")
            await self._output_signal.wait_while(lambda: not self._stream.is_ready)
            del waiting


class Map(AsyncOutputs):
    """The outputs of items that a separate task reads."""

    _task: asyncio.Task[None] | None = None

    def __init__(self, session: ThreadedSession, items: Any) -> None:
        signal = OutputSignal(session.output_signal.loop)
        super().__init__(session, session.open_stream(signal.notify), signal, is_main=False)
        self._items: Any = items
        self._feeder: _Feeder | None = None
        self._is_over = False

    async def __anext__(self) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        if self._feeder is None:
            self._session.check_loop()
            self._session.check_outside("map")
            self._feeder = _Feeder(self._stream, self._items, self._output_signal, self._session.capacity)
            self._items = None
            self._task = asyncio.create_task(self._feeder.run())
        try:
            return await super().__anext__()
        except asyncio.CancelledError:
            raise
        except StopAsyncIteration:
            failure = self._feeder.take_failure()
            await self.aclose()
            if failure is not None:
                throw(failure)
            raise
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the stream: items in progress are dropped."""
        task = self._task
        self._abandon()
        if task is not None and not task.done():
            await asyncio.wait([task])

    def _abandon(self) -> None:
        if self._task is not None and not self._is_over:
            self._task.cancel()
            self._session.abandon_until_done(self._stream.abandon, FIRST_POLL_INTERVAL_SECS)
        # The items are released together with their reader.
        self._is_over, self._items, self._feeder, self._task = True, None, None, None

    def __del__(self) -> None:
        """Close a stream without references."""
        if self._task is None or self._session.output_signal.loop.is_closed():
            return
        # The last reference may be dropped on another thread.
        task, session, stream = self._task, self._session, self._stream

        def abandon() -> None:
            task.cancel()
            session.abandon_until_done(stream.abandon, FIRST_POLL_INTERVAL_SECS)

        if threading.get_ident() == session.output_signal.thread:
            abandon()
        else:
            on_loop(session.output_signal.loop, abandon)


class OutputSignal(Changes):
    """The tasks that wait for changes of a stream; they are notified on their loop."""

    __slots__ = ("loop", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Store the loop."""
        super().__init__()
        self.loop = loop
        self.thread = threading.get_ident()


class _Feeder:
    """Reads the items of a stream and puts them in, only as many in advance as the queues hold."""

    def __init__(self, stream: OutputStream, items: Any, signal: OutputSignal, limit: int) -> None:
        self._stream = stream
        self._items = items
        self._output_signal = signal
        self._limit = limit
        self.failure: BaseException | None = None

    def take_failure(self) -> BaseException | None:
        """Return what reading the items raised, and forget it."""
        failure, self.failure = self.failure, None
        return failure

    async def run(self) -> None:
        try:
            if hasattr(type(self._items), "__aiter__"):
                async for item in self._items:
                    await self._put(item)
            else:
                for item in self._items:
                    await self._put(item)
        except asyncio.CancelledError:
            raise
        except BaseException as failure:  # noqa: BLE001 - Raised by the iteration over the outputs.
            self.failure = failure
        self._stream.end()

    async def _put(self, item: Any) -> None:
        if not await is_accepted(self._stream.put(item)):
            raise SessionClosedError(CLOSED)
        if self._stream.load >= self._limit:
            await self._output_signal.wait_while(lambda: self._stream.load >= self._limit)


async def is_accepted(is_in: bool | asyncio.Future[bool]) -> bool:  # noqa: FBT001 - The result of `OutputStream.put`.
    return is_in if isinstance(is_in, bool) else await is_in


def on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop is closed: no task waits any more.
        return
