"""Opens and closes a session whose nodes run on the event loop of its caller."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from remotemedia import _log, _shutdown
from remotemedia._errors import combine, throw
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._loop.advice import advise_session
from remotemedia._loop.run import clean_up
from remotemedia._loop.sessions.entrance import closed
from remotemedia._loop.sessions.streams.stream import Stream
from remotemedia._loop.sessions.watch import Watched
from remotemedia._session.async_session import AsyncSession
from remotemedia._session.consumers import Consumers
from remotemedia._session.loop.ending import end_alone, end_beside, end_work, resolve, throw_unless_known
from remotemedia.exceptions import NodeTimeoutError, PipelineError
from remotemedia.sessions import check_timeout

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.sessions.chain import Chain

__all__ = ["LoopLifecycle"]

_POLL_INTERVAL_SECS = 0.05

_open_sessions: weakref.WeakSet[LoopLifecycle] = weakref.WeakSet()


class LoopLifecycle(AsyncSession):
    """An open pipeline on an event loop, without the ways in and out for items."""

    def __init__(
        self, graph: Graph, chain: Chain, settings: dict[str, Any], *, counts_own_items: bool = False
    ) -> None:
        """Use the nodes on the current loop; see `open_on_loop`."""
        self._name = graph.name
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._capacity: int = settings["queue_size"]
        self._counts_own_items = counts_own_items
        self._stall_warning: float | None = settings["stall_warning"]
        self._watched: list[Watched] = []
        self._graph = graph
        self._chain = chain
        self._stage = chain.stages[0]
        self._core = self._stage.core
        self._entrance = chain.entrances[0]
        self._known_main: Stream | None = None
        self._maps: weakref.WeakSet[Stream] | None = None
        self._known_consumers: Consumers | None = None
        self._calls: set[object] = set()
        self._measured_calls = 0
        self._source = None if graph.source is None else graph.source.id
        self._is_used = self._is_ended = self._is_closed = False

    def _new_stream(self, *, counts_own_items: bool = False) -> Stream:
        return Stream(self._entrance, self._capacity, counts_own_items=counts_own_items)

    @property
    def _main(self) -> Stream:
        """The stream of `put`, and of a source. Most sessions have none."""
        if self._known_main is None:
            self._known_main = self._new_stream()
            if self._is_closed:
                self._known_main.cut()
        return self._known_main

    @property
    def _streams(self) -> list[Stream]:
        """The streams that there are."""
        found = [] if self._maps is None else [*self._maps]
        if self._known_main is not None:
            found.append(self._known_main)
        return found

    @property
    def consumers(self) -> Consumers:
        """Those who read the streams."""
        if self._known_consumers is None:
            self._known_consumers = Consumers()
        return self._known_consumers

    async def open(self) -> Self:
        """Initialize the nodes."""
        task = asyncio.current_task()
        try:
            await self._chain.initialize()
        except BaseException as error:  # noqa: BLE001 - Raised again below, after cleaning up.
            self._is_closed = True
            failure = combine(error, await clean_up(self._chain, error, self._name, task))
        else:
            self._one = self._stage.one
            _open_sessions.add(self)
            if self._stall_warning is not None:
                self._watched = [Watched(entrance, self._stall_warning) for entrance in self._chain.entrances]
            if self._source is not None and not self._counts_own_items:
                self._is_used = self._is_ended = True
                self._main.feed_source()
            return self
        try:
            throw(failure)  # type: ignore[arg-type] # There is one.
        finally:
            # A cancelled task refers to this frame.
            del failure, task

    def metrics(self) -> dict[str, Any] | None:
        """Return the metrics so far; see `AsyncSession.metrics`."""
        collected = self._stage.metrics
        if collected is None:
            return None
        metrics = collected.report()
        metrics["advice"] = advise_session(self._graph, metrics, self._measured_calls)
        return metrics

    async def close(self, timeout: float = CLOSE_TIMEOUT_SECS) -> None:  # noqa: ASYNC109 - The public name.
        """Stop the work, clean up the nodes; see `AsyncSession.close`."""
        check_timeout(timeout)
        if self._is_closed:
            return
        self._check_loop()
        self._core.begin_wait("close")
        await self._close(timeout, None)

    async def _close(self, timeout: float, error: BaseException | None) -> None:  # noqa: ASYNC109 - As above.
        if self._is_closed:
            return
        self._mark_closed()
        failures: list[BaseException] = []
        is_busy = self._is_busy()
        is_clean = False
        try:
            is_clean = not is_busy and self._chain.clean_up_at_once()
        except BaseException as interrupt:  # noqa: BLE001 - Raised after everything is cleaned up.
            failures.append(interrupt)

        async def end() -> None:
            try:
                await end_work(self._chain, self._streams)
            finally:
                failures.extend(await self._chain.clean_up())

        if is_clean or (not is_busy and not self._chain.may_wait_in_cleanup()):
            failures.extend(await self._chain.clean_up())
            throw_unless_known(combine(error, failures), error)
            return
        with _shutdown.under_way(f"the closing of pipeline '{self._name}'", None):
            work = self._loop.create_task(end())
            cancelled = await self._wait_for_close(work, timeout)
        if not work.done():
            failures.append(self._abandoned(timeout))
            work.cancel()
        elif (failure := work.exception()) is not None:
            failures.append(failure)
        try:
            throw_unless_known(combine(cancelled if error is None else error, failures), error)
        finally:
            failures.clear()
            del cancelled, error

    def _is_busy(self) -> bool:
        """Whether a call or a stream is in progress."""
        streams = self._streams
        return self._chain.is_busy or (bool(streams) and any(stream.is_active for stream in streams))

    def _mark_closed(self) -> None:
        self._is_closed = True
        for watched in self._watched:
            watched.stop()
        self._chain.shut(is_closed=True)
        _open_sessions.discard(self)
        for entrance in self._chain.entrances:
            resolve(entrance.clear_line(closed)[0], None)
        for stream in self._streams:
            resolve(stream.clear_waiting(), value=False)
            if not stream.is_complete:
                stream.cut()
            # Tasks of a closed loop cannot be cancelled; they are closed.
            if not self._loop.is_closed():
                stream.cancel()

    async def _wait_for_close(self, work: asyncio.Task[None], timeout: float) -> BaseException | None:  # noqa: ASYNC109
        """Wait for the end, whether or not this task is cancelled meanwhile; return the cancellation."""
        deadline = self._loop.time() + timeout
        second = _shutdown.SecondInterrupt()
        cancelled: BaseException | None = None
        while not work.done() and not second.has_occurred():
            left = deadline - self._loop.time()
            if left <= 0:
                break
            try:
                await asyncio.wait([work], timeout=min(left, _POLL_INTERVAL_SECS))
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    def _abandoned(self, timeout: float) -> NodeTimeoutError:
        entrance = self._chain.abandon()
        stage = entrance.stage
        node_id, phase, coroutine = stage.at_work()
        task, oldest = entrance.oldest()
        index = oldest if phase == "process" else None
        if coroutine is None and task is not None:
            coroutine = task.get_coro()
        is_on_thread = stage.thread is not None and stage.is_thread_busy
        stack = _log.stack_of(stage.thread_id) if is_on_thread else _log.stack_of_coroutine(coroutine)
        text = _log.abandoned_text(node_id, index, phase, timeout, stack)
        return NodeTimeoutError(text, node_id=node_id, item_index=index, phase=phase)

    @property
    def has_ended(self) -> bool:
        """Whether it accepts no more items."""
        return self._is_closed

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that opened it."""
        return self._loop

    def __repr__(self) -> str:
        """Show the pipeline and the state."""
        state = "open"
        if self._is_closed:
            state = "closed; call pipeline.open() for a new one"
        elif self._source is not None:
            state = "open; iterate over it for its outputs"
        elif self._is_ended:
            state = "open; accepts no more items after end()"
        return f"<AsyncSession of pipeline '{self._name}': {state}>"

    def __del__(self) -> None:
        """Close a session without references."""
        if not getattr(self, "_is_closed", True):
            self._mark_closed()
            end_beside(self._loop, self._thread, self._chain, self._streams)

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise PipelineError(
                f"The session of pipeline '{self._name}' belongs to the event loop that opened it, "
                "not to this one; open a session in each event loop"
            )


def _close_all() -> None:
    """Close all open sessions at exit."""
    for session in [*_open_sessions]:
        try:
            if session.loop.is_running() and session._thread != threading.get_ident():  # noqa: SLF001 - Ours.
                closing = asyncio.run_coroutine_threadsafe(session.close(), session.loop)
                # The loop may end with its last session, and cancels its tasks.
                with suppress(concurrent.futures.CancelledError):
                    closing.result(_shutdown.time_left(CLOSE_TIMEOUT_SECS))
            else:
                session._mark_closed()  # noqa: SLF001 - Ours.
                end_alone(session._chain, session._streams)  # noqa: SLF001 - Ours.
        except KeyboardInterrupt:
            _shutdown.hurry()
        except Exception as failure:  # noqa: BLE001 - No caller is left.
            _log.log_ignored_error(failure)


def _leave_to_parent() -> None:
    """Mark all sessions as closed in a fork: their nodes are those of the parent."""
    for session in [*_open_sessions]:
        session._is_closed = True  # noqa: SLF001 - Ours.
    _open_sessions.clear()


_shutdown.at_end(_close_all)
os.register_at_fork(after_in_child=_leave_to_parent)
