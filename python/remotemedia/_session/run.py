"""The Rust engine as an asyncio program sees it.

A run is awaited, and a cancelled one has cleaned up before it says so.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from remotemedia import _core, _shutdown
from remotemedia._errors import combine, throw
from remotemedia._threads import forget

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph

__all__ = ["run"]

CLOSE_TIMEOUT_SECS = 10.0
"""How long a cancelled run may take to come to its end before it is left behind."""

# What is under way, with the pipelines.
_calls: dict[_core.Call, Graph] = {}


async def run(
    graph: Graph,
    feed: Any,
    enable_metrics: bool,  # noqa: FBT001 - as the reference executor has it
) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph once on a thread of its own; the event loop goes on meanwhile.

    Args:
        graph: The checked pipeline.
        feed: Its input items: any iterable or async iterable, or `None` where the first node is a source.
        enable_metrics: Measure.

    Returns:
        The outputs and, if wanted, the metrics.
    """
    _shutdown.check_not_ending(f"a run of pipeline '{graph.name}'")
    loop = asyncio.get_running_loop()
    outcome = _Outcome(loop)
    call = _core.start(graph, feed, loop, outcome.deliver, enable_metrics)
    _calls[call] = graph
    try:
        await outcome.future
    except asyncio.CancelledError as cancelled:
        await _stop(graph, call, outcome)
        failure = outcome.value
        if isinstance(failure, asyncio.CancelledError):
            # The engine's own word for it: what failed while it cleaned up is behind it.
            failure = failure.__context__
        if isinstance(failure, BaseException):
            combine(cancelled, [failure])
        throw(cancelled)
    _join(call)
    return outcome.get()


async def _stop(graph: Graph, call: _core.Call, outcome: _Outcome) -> None:
    began = time.monotonic()
    call.cancel()
    if await outcome.wait_again(until=asyncio.get_running_loop().time() + CLOSE_TIMEOUT_SECS):
        _join(call)
    else:
        _calls.pop(call, None)
        _tell_left_behind(graph, call, time.monotonic() - began)


def _join(call: _core.Call) -> None:
    """Wait for the end of a thread."""
    call.join()
    _calls.pop(call, None)
    forget(call.thread_id)


def _end_calls() -> None:
    """Stop the runs whose event loops go down with the program, so that their nodes are cleaned up."""
    calls = [*_calls.items()]
    for call, _ in calls:
        call.cancel()
    began = time.monotonic()
    deadline = began + _shutdown.time_left(CLOSE_TIMEOUT_SECS)
    for call, graph in calls:
        if not call.ends_within(max(0.0, deadline - time.monotonic())):
            _tell_left_behind(graph, call, time.monotonic() - began)


_shutdown.at_end(_end_calls)
os.register_at_fork(after_in_child=_calls.clear)


class _Outcome:
    """Where the engine puts its answer, on the loop's thread."""

    __slots__ = ("future", "is_delivered", "metrics", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.is_delivered = False
        self.value: Any = None
        self.metrics: dict[str, Any] | None = None

    def deliver(self, value: Any, metrics: dict[str, Any] | None) -> None:
        self.is_delivered = True
        self.value = value
        self.metrics = metrics
        if not self.future.done():
            self.future.set_result(None)

    def get(self) -> tuple[list[Any], dict[str, Any] | None]:
        """The answer.

        Raises:
            BaseException: What ended the run.
        """
        value, self.value = self.value, None
        try:
            if isinstance(value, BaseException):
                throw(value)
            return value, self.metrics
        finally:
            # The traceback of an error has this frame.
            del value

    async def wait_again(self, until: float) -> bool:
        """Wait for the answer of a cancelled run, whatever else is cancelled meanwhile.

        Args:
            until: When to give up, in the loop's time.

        Returns:
            Whether it came in time.
        """
        loop = asyncio.get_running_loop()
        second = _shutdown.SecondInterrupt()
        while not self.is_delivered and loop.time() < until:
            self.future = loop.create_future()
            timer = loop.call_at(until, _release, self.future)
            try:
                await self.future
            except asyncio.CancelledError:
                # The first cancellation is under way already, and is what the caller will see.
                if second.has_come():
                    break
            finally:
                timer.cancel()
        return self.is_delivered


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _tell_left_behind(graph: Graph, call: _core.Call, waited: float) -> None:
    import logging

    frame = sys._current_frames().get(call.thread_id)  # noqa: SLF001 - documented
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no Python code)\n"
    logging.getLogger("remotemedia").error(
        "pipeline '%s' was cancelled, but a node did not return within %g s and was abandoned; "
        "its stack:\n%s",
        graph.name,
        round(waited, 2),
        stack,
    )
