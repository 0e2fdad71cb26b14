"""Initializes and cleans up the nodes of a run or session on an event loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._errors import throw
from remotemedia._graph.node_kinds import makes_coroutines, return_kind
from remotemedia._loop.known import only_marks
from remotemedia._loop.stages.members import Members

if TYPE_CHECKING:
    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.stages.threads import Job, NodeThread

__all__ = ["Lifecycle"]


class Lifecycle(Members):
    """Nodes with their methods `initialize`, `interrupt` and `cleanup`."""

    def __init__(
        self, graph: Graph, neighbour: Members | None = None, thread: NodeThread | None = None
    ) -> None:
        """Claim the nodes."""
        super().__init__(graph, neighbour, thread)
        self._entered: list[int] = []
        # What the thread cleans up now, and what cleaning up has raised.
        self._cleaning: tuple[int, LoopCall, Job] | None = None
        self._failures: list[BaseException] = []

    async def initialize(self) -> None:
        """Initialize the nodes, in order.

        Raises:
            NodeError: If one fails. `clean_up` must be called in any case.
        """
        core = self.core
        for index, node in enumerate(self.nodes):
            if core.join(index):
                self._entered.append(index)
                continue
            if not core.try_lock(index):
                self.has_run_code = True
                await self.lock(index)
            is_ready = getattr(node, "is_initialized", False) is True
            if only_marks(node, "initialize"):
                self._entered.append(index)
                try:
                    if core.enroll(index, is_ready):
                        # As the method does.
                        node.is_initialized = True
                        core.set_ready(index)
                finally:
                    core.unlock(index)
                continue
            call = core.enter(0, index)
            try:
                self.node = index
                self._entered.append(index)
                if core.enroll(index, is_ready):
                    self.has_run_code = True
                    began = time.perf_counter_ns()
                    await self._call_method(index, "initialize")
                    if self.metrics is not None:
                        self.metrics.note_initialize(index, time.perf_counter_ns() - began)
                    core.set_ready(index)
            finally:
                await self.leave(call)

    async def clean_up(self) -> list[BaseException]:
        """Clean up the nodes that were initialized, in reverse order; return what they raised."""
        core = self.core
        if self._cleaning is not None:
            cleaning, self._cleaning = self._cleaning, None
            await self._clean_up_node(*cleaning)
        while self._entered and not self.is_abandoned:
            index = self._entered.pop()
            if core.leave(index):
                continue
            if not core.try_lock(index):
                # A node that waits for this cleanup is inside by itself.
                with suppress(Exception):
                    await self.lock(index)
            await self._clean_up_node(index, core.enter(0, index))
        if self.thread is not None and self._ends_thread and not self.is_abandoned:
            self.thread.join()
        failures, self._failures = self._failures, []
        return failures

    async def _clean_up_node(self, index: int, call: LoopCall, job: Job | None = None) -> None:
        """Clean up a node, or wait until the thread has done it."""
        try:
            self.node = index
            if job is not None or self.core.leave_last(index):
                try:
                    await self._call_method(index, "cleanup", job)
                finally:
                    _forget_initialized(self.nodes[index])
        except BaseException as error:  # noqa: BLE001 - Raised by the caller after all nodes are cleaned up.
            self._failures.append(error)
        finally:
            with suppress(asyncio.CancelledError):
                await self.leave(call)

    def clean_up_at_once(self) -> bool:
        """Clean up the last nodes as far as that takes only a moment; return whether these are all.

        `clean_up` waits for the others: those that are async, locked, or slow on the thread.
        """
        core = self.core
        while self._entered and not self.is_abandoned and self._cleaning is None:
            index = self._entered[-1]
            node = self.nodes[index]
            is_marking = only_marks(node, "cleanup")
            if not (is_marking or self._cleans_on_thread(index)) or not core.try_lock(index):
                break
            self._entered.pop()
            if core.leave(index) or not core.leave_last(index):
                core.unlock(index)
            elif not is_marking:
                self._begin_cleanup(index)
            else:
                try:
                    node.is_initialized = False
                finally:
                    core.unlock(index)
        return not self._entered and self._cleaning is None

    def _cleans_on_thread(self, index: int) -> bool:
        cleanup = getattr(self.nodes[index], "cleanup", None)
        return self.on_thread[index] and callable(cleanup) and not makes_coroutines(cleanup)

    def _begin_cleanup(self, index: int) -> None:
        """Clean up a node on the thread, which may take longer; its lock is held."""
        call = self.core.enter(0, index)
        try:
            job = self.start(self.nodes[index].cleanup)
        except BaseException as error:  # noqa: BLE001 - As in `clean_up`.
            self._failures.append(self.failure(index, "cleanup", None, error))
            call.leave()
            return
        self.node, self.phase = index, "cleanup"
        self._cleaning = index, call, job
        # Another task may wait for it.
        call.detach()
        is_last = not any(self.on_thread[other] for other in self._entered)
        if self.thread is not None and self._ends_thread and is_last:
            # It ends meanwhile.
            self.thread.stop()
        if self.thread is not None and self.thread.wait_briefly(job) and return_kind(job.value) == "plain":
            self._cleaning = None
            # The coroutine does not suspend.
            with suppress(StopIteration):
                self._clean_up_node(index, call, job).send(None)

    async def _call_method(self, index: int, name: str, job: Job | None = None) -> None:
        """Call a method of the lifecycle, or wait until the thread has called it."""
        method = getattr(self.nodes[index], name, None)
        if job is None and not callable(method):
            return
        self.phase = name
        try:
            if job is None:
                result = await self.invoke(index, method)  # type: ignore[arg-type] # It can be called.
            else:
                result = await self.result_of(job)
            while result is not None and return_kind(result) == "coroutine":
                self.coroutine = result
                result = await result
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = self.failure(index, name, None, error)
        else:
            return
        finally:
            self.phase, self.coroutine = "process", None
        try:
            throw(failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    def may_wait_in_cleanup(self) -> bool:
        """Whether `clean_up` may suspend, and so be cancelled."""
        if self._cleaning is not None:
            return True
        for index in self._entered:
            cleanup = getattr(self.nodes[index], "cleanup", None)
            if not only_marks(self.nodes[index], "cleanup") and (
                self.on_thread[index] or (callable(cleanup) and makes_coroutines(cleanup))
            ):
                return True
        if not self._entered:
            return False
        if not self.core.try_lock():
            return True
        self.core.unlock()
        return False

    async def interrupt(self) -> None:
        """Call `interrupt` of the nodes, in order."""
        for index in range(len(self.nodes)):
            self.node = index
            try:
                await self._call_method(index, "interrupt")
            except Exception as error:  # noqa: BLE001 - It belongs to no input.
                _log.log_ignored_error(error)


def _forget_initialized(node: Any) -> None:
    if getattr(node, "is_initialized", False) is True:
        # An object whose flag cannot be set keeps it.
        with suppress(Exception):
            node.is_initialized = False
