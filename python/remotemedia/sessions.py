"""Open pipelines: `Session` for plain Python, `AsyncSession` for asyncio.

A session initializes its nodes once and keeps them for all calls and streams until it closes.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from remotemedia import _log, _shutdown
from remotemedia._core import DirectMap, Opener, OutputStream, SessionCore, StreamFeed
from remotemedia._errors import combine, throw
from remotemedia._graph.graph import Graph
from remotemedia._graph.item_streams import items_of
from remotemedia._graph.node_kinds import classify, thread_for
from remotemedia._limits import CLOSE_TIMEOUT_SECS, LONGEST_SECS
from remotemedia._session.consumers import Consumer, Consumers
from remotemedia.exceptions import NodeTimeoutError, PipelineError, SessionClosedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "CLOSED",
    "CLOSE_TIMEOUT_SECS",
    "HOW_TO_OPEN",
    "Outputs",
    "Session",
    "check_items",
    "check_timeout",
    "close_after",
    "open_session",
]

CLOSED = "The session is closed; call pipeline.open() for a new one"

HOW_TO_OPEN = "'with pipeline.open() as session:' ('async with' in asyncio)"

_WAIT_SECS = 0.05
_OUTPUT, _END = 1, 2
_GOES_ON, _IS_ENDED, _IS_REFUSED = 0, 1, 2

_open_sessions: weakref.WeakSet[_Closing] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Mark all sessions as closed in a fork, which has neither the threads nor the workers of its parent."""
    for session in [*_open_sessions]:
        session.leave_to_parent()
        session._is_closed = True  # noqa: SLF001 - Ours.
    _open_sessions.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


class _Closing(SessionCore):
    """The common base of both kinds of sessions."""

    def __new__(cls, *parts: Any) -> Self:
        """Open a session; users do this with `with pipeline.open() as session`."""
        if not parts or not isinstance(parts[0], Graph):
            raise TypeError(f"{cls.__name__} cannot be called directly; use {HOW_TO_OPEN}")
        return super().__new__(cls, *parts)

    has_one_output: bool
    consumers: Consumers
    _name: str
    _has_source: bool
    _keeps_to_callers: bool
    _public_name = "AsyncSession"
    _is_used = False
    _is_ended = False
    _is_closed = False

    def adopt(self, graph: Graph, *, has_one_output: bool, keeps_to_callers: bool) -> Self:
        """Complete a new session."""
        self.consumers = Consumers()
        self.has_one_output = has_one_output
        self._name, self._has_source = graph.name, graph.source is not None
        self._keeps_to_callers = keeps_to_callers
        if self._has_source:
            self._is_used = self._is_ended = True
            self.start_source()
        _open_sessions.add(self)
        return self

    def __del__(self) -> None:
        """Close a session without references."""
        if not self._is_closed:
            _close_quietly(self)

    def metrics(self) -> dict[str, Any] | None:
        """Return the metrics so far, or `None` if the session was opened without `enable_metrics`."""
        metrics = super().metrics()
        if metrics is not None:
            metrics["advice"] = self._advice(metrics)
        return metrics

    def _advice(self, _metrics: dict[str, Any]) -> list[str]:
        """Return what the metrics say about placements: nothing in plain Python, without an event loop."""
        return []

    @property
    def _stream(self) -> OutputStream:
        # Not stored: it refers to the session, and the garbage collector cannot free such a cycle.
        return OutputStream.main(self)

    def end(self) -> None:
        """End the input: the nodes are flushed, and the iteration ends after the last output."""
        self._is_used = True
        if not self._is_ended:
            self._is_ended = True
            self._stream.end(self._taken_along)

    def __repr__(self) -> str:
        """Show the pipeline and the state."""
        state = "open"
        if self._is_closed:
            state = "closed; call pipeline.open() for a new one"
        elif self._has_source:
            state = "open; iterate over it for its outputs"
        elif self._is_ended:
            state = "open; accepts no more items after end()"
        return f"<{self._public_name} of pipeline '{self._name}': {state}>"

    def _begin_put(self) -> None:
        self.check_takes_items()
        if self._is_closed:
            raise SessionClosedError(CLOSED)
        if self._is_ended:
            raise SessionClosedError("The session accepts no more items: end() was called")
        self._is_used = True

    @property
    def _taken_along(self) -> Callable[[], bool] | None:
        """Return the check for other readers of outputs; `None` if nodes may run on a thread."""
        return self._is_taken if self._keeps_to_callers else None

    def _is_taken(self) -> bool:
        return self.consumers.is_main_taken(threading.get_ident())

    def _refuse(self, stream: OutputStream) -> NoReturn:
        """Raise the reason why the session accepts no more items: it is closed, or it has failed."""
        if not self._is_closed:
            stream.next(0.0)
        raise SessionClosedError(CLOSED)

    def cancel_calls_after(self, error: BaseException | None) -> None:
        """Interrupt the calls of workers after Ctrl-C or a cancellation."""
        if not isinstance(error, Exception | None):
            self.cancel_calls()

    def close_now(self, timeout: float) -> None:
        """Stop the work in progress, clean up, and end all threads."""
        check_timeout(timeout)
        if self._is_closed:
            return
        self.check_outside("close")
        self._is_closed = True
        _open_sessions.discard(self)
        # The exit of the program must not interrupt a cleanup.
        with _shutdown.under_way(f"the closing of pipeline '{self._name}'", None):
            abandoned = self.shut_down(timeout)
        if abandoned:
            node_id, item_index, phase, _ = abandoned[0]
            texts = [
                _log.abandoned_node_text(name, item, at, timeout, thread)
                for name, item, at, thread in abandoned
            ]
            raise NodeTimeoutError("\n".join(texts), node_id=node_id, item_index=item_index, phase=phase)

    def finish(self, here: int | asyncio.Task[object], stop: threading.Event | None = None) -> None:
        """Process all items that were put in, whether or not another thread reads the outputs.

        Outputs wait for other readers. Without one, outputs that exceed the queue are dropped, and the
        iteration raises an error.

        Args:
            here: The thread or task that leaves the block.
            stop: Ends the wait.

        Raises:
            NodeError: If a node failed, and the error has not been raised yet.
        """
        if self._is_used and not self._is_closed:
            self.end()
            self.wait_until_drained(
                stop, make_room=lambda: self.consumers.make_room(self._stream, here, "drop")
            )
            if not self.consumers.is_main_taken(here):
                self._stream.raise_failure()

    def drain_for(self, here: int | asyncio.Task[object], stop: threading.Event | None = None) -> None:
        """Wait until all items have been processed; outputs that no other thread reads are kept."""
        try:
            self.wait_until_drained(
                stop, make_room=lambda: self.consumers.make_room(self._stream, here, "keep")
            )
        finally:
            self.consumers.wait_for_room(self._stream)


class Outputs(Protocol):
    """The outputs of a stream, an iterator that can be closed early."""

    def __iter__(self) -> Self:
        """Return itself."""

    def __next__(self) -> Any:
        """Return the next output."""

    def close(self) -> object:
        """Stop the stream: items in progress are dropped."""


class Session(_Closing):
    """An open pipeline for plain Python. Any number of threads may use it at once.

    Open it with `with pipeline.open() as session`. Its methods block; Ctrl-C interrupts them.
    """

    _public_name = "Session"

    def map(self, items: Iterable[Any]) -> Outputs:
        """Process a stream of items, and yield each output as soon as it is ready, in order.

        Items are read when outputs are requested, and only as many in advance as the queues hold. At the end
        of the items the nodes are flushed. Items in progress are dropped when the iterator is closed
        (`contextlib.closing`), or when it is deleted after the loop was left early.

        Raises:
            NodeError: If a node fails. Earlier outputs have been yielded.
            SessionClosedError: If the session closes.
            TypeError: If `items` is not iterable.
        """
        self.check_takes_items()
        check_items(items, is_async_too=False)
        self.check_outside("map")
        items = items_of(items)
        if self.is_direct and self.has_one_output:
            return DirectMap(self, items)
        return self._map_by_queue(items)

    def put(self, item: Any) -> None:
        """Put one item in, and wait while the pipeline is full. Iterate over the session for the outputs.

        If all nodes are inline and `def`, and one has an `initialize` or `cleanup`, the nodes run in this
        call, on the calling thread. If there is no room for the outputs, the call waits until another thread
        takes some; if no other thread does, the iteration continues with the rest. In all other sessions the
        nodes run on a thread of the session or on their own threads, and all methods of a node on the same.

        Raises:
            SessionClosedError: If the session has closed, or `end` was called.
        """
        self._begin_put()
        if not self._stream.put_and_wait(item, self._taken_along):
            self._refuse(self._stream)

    def __iter__(self) -> Iterator[Any]:
        """Yield the outputs of the items that were put in, or of the source, until the end.

        Raises:
            NodeError: If a node fails. Earlier outputs have been yielded.
        """
        # One object: it knows which thread reads it.
        stream = self._stream
        return _outputs_of(stream, self.consumers.add(Consumer(stream, is_main=True)))

    def drain(self) -> None:
        """Wait until all earlier items have left the session, as results of calls or as outputs of streams.

        Outputs that no other thread takes are kept until they are taken, without a limit. Batches that are
        not full are processed immediately.
        """
        self.drain_for(threading.get_ident())

    def interrupt(self) -> int:
        """Drop all items that are queued or in progress, and continue with the next item.

        After this returns, no output of a dropped item can follow, and `interrupt()` of all nodes has been
        called. Calls in progress raise `SessionInterruptedError`; streams continue.

        Returns:
            The number of dropped items. `metrics()` counts them too.
        """
        return self.drop_all()

    def close(self, timeout: float = CLOSE_TIMEOUT_SECS) -> None:
        """Stop the work, clean up the nodes, and end all threads. A second call does nothing.

        Args:
            timeout: Seconds that nodes may take to return.

        Raises:
            NodeTimeoutError: If a node did not return in time; the error contains the node, its item and its
                Python stack. Everything else is closed.
            NodeError: If a node failed to clean up.
        """
        self.close_now(timeout)

    def _map_by_queue(self, items: Iterable[Any]) -> Outputs:
        stream, limit = OutputStream.open(self, self.capacity), self.capacity
        feed = StreamFeed(stream, items, limit)
        # Referenced as long as the stream is iterated over.
        _consumer = self.consumers.add(Consumer(stream, is_main=False))
        fed, failure = _GOES_ON, None
        try:
            while (outputs := stream.ready(0.0 if fed == _GOES_ON else _WAIT_SECS)) is not None:
                yield from outputs
                if fed == _IS_ENDED:
                    continue
                try:
                    fed = feed.feed()
                except Exception as error:  # noqa: BLE001 - Raised after the outputs of the items before it.
                    fed, failure = _IS_ENDED, error
                if fed == _IS_REFUSED:
                    self._refuse(stream)
                if fed == _IS_ENDED:
                    stream.end()
        finally:
            stream.abandon()
        try:
            if failure is not None:
                throw(failure)
        finally:
            # Its traceback refers to this frame.
            del failure


def check_timeout(timeout: float) -> None:
    """Reject an invalid argument of `close`.

    Raises:
        TypeError: If it is not a number.
        PipelineError: If it is out of range.
    """
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(f"close(timeout=…) takes a number of seconds, not {timeout!r}")
    if not 0 <= timeout <= LONGEST_SECS:
        raise PipelineError(f"close(timeout={timeout!r}) is not valid; use a number of seconds, 0 or more")


def check_items(items: object, *, is_async_too: bool) -> None:
    """Reject arguments of `map` that are not iterable.

    Raises:
        TypeError: The text says what `map` accepts.
    """
    if hasattr(type(items), "__iter__") or hasattr(type(items), "__getitem__"):
        return
    if hasattr(type(items), "__aiter__"):
        if is_async_too:
            return
        raise TypeError(
            "An async iterable of items requires a session that was opened with 'async with pipeline.open()'"
        )
    kind = type(items).__name__
    raise TypeError(f"map() takes an iterable of items, not one {kind}; call() takes a single item")


def open_session(
    kind: type[Any], graph: Graph, settings: dict[str, Any], opener: Opener, on_output: Any = None
) -> Any:
    """Open a session of this kind; its nodes are initialized on this thread, or where the settings say."""
    nodes = [entry.node for entry in graph.entries if hasattr(entry.node, "process")]
    has_one_output = all(classify(node) in {"plain", "coroutine"} for node in nodes)
    thread = thread_for(nodes)
    settings = {"has_own_thread": thread == "session", "observes_calls": False} | settings
    try:
        with _shutdown.under_way(f"a session of pipeline '{graph.name}'", opener.cancel):
            session = kind(graph, settings, opener, on_output).adopt(
                graph, has_one_output=has_one_output, keeps_to_callers=thread == "caller"
            )
            if not _shutdown.is_ending():
                return session
            # The program began to exit too late for the opener to notice.
            session.close_now(CLOSE_TIMEOUT_SECS)
    except BaseException as error:
        if not _shutdown.is_ending() or isinstance(error, Exception | KeyboardInterrupt | SystemExit):
            raise
    raise PipelineError(f"Pipeline '{graph.name}' was not opened, because the program is exiting")


def _outputs_of(stream: OutputStream, _consumer: Consumer) -> Iterator[Any]:
    """Yield the outputs of a stream; the consumer is referenced as long as it is iterated over."""
    while True:
        state, output = stream.next(_WAIT_SECS)
        if state == _OUTPUT:
            yield output
        elif state == _END:
            return


def close_after(session: _Closing, error: BaseException) -> None:
    """Close the session, and raise failures together with the earlier error."""
    session.cancel_calls_after(error)
    try:
        session.close_now(CLOSE_TIMEOUT_SECS)
    except Exception as failure:  # noqa: BLE001 - Raised below, with the earlier error.
        combined = combine(error, [failure])
        try:
            if combined is not error and combined is not None:
                throw(combined)
        finally:
            # Its traceback refers to this frame.
            del combined, error


def _close_all() -> None:
    """Close all open sessions at exit, because their threads must not outlive the interpreter."""
    for session in list(_open_sessions):
        try:
            _close_quietly(session)
        except KeyboardInterrupt:
            _shutdown.hurry()


_shutdown.at_end(_close_all)


def _close_quietly(session: _Closing) -> None:
    try:
        session.close_now(_shutdown.time_left(CLOSE_TIMEOUT_SECS))
    except Exception as failure:  # noqa: BLE001 - No caller is left.
        _log.log_ignored_error(failure)
