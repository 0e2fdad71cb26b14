"""The outputs of a session whose nodes run on the event loop of its caller."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._loop.sessions.entrance import CLOSED
from remotemedia._loop.sessions.streams.queues import Failed
from remotemedia._session.async_session import Outputs
from remotemedia.exceptions import SessionClosedError

if TYPE_CHECKING:
    from remotemedia._core import Waiting
    from remotemedia._loop.sessions.streams.stream import Stream
    from remotemedia._session.loop.session import LoopSession

__all__ = ["LoopMap", "LoopOutputs"]


class LoopOutputs(Outputs):
    """The outputs of a stream on the loop."""

    def __init__(self, session: LoopSession, stream: Stream, *, is_main: bool) -> None:
        """Read from a stream."""
        super().__init__(session.consumers, stream, is_main=is_main)
        self._session = session
        self._stream = stream
        self._outputs = stream.outputs
        self._low = session._capacity // 2  # noqa: SLF001 - Ours.

    async def __anext__(self) -> Any:
        """Return the next output; see `Outputs`."""
        outputs = self._outputs
        while True:
            if outputs:
                output = outputs.popleft()
                if len(outputs) <= self._low:
                    self._stream.notify()
                if type(output) is Failed:
                    try:
                        throw(output.error)
                    finally:
                        del output
                return output
            if self._stream.is_cut:
                raise SessionClosedError(CLOSED)
            if self._stream.is_complete:
                raise StopAsyncIteration
            self.note_reader()
            waiting = self._session._core.begin_wait("map")  # noqa: SLF001 - Ours.
            if waiting is None:
                await self._stream.changes.wait()
            else:
                await self._wait_for_nodes(waiting)
                del waiting
            self._stream.turns.were_given = True

    async def _wait_for_nodes(self, waiting: Waiting) -> None:
        """Wait as a node of another pipeline, which this session must not wait for."""
        stream = self._stream
        await self._session._wait_while(lambda: not stream.is_ready, stream.changes, waiting, "map")  # noqa: SLF001 - Ours.


class LoopMap(LoopOutputs):
    """The outputs of items that a separate task reads."""

    def __init__(self, session: LoopSession, stream: Stream, items: Any) -> None:
        """Read nothing yet."""
        super().__init__(session, stream, is_main=False)
        self._items = items
        self._has_begun = self._is_over = self._is_direct = False

    async def __anext__(self) -> Any:
        """Return the next output; the first call begins to read the items."""
        if self._outputs and type(self._outputs[0]) is not Failed:
            output = self._outputs.popleft()
            if len(self._outputs) <= self._low:
                self._stream.notify()
            return output
        if self._is_over:
            raise StopAsyncIteration
        if not self._has_begun:
            self._session._check_loop()  # noqa: SLF001 - Ours.
            self._session._core.begin_wait("map")  # noqa: SLF001 - Ours.
            self._session.add(self._stream)
            self._has_begun = True
            items, self._items = self._items, None
            self._is_direct = self._session.never_suspends and not hasattr(type(items), "__aiter__")
            (self._stream.feed_on_demand if self._is_direct else self._stream.feed)(items)
            del items
        try:
            while self._is_direct and not self._stream.is_ready:
                await self._stream.advance()
            return await super().__anext__()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._is_over = True
            await self._stream.abandon()
            raise

    async def aclose(self) -> None:
        """Close the stream: items in progress are dropped."""
        self._is_over = True
        self._items = None
        await self._stream.abandon()

    def __del__(self) -> None:
        """Close a stream without references."""
        if self._has_begun and not self._is_over and not self._session._loop.is_closed():  # noqa: SLF001 - Ours.
            stream, loop = self._stream, self._session._loop  # noqa: SLF001 - Ours.
            if threading.get_ident() == self._session._thread:  # noqa: SLF001 - Ours.
                stream.drop_all()
            else:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(stream.drop_all)
