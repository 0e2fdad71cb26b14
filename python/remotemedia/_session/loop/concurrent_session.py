"""A session on an event loop whose only node receives several items at once."""

from __future__ import annotations

import asyncio
from asyncio import current_task, get_running_loop
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._errors import throw
from remotemedia._exception_chain import set_traceback, traceback_of
from remotemedia._graph.output_shape import shape
from remotemedia._session.loop.staged_session import StagedSession

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.concurrent import ConcurrentEntrance
    from remotemedia._session.consumers import Overflow

__all__ = ["ConcurrentSession"]


class ConcurrentSession(StagedSession):
    """A session of one node with `concurrency`: a call awaits the node in the task of its caller."""

    _entrance: ConcurrentEntrance

    async def call(self, item: Any) -> Any:  # noqa: C901 - A function more costs time for each call.
        """Process one item; see `AsyncSession.call`."""
        if get_running_loop() is not self._loop or self._source is not None:
            self._check_loop()
            self._check_takes_items()
        entrance = self._entrance
        stage = entrance.stage
        inside = entrance.inside
        if inside:
            # A call from the node would wait for itself.
            self._core.begin_wait("call")
        # As `entrance.can_enter`, and `leave` below, without their calls.
        call: LoopCall | None = None
        if not (entrance.line or entrance.is_shut or entrance.is_flushing or stage.is_shared) and (
            not (inside or entrance.admitted) or len(inside) + len(entrance.admitted) < entrance.limit
        ):
            call = stage.calls.try_enter(1)
        if call is None:
            call = await entrance.enter(1, "call", is_call=True)
        else:
            # With the loop, which need not be looked up again.
            inside[call] = current_task(self._loop)  # type: ignore[assignment] # There is one.
        try:
            result = stage.process(item)
            if type(result) is CoroutineType:
                result = await result
        except BaseException as error:  # noqa: BLE001 - Raised below, with its node.
            # The traceback begins behind this frame.
            traceback = traceback_of(error)
            set_traceback(error, traceback and traceback.tb_next)
            failure = error
            del traceback
        else:
            if type(result) is stage.plain or stage.is_plain(result):
                call.leave()
                del inside[call]
                if entrance.line or entrance.changes.waiting:
                    entrance.pass_on()
                if entrance.stops:
                    await self._check_stop(call, has_arrived=False)
                return result
            outputs: list[Any] = []
            late = stage.follow(stage.first, "process", result, call.first, outputs)
            return await self._finish_call(call, late, outputs)
        try:
            # A policy may take the item.
            return await self._finish_call(call, stage.fail(failure, call.first), [])
        finally:
            # Its traceback refers to this frame.
            del failure

    async def _finish_call(self, call: LoopCall, work: Coroutine[Any, Any, None], outputs: list[Any]) -> Any:
        """Do the rest of a call, and return its outputs."""
        failure: BaseException | None = None
        try:
            await work
        except BaseException as raised:  # noqa: BLE001 - Raised below, unless the call was stopped.
            failure = raised
        finally:
            self._entrance.leave(call)
        try:
            await self._check_stop(call, has_arrived=isinstance(failure, asyncio.CancelledError))
            if failure is not None:
                throw(failure)
            return shape(outputs)
        finally:
            del failure

    async def _check_stop(self, call: LoopCall, *, has_arrived: bool) -> None:
        """Raise the error of a call that was stopped while it was inside."""
        if self._entrance.is_stopped(call):
            await self._raise_stop(call, has_arrived=has_arrived)

    async def _drain(self, here: Any, overflow: Overflow, waiting: Any) -> None:
        targets = [(stream, stream.accepted) for stream in self._streams]
        entrance = self._entrance
        calls = entrance.under_way()

        def is_under_way() -> bool:
            self.consumers.make_room(self._main, here, overflow)
            calls[:] = filter(entrance.is_under_way, calls)
            return bool(calls) or any(
                stream.finished < target and not stream.is_cut for stream, target in targets
            )

        # The tasks that read outputs may change without notice.
        await self._poll_while(is_under_way, entrance.changes, waiting, "drain")
