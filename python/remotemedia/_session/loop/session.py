"""A session whose nodes run on the event loop of its caller."""

from __future__ import annotations

import asyncio
import weakref
from asyncio import current_task, get_running_loop
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia import _shutdown
from remotemedia._errors import throw
from remotemedia._graph.item_streams import items_of
from remotemedia._graph.output_shape import shape
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._loop.places import metrics_of
from remotemedia._loop.sessions.chain import Chain
from remotemedia._loop.sessions.changes import resolve_later
from remotemedia._loop.sessions.entrance import CLOSED, interrupted
from remotemedia._session.consumers import who_is_here
from remotemedia._session.loop.lifecycle import LoopLifecycle
from remotemedia._session.loop.outputs import LoopMap, LoopOutputs
from remotemedia.exceptions import PipelineError, SessionClosedError
from remotemedia.sessions import check_items

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.sessions.changes import Changes
    from remotemedia._loop.sessions.streams.stream import Stream
    from remotemedia._session.consumers import Overflow

__all__ = ["LoopSession", "open_on_loop"]

_POLL_INTERVAL_SECS = 0.05


class LoopSession(LoopLifecycle):
    """An open pipeline on an event loop: a call costs what the `await` of its nodes costs."""

    # Items.

    async def call(self, item: Any) -> Any:
        """Process one item; see `AsyncSession.call`."""
        if get_running_loop() is not self._loop or self._source is not None:
            self._check_loop()
            self._check_takes_items()
        entrance = self._entrance
        call = None if entrance.line or entrance.is_shut else self._core.try_enter(1)
        if call is None:
            call = await entrance.enter(1, "call", is_call=True)
        else:
            # With the loop, which need not be looked up again.
            entrance.task = current_task(self._loop)
        stage = self._stage
        kernel = self._one
        if kernel is None:
            # As in all sessions that measure.
            self._measured_calls += 1
        try:
            if kernel is None and stage.takes_chunks:
                result = await stage.call_thread(call, item)
            elif kernel is None:
                outputs: list[Any] = []
                await stage.take(call, [item], outputs)
                result = shape(outputs)
            else:
                stage.kernel = kernel
                stage.coroutine = coroutine = kernel.function(item)
                result = await coroutine
        except BaseException as error:  # noqa: BLE001 - Raised below, with its node.
            failure = error
        else:
            # As in `entrance.leave`, without its call: no other work of the thread is in progress.
            call.leave()
            entrance.task = None
            if entrance.line or entrance.changes.waiting:
                entrance.pass_on()
            if entrance.stop is not None:
                await self._raise_stop(call, has_arrived=False)
            return result
        try:
            return await self._finish_failed(call, failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    async def _finish_failed(self, call: LoopCall, error: BaseException) -> Any:
        """Continue after a result that the kernel cannot use, or raise the error of the node."""
        entrance, stage = self._entrance, self._stage
        outputs: list[Any] = []
        failure: BaseException | None = None
        try:
            if self._one is None:
                throw(error)
            await stage.go_on_one(self._one, error, call.first, outputs)
        except BaseException as raised:  # noqa: BLE001 - Raised below, unless the call was stopped.
            failure = raised
        finally:
            del error
            entrance.leave(call)
        try:
            if entrance.stop is not None:
                await self._raise_stop(call, has_arrived=isinstance(failure, asyncio.CancelledError))
            if failure is not None:
                throw(failure)
            return shape(outputs)
        finally:
            del failure

    async def _raise_stop(self, call: LoopCall, *, has_arrived: bool) -> None:
        error = await self._entrance.take_stop(call, has_arrived=has_arrived)
        if error is None:
            raise asyncio.CancelledError
        raise error

    def map(self, items: Iterable[Any] | AsyncIterable[Any]) -> LoopMap:
        """Process a stream of items; see `AsyncSession.map`."""
        self._check_takes_items()
        check_items(items, is_async_too=True)
        stream = self._new_stream(counts_own_items=self._counts_own_items)
        return LoopMap(self, stream, items_of(items))

    async def put(self, item: Any) -> None:
        """Put one item in; see `AsyncSession.put`."""
        self._check_loop()
        self._check_takes_items()
        self._begin_put()
        is_in = self._main.put(item)
        if is_in is None:
            return
        try:
            waiting = self._core.begin_wait("put")
            while waiting is not None and not is_in.done():
                await asyncio.wait([is_in], timeout=_POLL_INTERVAL_SECS)
                self._core.check_wait(waiting, "put")
            if not await is_in:
                raise SessionClosedError(CLOSED)
        finally:
            # It may have been cancelled, or refused.
            is_in.cancel()

    def _begin_put(self) -> None:
        if self._is_closed:
            raise SessionClosedError(CLOSED)
        if self._is_ended:
            raise SessionClosedError("The session accepts no more items: end() was called")
        self._is_used = True

    def end(self) -> None:
        """End the input: the nodes are flushed, and the iteration ends after the last output."""
        self._is_used = True
        if not self._is_ended and not self._is_closed:
            self._is_ended = True
            self._main.end()

    def __aiter__(self) -> LoopOutputs:
        """Yield the outputs of the items that were put in, until the end."""
        self._check_loop()
        return LoopOutputs(self, self._main, is_main=True)

    # Control.

    async def drain(self) -> None:
        """Wait until all earlier items have left the session; see `AsyncSession.drain`."""
        self._check_loop()
        waiting = self._core.begin_wait("drain")
        here = who_is_here()
        try:
            await self._drain(here, "keep", waiting)
        finally:
            self.consumers.wait_for_room(self._main)

    async def _drain(self, here: Any, overflow: Overflow, waiting: Any) -> None:
        entrance, core = self._entrance, self._core
        targets = [(stream, stream.accepted) for stream in self._streams]
        line = {*entrance.line}
        inside = core.inputs if entrance.task is not None else None

        def is_under_way() -> bool:
            nonlocal inside
            self.consumers.make_room(self._main, here, overflow)
            if line:
                line.intersection_update(entrance.line)
                inside = core.inputs
                return bool(line) or entrance.task is not None
            if inside is not None and entrance.task is not None and core.inputs == inside:
                return True
            return any(stream.finished < target and not stream.is_cut for stream, target in targets)

        # The tasks that read outputs may change without notice.
        await self._poll_while(is_under_way, entrance.changes, waiting, "drain")

    async def _wait_while(
        self, condition: Callable[[], bool], changes: Changes, waiting: Any, word: str
    ) -> None:
        if waiting is None:
            await changes.wait_while(condition)
        else:
            await self._poll_while(condition, changes, waiting, word)

    async def _poll_while(
        self, condition: Callable[[], bool], changes: Changes, waiting: Any, word: str
    ) -> None:
        while condition():
            with suppress(TimeoutError):
                await asyncio.wait_for(changes.wait_while(condition), _POLL_INTERVAL_SECS)
            if waiting is not None:
                self._core.check_wait(waiting, word)

    async def interrupt(self) -> int:
        """Drop all items that are queued or in progress; see `AsyncSession.interrupt`."""
        self._check_loop()
        waiting = self._core.begin_wait("interrupt")
        entrance = self._entrance
        await self._wait_while(lambda: entrance.is_paused, entrance.changes, waiting, "interrupt")
        if self._is_closed:
            raise SessionClosedError(CLOSED)
        chain = self._chain
        chain.shut(is_paused=True)
        try:
            refused, dropped = chain.clear_lines(interrupted)
            let_go: list[asyncio.Future[bool]] = []
            for stream in self._streams:
                # First: there is room after the other.
                let_go += stream.clear_waiting()
                dropped += stream.drop()
            dropped += len(let_go)
            await chain.stop_inside(interrupted)
            await chain.interrupt()
        finally:
            # Thousands of tasks may be notified; this one returns first.
            resolve_later(refused, None)
            resolve_later(let_go, value=True)
            chain.shut()
        if self._stage.metrics is not None:
            self._stage.metrics.count_interrupted(dropped)
        return dropped

    # The block.

    async def leave(self, error: BaseException | None) -> None:
        """Finish all items, then close; after an exception, close immediately."""
        failure = error
        if error is None:
            try:
                await self._finish()
            except BaseException as unfinished:  # noqa: BLE001 - Raised again after closing.
                failure = unfinished
        try:
            await self._close(CLOSE_TIMEOUT_SECS, failure)
            if failure is not None and failure is not error:
                throw(failure)
        finally:
            # Their tracebacks refer to this frame.
            del failure, error

    async def _finish(self) -> None:
        """Process all items that were put in, whether or not another task reads the outputs."""
        if not self._is_used or self._is_closed:
            return
        self.end()
        here = who_is_here()
        await self._drain(here, "drop", None)
        if not self.consumers.is_main_taken(here) and (failure := self._main.take_failure()) is not None:
            throw(failure)

    @property
    def never_suspends(self) -> bool:
        """Whether all nodes are `def` nodes on the loop, so that a consumer can take items by itself."""
        return self._stage.never_suspends

    def _check_takes_items(self) -> None:
        if self._source is not None:
            raise PipelineError(
                f"Pipeline '{self._name}' starts with a source, node '{self._source}', and takes no items; "
                "iterate over the session instead"
            )

    def add(self, stream: Stream) -> None:
        """Add a stream, to interrupt and close it with the session."""
        if self._is_closed:
            raise SessionClosedError(CLOSED)
        if self._maps is None:
            self._maps = weakref.WeakSet()
        self._maps.add(stream)


async def open_on_loop(graph: Graph, settings: dict[str, Any], *, counts_own_items: bool) -> LoopSession:
    """Open a session whose nodes run on the current loop."""
    _shutdown.check_not_ending(f"a session of pipeline '{graph.name}'")
    chain = Chain(graph, metrics_of(graph) if settings["enable_metrics"] else None)
    kind: type[LoopSession] = LoopSession
    if len(chain.stages) == 1 and chain.is_concurrent:
        from remotemedia._session.loop.concurrent_session import ConcurrentSession

        kind = ConcurrentSession
    elif len(chain.stages) > 1:
        from remotemedia._session.loop.staged_session import StagedSession

        kind = StagedSession
    return await kind(graph, chain, settings, counts_own_items=counts_own_items).open()
