"""A session on an event loop whose nodes are in several stages, which work at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._graph.output_shape import shape
from remotemedia._loop.sessions.streams.chunks import through
from remotemedia._loop.sessions.streams.concurrent_stream import ConcurrentStream
from remotemedia._loop.sessions.streams.forwarding import ForwardingStream
from remotemedia._loop.sessions.streams.staged import StagedStream
from remotemedia._loop.stages.beside import Entry
from remotemedia._session.loop.session import LoopSession

if TYPE_CHECKING:
    from remotemedia._loop.sessions.entrance import Entrance
    from remotemedia._loop.sessions.streams.stream import Stream
    from remotemedia._session.consumers import Overflow

__all__ = ["StagedSession"]


class StagedSession(LoopSession):
    """A session whose calls and items enter one stage after the other, in order."""

    def _new_stream(self, *, counts_own_items: bool = False) -> Stream:
        kind = StagedStream
        if self._chain.is_concurrent:
            kind = ConcurrentStream
        elif self._chain.makes_several:
            kind = ForwardingStream
        return kind(self._chain, self._capacity, counts_own_items=counts_own_items)

    @property
    def never_suspends(self) -> bool:
        """Return `False`: the stages take items by themselves."""
        return False

    async def call(self, item: Any) -> Any:
        """Process one item; see `AsyncSession.call`."""
        self._check_loop()
        self._check_takes_items()
        # A call from one of the nodes would wait for itself.
        self._core.begin_wait("call")
        entries = [Entry(-1, item)]
        key = object()
        self._calls.add(key)
        self._measured_calls += 1
        try:
            for entrance in self._chain.entrances:
                await self._visit(entrance, entries)
                entries = through(entries)
                if not entries:
                    return None
                if (failure := entries[-1].failure) is not None:
                    throw(failure)
            return shape([entry.values[0] for entry in entries])
        except asyncio.CancelledError:
            for entrance in self._chain.entrances:
                entrance.stage.forget_soon()
            raise
        finally:
            failure = None
            entries.clear()
            self._calls.discard(key)
            self._entrance.changes.notify()

    async def _visit(self, entrance: Entrance, entries: list[Entry]) -> None:
        call = await entrance.enter(1, "call", is_call=True, is_fresh=entrance is not self._entrance)
        for entry in entries:
            if entry.index < 0:
                entry.index = call.first
        failure: BaseException | None = None
        try:
            await entrance.stage.pass_entries(entries)
        except BaseException as error:  # noqa: BLE001 - Raised below, unless the call was stopped.
            failure = error
        entrance.leave(call)
        try:
            if entrance.is_stopped(call):
                has_arrived = isinstance(failure, asyncio.CancelledError)
                stopped = await entrance.take_stop(call, has_arrived=has_arrived)
                raise asyncio.CancelledError if stopped is None else stopped
            if failure is not None:
                throw(failure)
            if any(entry.values for entry in entries):
                await entrance.leave_in_order(call)
        finally:
            entrance.forget(call)
            del failure

    async def _drain(self, here: Any, overflow: Overflow, waiting: Any) -> None:
        targets = [(stream, stream.accepted) for stream in self._streams]
        calls = {*self._calls}

        def is_under_way() -> bool:
            self.consumers.make_room(self._main, here, overflow)
            calls.intersection_update(self._calls)
            return bool(calls) or any(
                stream.finished < target and not stream.is_cut for stream, target in targets
            )

        # The tasks that read outputs may change without notice.
        await self._poll_while(is_under_way, self._entrance.changes, waiting, "drain")
