"""The nodes of a run or session on an event loop: their lifecycle, and how items pass through them."""

from __future__ import annotations

import asyncio
import functools
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._compiled.failures import NO_NODE, close_all, find
from remotemedia._compiled.kernels import LazyResultError, build_async
from remotemedia._core import LoopStage
from remotemedia._errors import combine, is_interrupt, node_error, throw
from remotemedia._exception_chain import cause_of, traceback_of
from remotemedia._graph.node_kinds import makes_coroutines, return_kind

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import AsyncKernels, Kernel
    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.turns import SharedTurns

    Outputs = list[Any] | deque[Any]

__all__ = ["Stage"]

_POLL_INTERVAL_SECS = 0.05
"""How often a wait for a node checks whether the node waits for it."""


class Stage:
    """A chain of nodes on the current event loop.

    Items pass through all nodes in one coroutine; one call is inside at a time.
    """

    def __init__(self, graph: Graph) -> None:
        """Claim the nodes; none is called yet."""
        self._ids = [entry.id for entry in graph.entries]
        self._nodes: list[Any] = [entry.node for entry in graph.entries]
        # The node that receives the items; a source is before it.
        self._first = 0 if graph.source is None else 1
        pairs = list(zip(self._ids, self._nodes, strict=True))
        self.core = LoopStage(graph.name, pairs, self._first, weakref.WeakMethod(self.node_at_work))
        self._entered: list[int] = []
        self._kernels: AsyncKernels | None = None
        # What runs now: a coroutine of a kernel, or a node that is called outside of them.
        self.coroutine: Any = None
        self.kernel: Kernel | None = None
        self._node = 0
        self._phase = "process"
        self._room: Callable[[], Awaitable[object]] | None = None
        self.done = 0
        self._position = 0

    @property
    def one(self) -> Kernel | None:
        """The kernel for one item, if no node may have several outputs for it."""
        return None if self._kernels is None else self._kernels.one

    @property
    def makes_several(self) -> bool:
        """Whether nodes may have any number of outputs for an item."""
        return self.one is None

    def node_at_work(self) -> str:
        """Return the id of the node that is called or awaited now."""
        return self._ids[self._index_at_work()]

    def _index_at_work(self) -> int:
        frame = None if self.coroutine is None else self.coroutine.cr_frame
        if frame is None or self.kernel is None:
            return self._node
        line: int = frame.f_lineno
        return max(0, self.kernel.source.node_of_line[line]) + self._first

    # Lifecycle.

    async def initialize(self) -> None:
        """Initialize the nodes, in order.

        Raises:
            NodeError: If one fails. `clean_up` must be called in any case.
        """
        for index, node in enumerate(self._nodes):
            if self.core.join(index):
                self._entered.append(index)
                continue
            await self.lock(index)
            call = self.core.enter(0, index)
            try:
                self._node = index
                self._entered.append(index)
                if self.core.enroll(index, getattr(node, "is_initialized", False) is True):
                    await self._call_method(index, "initialize")
                    self.core.set_ready(index)
            finally:
                call.leave()
        self._kernels = build_async(self._nodes[self._first :])

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
                self._node = index
                if self.core.leave_last(index):
                    await self._call_method(index, "cleanup")
            except BaseException as error:  # noqa: BLE001 - Raised by the caller after all nodes are cleaned up.
                failures.append(error)
            finally:
                _forget_initialized(self._nodes[index])
                call.leave()
        return failures

    async def _call_method(self, index: int, name: str) -> None:
        method = getattr(self._nodes[index], name, None)
        if not callable(method):
            return
        self._phase = name
        try:
            result = method()
            while return_kind(result) == "coroutine":
                self.coroutine = result
                result = await result
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = self._failure(index, name, None, error)
        else:
            return
        finally:
            self._phase, self.coroutine = "process", None
        try:
            throw(failure)
        finally:
            # Its traceback refers to this frame.
            del failure

    def may_wait_in_cleanup(self) -> bool:
        """Whether `clean_up` may suspend, and so be cancelled."""
        if any(makes_coroutines(getattr(node, "cleanup", None)) for node in self._nodes):
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

    # Items.

    async def take(
        self,
        call: LoopCall,
        chunk: Sequence[Any],
        outputs: Outputs,
        room: Callable[[], Awaitable[object]] | None = None,
        base: int = 0,
    ) -> None:
        """Pass items through the nodes, and append the outputs.

        Args:
            call: The call, which is inside the nodes.
            chunk: The items.
            outputs: Receives the outputs.
            room: Awaited after each output; for nodes that may have any number of them.
            base: The index of the first input in errors.

        Raises:
            NodeError: If a node fails. The outputs of the items before are there; `done` counts the items.
        """
        items: Any = iter(chunk)
        self._room = room
        first = call.first - base
        if self._kernels is None or room is not None:
            for item in items:
                self.done = len(chunk) - items.__length_hint__()
                await self._pass(self._first, item, first + self.done - 1, outputs)
            return
        kernel = self._kernels.many
        while True:
            failed = await self._run(kernel, kernel.function(items, outputs))
            if failed is None:
                return
            self.done = len(chunk) - items.__length_hint__()
            await self._go_on(*failed, first + self.done - 1, outputs)

    async def go_on_one(self, kernel: Kernel, error: BaseException, index: int, outputs: Outputs) -> None:
        """Continue after the kernel for one item has raised an error, as `take` does."""
        self._room = None
        original = _original(error)
        await self._go_on(self._find(original, kernel), original, index, outputs)

    def _find(self, error: BaseException, kernel: Kernel) -> Found:
        found = find(error, kernel)
        if not self._first or found.node == NO_NODE:
            return found
        opened = [(node + self._first, generator) for node, generator in found.opened]
        return found._replace(node=found.node + self._first, opened=opened)

    async def interrupt(self) -> None:
        """Call `interrupt` of the nodes, in order."""
        failures: list[BaseException] = []
        for index in range(len(self._nodes)):
            self._node = index
            try:
                await self._call_method(index, "interrupt")
            except Exception as error:  # noqa: BLE001 - Raised after all nodes are notified.
                failures.append(error)
        if failures:
            _log.log_ignored_error(failures[0])

    def at_work(self) -> tuple[str, str, Any]:
        """Return the id of the node that is called or awaited, its phase, and the coroutine."""
        return self.node_at_work(), self._phase, self.coroutine

    async def take_stream(self, items: AsyncIterator[Any], outputs: Outputs, turns: SharedTurns) -> None:
        """Pass the items of an async iterator through the nodes, each before the next is requested."""
        self._room = None
        done = 0
        while True:
            if not turns.is_shared:
                await turns.enter()
            try:
                if self._kernels is None:
                    async for item in items:
                        await self._pass(self._first, item, done, outputs)
                        done += 1
                    self.core.count_inputs(done)
                    return
                kernel = self._kernels.stream
                failed = await self._run(kernel, kernel.function(items, outputs, turns))
                if failed is None:
                    self.core.count_inputs(done + self._position)
                    return
                index = done + (failed[0].position or 0)
                done = index + 1
                await self._go_on(*failed, index, outputs)
            finally:
                turns.leave()
                del failed

    async def source_items(self) -> AsyncGenerator[Any, None]:
        """Yield the items of the source; no other session uses it meanwhile.

        Raises:
            NodeError: If it fails.
        """
        index = 0
        result: Any = None
        await self.lock(0)
        try:
            self._node = 0
            result = self._nodes[0].process()
            while (kind := return_kind(result)) == "coroutine":
                result = await result
            if kind == "plain":
                if result is not None:
                    yield result
                return
            iterator = result if kind == "async_generator" else _each(result)
            while (item := await anext(iterator, _END)) is not _END:
                yield item
                index += 1
        except GeneratorExit:
            closed = await _close(result) if return_kind(result) != "plain" else None
            if closed is None:
                raise
            failure = self._failure(0, "process", None, closed)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = self._failure(0, "process", index, error)
        else:
            return
        finally:
            self.core.unlock(0)
        try:
            throw(failure)
        finally:
            del failure

    def is_at_input(self) -> bool:
        """Whether a kernel waits for its next item."""
        frame = None if self.coroutine is None else self.coroutine.cr_frame
        return (
            frame is not None
            and self.kernel is not None
            and self.kernel.source.node_of_line[frame.f_lineno] == NO_NODE
        )

    async def _run(
        self, kernel: Kernel, coroutine: Coroutine[Any, Any, Any]
    ) -> tuple[Found, BaseException] | None:
        """Await a kernel; return where and what it raised, if it failed."""
        self.coroutine, self.kernel = coroutine, kernel
        try:
            self._position = await coroutine
        except BaseException as error:  # noqa: BLE001 - Raised by the caller, with its node.
            original = _original(error)
            return self._find(original, kernel), original
        finally:
            self.coroutine = self.kernel = None
        return None

    async def _go_on(self, found: Found, error: BaseException, index: int, outputs: Outputs) -> None:
        """Continue after a result that a kernel cannot use; raise any other failure of it."""
        opened = found.opened
        try:
            if not isinstance(error, LazyResultError):
                throw(self._failure(found.node, "process", index, error))
            await self._follow(found.node, "process", error.args[0], index, outputs)
            while opened:
                node, generator = opened[0]
                await self._follow(node, "process", generator, index, outputs)
                del opened[0]
        except BaseException as raised:  # noqa: BLE001 - Raised below, with the others.
            failures = [
                self._failure(node, "process", None, failure) for node, failure in await close_all(opened)
            ]
            failure = combine(raised, failures) or raised
        else:
            return
        finally:
            del error
        try:
            throw(failure)
        finally:
            del failure

    async def _pass(self, node: int, item: Any, index: int, outputs: Outputs) -> None:
        """Pass one item to a node and its outputs on, without compiled code."""
        if node == len(self._nodes):
            outputs.append(item)
            if self._room is not None:
                await self._room()
            return
        self._node = node
        try:
            result = self._nodes[node].process(item)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = self._failure(node, "process", index, error)
        else:
            await self._follow(node, "process", result, index, outputs)
            return
        try:
            throw(failure)
        finally:
            del failure

    async def flush(self, outputs: Outputs, base: int = 0) -> None:
        """Pass on the last outputs of each node."""
        self._room = None
        index = max(0, self.core.inputs - base - 1)
        for node, target in enumerate(self._nodes):
            flush = getattr(target, "flush", None)
            if not callable(flush):
                continue
            self._node = node
            try:
                result = flush()
            except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
                failure = self._failure(node, "flush", None, error)
            else:
                await self._follow(node, "flush", result, index, outputs)
                continue
            try:
                throw(failure)
            finally:
                del failure

    async def _follow(self, node: int, phase: str, result: Any, index: int, outputs: Outputs) -> None:
        """Pass on what a node returned: an output, or a coroutine or generator of outputs."""
        kind = return_kind(result)
        failure: BaseException
        step = _Step()
        try:
            while kind == "coroutine":
                step.is_in_node = True
                self._node = node
                result = await result
                step.is_in_node = False
                kind = return_kind(result)
            if kind == "plain":
                if result is not None:
                    await self._pass(node + 1, result, index, outputs)
                return
            outputs_of = _each(result) if kind == "generator" else result
            while True:
                step.is_in_node = True
                self._node = node
                output = await anext(outputs_of, _END)
                step.is_in_node = False
                if output is _END:
                    return
                await self._pass(node + 1, output, index, outputs)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = error
        if step.is_in_node:
            failure = self._failure(node, phase, index if phase == "process" else None, failure)
        elif kind != "plain":
            closed = await _close(result)
            if closed is not None:
                failure = combine(failure, [self._failure(node, phase, None, closed)]) or failure
            del closed
        try:
            throw(failure)
        finally:
            del failure

    def _failure(self, node: int, phase: str, index: int | None, error: BaseException) -> BaseException:
        if node == NO_NODE or is_interrupt(error):
            return error
        return node_error(self._ids[node], index, phase, error)


class _Step:
    is_in_node = False


_END = object()


async def _each(generator: Any) -> Any:
    for output in generator:
        yield output


async def _close(generator: Any) -> BaseException | None:
    try:
        close = getattr(generator, "aclose", None)
        if close is None:
            generator.close()
        else:
            await close()
    except BaseException as error:  # noqa: BLE001 - Returned.
        return error
    return None


def _original(error: BaseException) -> BaseException:
    """Return what a node raised: a coroutine replaces `StopIteration` with a `RuntimeError`."""
    cause = cause_of(error)
    is_replaced = type(error) is RuntimeError and isinstance(cause, StopIteration)
    # It begins where the kernel is awaited. An error of the node itself has its frames.
    traceback = traceback_of(error) if is_replaced else None
    return cause if cause is not None and traceback is not None and traceback.tb_next is None else error


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
