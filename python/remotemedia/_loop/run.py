"""Runs a pipeline once on the caller's event loop."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from remotemedia import _log, _shutdown
from remotemedia._asyncio.bridge import run_alone
from remotemedia._errors import combine, throw
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._loop.places import are_staged, has_streaming_nodes
from remotemedia._loop.sessions.streams.staged_run import StagedRun
from remotemedia._loop.stages.stage import Stage
from remotemedia._loop.streaming.run_stage import StreamingStage
from remotemedia._loop.turns import SharedTurns, Turns, is_current, next_size

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from remotemedia._core import LoopMetrics
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.sessions.chain import Chain

__all__ = ["clean_up", "run", "takes"]

_POLL_INTERVAL_SECS = 0.05

# The tasks that run pipelines, with the loops they run on.
_tasks: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}


def takes(feed: Any) -> bool:
    """Whether the items of a run can be read on the loop: an iterator of the user may block."""
    return feed is None or type(feed) in {list, tuple, range} or hasattr(type(feed), "__aiter__")


async def run(
    graph: Graph, feed: Any, metrics: LoopMetrics | None = None
) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph of nodes on this loop once, and return the outputs and the metrics.

    Args:
        graph: The checked pipeline.
        feed: Its input items: an iterable or async iterable, or `None` if the first node is a source.
        metrics: Collects the metrics of the nodes, if they are measured.
    """
    _shutdown.check_not_ending(f"a run of pipeline '{graph.name}'")
    task = asyncio.current_task()
    stage = _stage_of(graph, metrics)
    outputs: list[Any] = []
    failure: BaseException | None = None
    if task is not None:
        _tasks[task] = asyncio.get_running_loop()
    try:
        await stage.initialize()
        if isinstance(stage, StreamingStage | StagedRun):
            await stage.run(feed, outputs)
        else:
            await _take(stage, feed, outputs)
            await _flush(stage, outputs)
    except BaseException as error:  # noqa: BLE001 - Raised again below, after everything is cleaned up.
        failure = error
    finally:
        failures = await clean_up(stage, failure, graph.name, task)
        if task is not None:
            _tasks.pop(task, None)
        # If it is cancelled, it refers to this frame.
        del task
    failure = combine(failure, failures)
    try:
        if failure is not None:
            throw(failure)
        return outputs, None if metrics is None else metrics.report()
    finally:
        # Its traceback refers to this frame.
        del failure, failures


def _stage_of(graph: Graph, metrics: LoopMetrics | None) -> Stage | StagedRun:
    if are_staged(graph.entries):
        return StagedRun(graph, metrics)
    stage = StreamingStage(graph) if has_streaming_nodes(graph.entries) else Stage(graph)
    stage.metrics = metrics
    return stage


def _take(stage: Stage, feed: Any, outputs: list[Any]) -> Coroutine[Any, Any, None]:
    """Take all items: in one coroutine, because each costs time whenever a node suspends."""
    if feed is None:
        return _take_source(stage, outputs)
    if hasattr(type(feed), "__aiter__"):
        return stage.take_stream(aiter(feed), outputs, SharedTurns(stage))
    return _take_all(stage, feed, outputs)


async def _take_source(stage: Stage, outputs: list[Any]) -> None:
    async with aclosing(stage.source_items()) as items:
        await stage.take_stream(items, outputs, SharedTurns(stage))


async def _flush(stage: Stage, outputs: list[Any]) -> None:
    call = await stage.enter(0)
    try:
        await stage.flush(outputs)
    finally:
        await stage.leave(call)


async def _take_all(stage: Stage, items: Iterable[Any], outputs: list[Any]) -> None:
    """Take the items a few at once, as many as take less than a turn."""
    iterator = iter(items)
    turns = Turns()
    size = 1
    while chunk := list(islice(iterator, size)):
        began = time.perf_counter()
        call = await stage.enter(len(chunk))
        try:
            await stage.take(call, chunk, outputs)
        finally:
            await stage.leave(call)
        size = next_size(size, time.perf_counter() - began, stage.chunk_secs)
        await turns.give()


async def clean_up(
    stage: Stage | Chain | StagedRun,
    failure: BaseException | None,
    name: str,
    task: asyncio.Task[Any] | None,
) -> list[BaseException]:
    """Clean up the nodes to the end, even if the task is cancelled; return what they raised.

    Args:
        stage: The nodes.
        failure: What has ended the run, if anything.
        name: The name of the pipeline.
        task: The task of the run, in which this is called.
    """
    if isinstance(failure, GeneratorExit) and not is_current(task):
        # The loop has stopped, and no longer runs this coroutine.
        if isinstance(stage, StagedRun):
            stage.end_alone()
        return run_alone(stage.clean_up())  # type: ignore[no-any-return]
    if not stage.may_wait_in_cleanup():
        return await stage.clean_up()
    loop = asyncio.get_running_loop()
    work = loop.create_task(stage.clean_up())
    second = _shutdown.SecondInterrupt()
    deadline = loop.time() + CLOSE_TIMEOUT_SECS if failure is not None else None
    cancelled: list[BaseException] = []
    while not work.done():
        try:
            await asyncio.wait([work], timeout=None if deadline is None else _POLL_INTERVAL_SECS)
        except asyncio.CancelledError as error:
            cancelled = [error]
            deadline = deadline or loop.time() + CLOSE_TIMEOUT_SECS
        if deadline is not None and (loop.time() > deadline or second.has_occurred()):
            _log.cleanup_abandoned(name, CLOSE_TIMEOUT_SECS)
            return cancelled
    return [*work.result(), *cancelled]


def _end_runs() -> None:
    """Close the runs whose event loops end with the program, so that their nodes are cleaned up."""
    for task, loop in [*_tasks.items()]:
        coroutine = task.get_coro()
        if not loop.is_running() and coroutine is not None:
            # Its failures have no caller.
            with suppress(BaseException):
                coroutine.close()


_shutdown.at_end(_end_runs)
os.register_at_fork(after_in_child=_tasks.clear)
