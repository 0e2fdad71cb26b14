"""A session for asyncio whose nodes run on threads and in workers."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, Any

from remotemedia import _log, _shutdown
from remotemedia._core import Opener, OutputStream
from remotemedia._errors import combine, throw
from remotemedia._graph.item_streams import items_of
from remotemedia._session.async_outputs import (
    FIRST_POLL_INTERVAL_SECS,
    AsyncOutputs,
    Map,
    OutputSignal,
    is_accepted,
    on_loop,
)
from remotemedia._session.async_session import AsyncSession
from remotemedia._session.consumers import who_is_here
from remotemedia._session.results import Result
from remotemedia._threads import start
from remotemedia.exceptions import PipelineError, SessionClosedError
from remotemedia.sessions import (
    CLOSE_TIMEOUT_SECS,
    CLOSED,
    _Closing,
    check_items,
    open_session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from remotemedia._graph.graph import Graph

__all__ = ["ThreadedSession", "open_threaded"]

_POLL_INTERVAL_SECS = 0.05
"""How often a node that waits for another pipeline checks whether that waits for the node."""

_LONGEST_POLL_INTERVAL_SECS = 0.25


class ThreadedSession(_Closing, AsyncSession):
    """An open pipeline for asyncio whose nodes run on threads and in workers."""

    output_signal: OutputSignal
    counts_own_items = False
    """Whether an error contains the index of its item in the stream, not in the session."""
    measured: Graph | None = None
    """The pipeline, if the session has metrics."""
    _calls = 0

    def open_stream(self, on_output: Callable[[], object]) -> OutputStream:
        """Open a stream with separate outputs; `on_output` is called on the loop for each output."""
        return OutputStream.open(self, self.capacity, on_output, counts_own_items=self.counts_own_items)

    def __del__(self) -> None:
        """Close a session without references."""
        if self._is_closed or self.output_signal.loop.is_closed():
            super().__del__()
        else:
            # Nodes may need the event loop to end, and this may be the thread of the loop.
            close = super().__del__
            try:
                threading.Thread(target=close, name="remotemedia-close").start()
            except RuntimeError:
                close()

    async def call(self, item: Any) -> Any:
        """See `AsyncSession.call`."""
        self.check_loop()
        self.check_takes_items()
        self._calls += 1
        result = Result(self.output_signal.loop)
        ticket = self.start_call(item, result.set)
        try:
            while ticket.is_of_node and not result.future.done():
                await asyncio.wait([result.future], timeout=_POLL_INTERVAL_SECS)
                self.check_ticket(ticket)
            await result.future
        except (asyncio.CancelledError, PipelineError):
            self.abandon_until_done(lambda: self.abandon(ticket), FIRST_POLL_INTERVAL_SECS)
            raise
        return result.take()

    def map(self, items: Iterable[Any] | AsyncIterable[Any]) -> AsyncOutputs:
        """See `AsyncSession.map`."""
        self.check_takes_items()
        check_items(items, is_async_too=True)
        return Map(self, items_of(items))

    async def put(self, item: Any) -> None:
        """See `AsyncSession.put`."""
        self.check_loop()
        self._begin_put()
        if not await is_accepted(self._stream.put(item)):
            raise SessionClosedError(CLOSED)

    def __aiter__(self) -> AsyncOutputs:
        """Yield the outputs of the items that were put in, or of the source, until the end."""
        self.check_loop()
        return AsyncOutputs(self, self._stream, self.output_signal)

    async def drain(self) -> None:
        """See `AsyncSession.drain`."""
        self.check_outside("drain")
        stop, here = threading.Event(), who_is_here()
        await _in_thread(lambda: self.drain_for(here, stop), stop.set)

    async def interrupt(self) -> int:
        """See `AsyncSession.interrupt`."""
        self.check_outside("interrupt")
        stop = threading.Event()
        result = Result(self.output_signal.loop)
        # First: thousands of waiting tasks may be notified, too, and delay the loop.
        work = lambda: self.drop_all(stop, result.set)  # noqa: E731 - Named for the line's length.
        dropped: int = await _in_thread(work, stop.set, result)
        return dropped

    async def close(self, timeout: float = CLOSE_TIMEOUT_SECS) -> None:  # noqa: ASYNC109 - The public name.
        """See `AsyncSession.close`."""
        if not self._is_closed:
            self.check_outside("close")
        await _in_thread(lambda: self.close_now(timeout))

    async def leave(self, error: BaseException | None) -> None:
        """See `AsyncSession.leave`."""
        failure = None
        if error is None:
            try:
                stop, here = threading.Event(), who_is_here()
                await _in_thread(lambda: self.finish(here, stop), stop.set)
            except BaseException as unfinished:  # noqa: BLE001 - Raised again after closing.
                failure = unfinished
        self.cancel_calls_after(error if failure is None else failure)
        try:
            await _in_thread(lambda: self.close_now(CLOSE_TIMEOUT_SECS))
        except Exception as unclosed:  # noqa: BLE001 - Raised with the earlier error.
            failure = combine(error if failure is None else failure, [unclosed])
        try:
            if failure is not None and failure is not error:
                throw(failure)
        finally:
            # Their tracebacks refer to this frame.
            del failure, error

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """See `AsyncSession.loop`."""
        return self.output_signal.loop

    def _advice(self, metrics: dict[str, Any]) -> list[str]:
        """Return what the times say about sessions that do not measure."""
        from remotemedia._loop.advice import advise_session

        return [] if self.measured is None else advise_session(self.measured, metrics, self._calls)

    def check_loop(self) -> None:
        if asyncio.get_running_loop() is not self.output_signal.loop:
            raise PipelineError(
                f"The session of pipeline '{self._name}' belongs to the event loop that opened it, "
                "not to this one; open a session in each event loop"
            )

    def abandon_until_done(self, abandon: Callable[[], bool], pause: float) -> None:
        """Drop the items in progress. Notifies a node repeatedly, because it may be about to wait."""
        if abandon():
            self.output_signal.loop.call_later(
                pause, self.abandon_until_done, abandon, min(2 * pause, _LONGEST_POLL_INTERVAL_SECS)
            )


async def open_threaded(graph: Graph, settings: dict[str, Any], *, counts_own_items: bool) -> ThreadedSession:
    """Open a session on this loop; its nodes do not block the loop while they are initialized."""
    output_signal = OutputSignal(asyncio.get_running_loop())
    opener = Opener(output_signal.loop)
    is_cancelled = False
    opened: list[ThreadedSession] = []
    kind = _BlockSession if counts_own_items else ThreadedSession

    def open_it() -> None:
        session: ThreadedSession = open_session(kind, graph, settings, opener, output_signal.notify)
        session.output_signal = output_signal
        session.measured = graph if settings["enable_metrics"] else None
        opened.append(session)
        if is_cancelled:
            session.close_now(CLOSE_TIMEOUT_SECS)

    def cancel() -> None:
        nonlocal is_cancelled
        is_cancelled = True
        opener.cancel()

    # From Python 3.12 on, no thread can be started while the program exits.
    _shutdown.check_not_ending(f"a session of pipeline '{graph.name}'")
    try:
        await _in_thread(open_it, cancel)
    except asyncio.CancelledError:
        # It came too late for the thread to notice.
        for session in opened:
            await _in_thread(functools.partial(session.close_now, CLOSE_TIMEOUT_SECS))
        raise
    return opened[0]


class _BlockSession(ThreadedSession):
    """The session of a block of runs; each of its streams is a run."""

    counts_own_items = True

    def start_source(self) -> None:
        """Do nothing: each run reads the items of the source."""


async def _in_thread(
    work: Callable[[], Any],
    when_cancelled: Callable[[], object] | None = None,
    result: Result | None = None,
) -> Any:
    """Run blocking work on a separate thread.

    A cancelled caller waits, too, so that no work is half done; `when_cancelled` stops the work. Work that
    does not return in time is logged and abandoned. Work with a `result` may set it early.
    """
    loop = asyncio.get_running_loop()
    result = result or Result(loop)

    context = contextvars.copy_context()

    def run() -> None:
        try:
            on_loop(loop, functools.partial(result.set, context.run(work)))
        except BaseException as error:  # noqa: BLE001 - Raised by the waiting task.
            on_loop(loop, functools.partial(result.set, None, error))

    second = _shutdown.SecondInterrupt()
    thread = threading.Thread(target=run, name="remotemedia-wait", daemon=True)
    start(thread, "work that waits")
    try:
        await asyncio.wait([result.future])
    except asyncio.CancelledError as cancelled:
        began = loop.time()
        if when_cancelled is not None:
            when_cancelled()
        if not await result.wait_for_end(CLOSE_TIMEOUT_SECS, second):
            _log.abandoned(loop.time() - began, thread.ident or 0)
            raise
        thread.join()
        failure = result.take_failure()
        if failure is not None and not isinstance(failure, asyncio.CancelledError):
            combine(cancelled, [failure])
        throw(cancelled)
    thread.join()
    return result.take()
