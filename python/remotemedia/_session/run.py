"""Runs of the Rust engine for asyncio.

A run is awaited; a cancelled run raises only after its nodes are cleaned up.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from remotemedia import _core, _log, _shutdown
from remotemedia._errors import combine, throw
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._session.results import Result
from remotemedia._threads import forget

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph

__all__ = ["run"]

# The runs in progress, with their pipelines.
_calls: dict[_core.Call, Graph] = {}


async def run(
    graph: Graph,
    feed: Any,
    enable_metrics: bool,  # noqa: FBT001 - As in the reference executor.
) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph once on a separate thread, without blocking the event loop.

    Args:
        graph: The checked pipeline.
        feed: Its input items: any iterable or async iterable, or `None` if the first node is a source.
        enable_metrics: Whether to measure the run.

    Returns:
        The outputs, and the metrics or `None`.
    """
    _shutdown.check_not_ending(f"a run of pipeline '{graph.name}'")
    loop = asyncio.get_running_loop()
    outcome = Result(loop)

    def deliver(value: Any, metrics: dict[str, Any] | None) -> None:
        if isinstance(value, BaseException):
            outcome.set(None, value)
        else:
            outcome.set((value, metrics))

    call = _core.start(graph, feed, loop, deliver, enable_metrics)
    _calls[call] = graph
    try:
        await outcome.future
    except asyncio.CancelledError as cancelled:
        await _stop(graph, call, outcome)
        failure = outcome.take_failure()
        if isinstance(failure, asyncio.CancelledError):
            # Raised by the engine; failures of cleaning up are chained to it.
            failure = failure.__context__
        if failure is not None:
            combine(cancelled, [failure])
        throw(cancelled)
    _join(call)
    return outcome.take()  # type: ignore[no-any-return]


async def _stop(graph: Graph, call: _core.Call, outcome: Result) -> None:
    began = time.monotonic()
    call.cancel()
    if await outcome.wait_for_end(CLOSE_TIMEOUT_SECS):
        _join(call)
    else:
        _calls.pop(call, None)
        _log.run_abandoned(graph.name, time.monotonic() - began, call.thread_id)


def _join(call: _core.Call) -> None:
    """Wait for the end of the thread."""
    call.join()
    _calls.pop(call, None)
    forget(call.thread_id)


def _end_calls() -> None:
    """Stop the runs whose event loops end with the program, so that their nodes are cleaned up."""
    calls = [*_calls.items()]
    for call, _ in calls:
        call.cancel()
    began = time.monotonic()
    deadline = began + _shutdown.time_left(CLOSE_TIMEOUT_SECS)
    for call, graph in calls:
        if not call.ends_within(max(0.0, deadline - time.monotonic())):
            _log.run_abandoned(graph.name, time.monotonic() - began, call.thread_id)


_shutdown.at_end(_end_calls)
os.register_at_fork(after_in_child=_calls.clear)
