"""The nodes of a run or session on an event loop: their locks and where they are called."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia import _log, _shutdown
from remotemedia._compiled.failures import NO_NODE
from remotemedia._core import LoopStage
from remotemedia._errors import is_interrupt, node_error
from remotemedia._exception_chain import cause_of, set_traceback, traceback_of
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia._loop.known import known_of
from remotemedia._loop.stages.measuring import MEASURED_CALL
from remotemedia._loop.stages.threads import NodeThread
from remotemedia._loop.turns import CHUNK_SECS, CROSSING_SECS

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._core import LoopCall, LoopMetrics
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.stages.threads import Job

__all__ = ["Members"]

_OWN = "remotemedia._loop."

_POLL_INTERVAL_SECS = 0.05
"""How often a wait for a node checks whether the node waits for it."""


class Members:
    """The nodes of a chain, which are called on the current event loop.

    Attributes:
        name: The name of the pipeline.
        known: What their code determines.
        ids: Their ids.
        nodes: The objects.
        first: The index of the node that receives the items; a source is before it.
        core: Their locks and users.
        calls: Begins calls, and counts their inputs; `core`, if one call is inside at a time.
        on_thread: Whether each node is called on `thread`.
        has_run_code: Whether code of the nodes has run, so that they may have changed.
        is_abandoned: Whether a node did not return in time, so that no other is called.
        never_suspends: Whether all nodes are `def` nodes on the loop.
        job: The last work of the thread that was waited for.
        node: The node that is called now, outside of kernels.
        phase: Its phase.
        coroutine: What is awaited now, if that is known.
        metrics: Collects the metrics of this stage, if they are measured.
    """

    def __init__(
        self, graph: Graph, neighbour: Members | None = None, thread: NodeThread | None = None
    ) -> None:
        """Claim the nodes; none is called yet.

        Args:
            graph: The nodes.
            neighbour: Another stage of the same session.
            thread: The thread of another stage, which ends it.
        """
        known = self.known = graph.known or known_of(graph)
        self.name = graph.name
        self.ids = known.ids
        self.nodes = known.nodes
        self.first = known.first
        beside = None if neighbour is None else neighbour.core
        self.core: LoopStage = LoopStage(graph.name, known.pairs, self.first, weakref.ref(self), beside)
        self.calls = self.core
        self.on_thread = known.on_thread
        self.thread = (thread or NodeThread("remotemedia")) if any(self.on_thread) else None
        self._ends_thread = thread is None
        self.never_suspends = known.never_suspends
        self.job: Job | None = None
        self.is_abandoned = self.has_run_code = False
        self.node = 0
        self.phase = "process"
        self.coroutine: Any = None
        self.metrics: LoopMetrics | None = None

    def __call__(self) -> str:
        """Return the id of the node that is called or awaited now, for errors of `core`."""
        return self.node_at_work()

    def node_at_work(self) -> str:
        """Return the id of the node that is called or awaited now."""
        return self.ids[self.index_at_work()]

    def index_at_work(self) -> int:
        """Return the index of this node."""
        return self.node

    def at_work(self) -> tuple[str, str, Any]:
        """Return the id of the node that is called or awaited, its phase, and the coroutine."""
        return self.node_at_work(), self.phase, self.coroutine

    def failure(self, node: int, phase: str, index: int | None, error: BaseException) -> BaseException:
        """Return the error for what a node raised; requests to stop pass as themselves.

        Args:
            node: The node.
            phase: The method.
            index: The index of the item, which only errors in `process` contain.
            error: What was raised.
        """
        error = _unreplaced(error)
        # The traceback begins in the node.
        traceback = traceback_of(error)
        while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
            traceback = traceback.tb_next
        set_traceback(error, traceback)
        if node == NO_NODE or is_interrupt(error):
            return error
        return node_error(self.ids[node], index if phase == "process" else None, phase, error)

    async def invoke(self, node: int, work: Callable[[], Any]) -> Any:
        """Call a method of a node where the node belongs."""
        if not self.on_thread[node]:
            return work()
        return await self.result_of(self.start(work))

    async def result_of(self, job: Job) -> Any:
        """Return what work of the thread returns, or raise what it raises."""
        await self._wait(job)
        error, job.error = job.error, None
        try:
            if error is not None:
                raise error
            return job.take_value()
        finally:
            del error

    async def begin(self, work: Callable[[], Any]) -> Job:
        """Let the thread do something, and return when it has ended. A cancellation does not end it."""
        job = self.start(work)
        await self._wait(job)
        return job

    def start(self, work: Callable[[], Any]) -> Job:
        """Let the thread do something, without waiting for it."""
        if self.thread is None:
            raise RuntimeError("no node has a thread")
        job = self.job = self.thread.begin(work)
        return job

    async def _wait(self, job: Job) -> None:
        try:
            if self.thread is not None:
                await self.thread.wait(job)
        except BaseException:
            # The task may have been cancelled after the end of the work.
            if job.is_done:
                job.discard()
            else:
                job.when_done(job.discard)
            raise

    def abandon(self) -> None:
        """Call no node any more: one has not returned in time. Its thread ends when it returns."""
        self.is_abandoned = True
        if self.thread is not None:
            self.thread.stop()

    @property
    def inputs(self) -> int:
        """How many inputs there were."""
        return self.calls.inputs

    @property
    def chunk_secs(self) -> float:
        """How long a chunk of items should take."""
        return CHUNK_SECS if self.thread is None else CROSSING_SECS

    @property
    def thread_id(self) -> int:
        """The identity of the thread, or 0."""
        return 0 if self.thread is None else self.thread.ident

    @property
    def is_thread_busy(self) -> bool:
        """Whether the thread still does what a cancelled task has begun."""
        return self.job is not None and not self.job.is_done

    async def leave(self, call: LoopCall) -> None:
        """Leave the nodes when the thread has ended what a cancelled task has begun.

        A node that does not return in time is logged, and abandoned together with the thread.
        """
        if isinstance(sys.exception(), GeneratorExit):
            self.settle_alone()
        elif self.is_thread_busy:
            await self._settle()
        if not self.is_abandoned:
            call.leave()

    def settle_alone(self) -> None:
        """Wait until the thread has ended what it does, where the event loop no longer runs."""
        if self.job is not None and not self.job.is_done and not self.is_abandoned:
            began = time.monotonic()
            if not self.job.end_alone(_shutdown.time_left(CLOSE_TIMEOUT_SECS)):
                self.abandon()
                _log.run_abandoned(self.name, time.monotonic() - began, self.thread_id)

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        began, second = loop.time(), _shutdown.SecondInterrupt()
        cancelled: BaseException | None = None
        while (job := self.job) is not None and not job.is_done and not self.is_abandoned:
            waited = loop.time() - began
            if waited > CLOSE_TIMEOUT_SECS or second.has_occurred():
                self.abandon()
                _log.run_abandoned(self.name, waited, self.thread_id)
                break
            is_over = loop.create_future()
            job.when_done(functools.partial(_set, is_over))
            try:
                await asyncio.wait([is_over], timeout=_POLL_INTERVAL_SECS)
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled

    async def enter(self, inputs: int) -> LoopCall:
        """Enter the nodes for a number of inputs, when no other call is inside; the caller calls `leave`.

        Raises:
            PipelineError: If the one inside waits for the current code.
        """
        if (call := self.core.try_enter(inputs)) is not None:
            return call
        await self.lock()
        return self.core.enter(inputs)

    async def lock(self, node: int | None = None) -> None:
        """Wait until no other session is inside a node, or in any of the nodes, and keep others out.

        Raises:
            PipelineError: If the one inside waits for the current code.
        """
        loop = asyncio.get_running_loop()
        while not self.core.try_lock(node):
            is_free = loop.create_future()
            wake = functools.partial(_call_on_loop, loop, functools.partial(_set, is_free))
            waiting = self.core.wait_for_lock(wake, node)
            while waiting is not None and not is_free.done():
                await asyncio.wait([is_free], timeout=_POLL_INTERVAL_SECS)
                waiting.check_lock()


_CALLERS = {Members.invoke.__code__, Members.result_of.__code__, MEASURED_CALL}


def _unreplaced(error: BaseException) -> BaseException:
    """Return what a function raised: a coroutine that calls it replaces `StopIteration`."""
    cause = cause_of(error) if type(error) is RuntimeError else None
    traceback = traceback_of(cause) if isinstance(cause, StopIteration) else None
    is_replaced = traceback is not None and traceback.tb_frame.f_code in _CALLERS
    return cause if cause is not None and is_replaced else error


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # A loop that is closed waits for nothing.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
