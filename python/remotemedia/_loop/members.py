"""The nodes of a run or session on an event loop: their locks and their lifecycle."""

from __future__ import annotations

import asyncio
import functools
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._compiled.failures import NO_NODE
from remotemedia._core import LoopStage
from remotemedia._errors import is_interrupt, node_error, throw
from remotemedia._graph.node_kinds import makes_coroutines, return_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph

__all__ = ["Members"]

_POLL_INTERVAL_SECS = 0.05
"""How often a wait for a node checks whether the node waits for it."""


class Members:
    """The nodes of a chain, which are called on the current event loop.

    Attributes:
        ids: Their ids.
        nodes: The objects.
        first: The index of the node that receives the items; a source is before it.
        core: Their locks and users.
        node: The node that is called now, outside of kernels.
        phase: Its phase.
        coroutine: What is awaited now, if that is known.
    """

    def __init__(self, graph: Graph) -> None:
        """Claim the nodes; none is called yet."""
        self.ids = [entry.id for entry in graph.entries]
        self.nodes: list[Any] = [entry.node for entry in graph.entries]
        self.first = 0 if graph.source is None else 1
        pairs = list(zip(self.ids, self.nodes, strict=True))
        self.core = LoopStage(graph.name, pairs, self.first, weakref.WeakMethod(self.node_at_work))
        self.node = 0
        self.phase = "process"
        self.coroutine: Any = None
        self._entered: list[int] = []

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
        """Return the error for what a node raised; requests to stop pass as themselves."""
        if node == NO_NODE or is_interrupt(error):
            return error
        return node_error(self.ids[node], index, phase, error)

    async def initialize(self) -> None:
        """Initialize the nodes, in order.

        Raises:
            NodeError: If one fails. `clean_up` must be called in any case.
        """
        for index, node in enumerate(self.nodes):
            if self.core.join(index):
                self._entered.append(index)
                continue
            await self.lock(index)
            call = self.core.enter(0, index)
            try:
                self.node = index
                self._entered.append(index)
                if self.core.enroll(index, getattr(node, "is_initialized", False) is True):
                    await self._call_method(index, "initialize")
                    self.core.set_ready(index)
            finally:
                call.leave()

    async def clean_up(self) -> list[BaseException]:
        """Clean up the nodes that were initialized, in reverse order; return what they raised."""
        failures: list[BaseException] = []
        while self._entered:
            index = self._entered.pop()
            if self.core.leave(index):
                continue
            # A node that waits for this cleanup is inside by itself.
            with suppress(Exception):
                await self.lock(index)
            call = self.core.enter(0, index)
            try:
                self.node = index
                if self.core.leave_last(index):
                    try:
                        await self._call_method(index, "cleanup")
                    finally:
                        _forget_initialized(self.nodes[index])
            except BaseException as error:  # noqa: BLE001 - Raised by the caller after all nodes are cleaned up.
                failures.append(error)
            finally:
                call.leave()
        return failures

    async def _call_method(self, index: int, name: str) -> None:
        method = getattr(self.nodes[index], name, None)
        if not callable(method):
            return
        self.phase = name
        try:
            result = method()
            while return_kind(result) == "coroutine":
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
        if any(makes_coroutines(getattr(node, "cleanup", None)) for node in self.nodes):
            return True
        if not self.core.try_lock():
            return True
        self.core.unlock()
        return False

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
                self.core.check_lock_wait(waiting)

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


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # A loop that is closed waits for nothing.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
