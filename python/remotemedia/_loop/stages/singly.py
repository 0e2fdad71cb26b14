"""Passes items through nodes one by one, without compiled code."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Protocol

from remotemedia._compiled.body import STREAM
from remotemedia._compiled.failures import ITEM, NO_NODE
from remotemedia._compiled.layout import INPUT
from remotemedia._compiled.pushed import END, Pushed
from remotemedia._errors import combine, throw
from remotemedia._graph.node_kinds import return_kind
from remotemedia._loop.failed_items import FailedItemError, resolved
from remotemedia._loop.gates import Gates
from remotemedia._loop.policies import stop_timers
from remotemedia._loop.stages.lifecycle import Lifecycle
from remotemedia._loop.stages.measuring import note_failure

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator, Callable

    from remotemedia._compiled.failures import Found
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.stages.members import Members
    from remotemedia._loop.stages.threads import Job, NodeThread

    Outputs = list[Any] | deque[Any]

__all__ = ["Room", "Singly"]


class Room(Protocol):
    """What keeps outputs until they are taken."""

    def is_full(self) -> bool:
        """Return whether the nodes have to wait; called after each output."""

    async def wait(self) -> None:
        """Wait until there is room."""


class Singly(Lifecycle):
    """Nodes that receive single items, where a kernel cannot be used.

    Attributes:
        called: The nodes, or what takes their items.
        room: What the outputs need room in, for nodes that may have any number of them.
    """

    def __init__(
        self, graph: Graph, neighbour: Members | None = None, thread: NodeThread | None = None
    ) -> None:
        """Claim the nodes."""
        super().__init__(graph, neighbour, thread)
        self.called = self.nodes
        self.room: Room | None = None
        self.gates = Gates(self.known.connections, self.ids)

    def forget_soon(self) -> None:
        """Some items so far are no longer needed. Only streaming nodes hold any."""

    async def source_items(self) -> AsyncGenerator[Any, None]:
        """Yield the items of the source; no other session uses it meanwhile.

        Raises:
            NodeError: If it fails.
        """
        index = 0
        result: Any = None
        await self.lock(0)
        try:
            result = await self._begin_source()
            kind = return_kind(result)
            if kind == "plain":
                if result is not None:
                    yield result
                return
            if kind == "async_generator" and self.metrics is None:
                async for item in result:
                    yield item
                    index += 1
                return
            while (item := await self._draw_item(result)) is not END:
                yield item
                index += 1
        except GeneratorExit:
            closed = await self._close(0, result) if return_kind(result) != "plain" else None
            if closed is None:
                raise
            failure = self.failure(0, "process", None, closed)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            self._note_failure(0, error)
            failure = self.failure(0, "process", index, error)
        else:
            return
        finally:
            self.core.unlock(0)
        try:
            throw(failure)
        finally:
            del failure

    async def _begin_source(self) -> Any:
        """Call the source; return its items."""
        self.node = 0
        result = self.nodes[0].process()
        while return_kind(result) == "coroutine":
            result = await result
        return result

    async def _draw_item(self, result: Any) -> Any:
        """Return the next item of the source, or `END`."""
        step = _Step(0)
        step.enter()
        item = (await self.draw(0, result))[0]
        step.leave()
        if item is not END:
            self._note_call(0, step)
        return item

    async def take_one(self, item: Any, index: int, outputs: Outputs) -> None:
        """Pass an item through all nodes."""
        self.gates.forget()
        if self.metrics is not None:
            self.metrics.count_in()
        try:
            await self._send(self.first - 1 if self.first else INPUT, item, index, outputs)
            await self._open_gates(0, index, outputs)
        finally:
            self.gates.forget()

    async def go_on(self, found: Found, result: Any, index: int, outputs: Outputs) -> None:
        """Continue with the result of the node that a kernel cannot use, and then with what is left to do."""
        work = found.in_progress.work
        try:
            self.gates.take_over(found.in_progress)
            await self.follow(found.node, "process", result, index, outputs)
            while work:
                kind, node, target, thing = work[-1]
                if kind == STREAM:
                    thing = thing.outputs() if isinstance(thing, Pushed) else thing
                    await self.follow(node, "process", thing, index, outputs)
                elif kind == ITEM:
                    await self._send_to(target, node, thing, index, outputs)
                else:
                    await self.pass_on(target, thing, index, outputs)
                del work[-1]
            await self._open_gates(found.in_progress.open_gates, index, outputs)
        finally:
            self.gates.forget()

    async def _send(self, node: int, output: Any, index: int, outputs: Outputs) -> None:
        """Pass an output of a node to those behind it."""
        if self.metrics is not None and node != INPUT:
            self.metrics.note_output(node)
        routes = self.gates.routes
        targets = routes.targets[node]
        for target in targets:
            await self._send_to(target, node, output, index, outputs)
        if targets:
            return
        if routes.has_several_ends:
            self.gates.add(NO_NODE, node, output)
        else:
            await self._put_out(output, outputs)

    async def _send_to(self, target: int, node: int, output: Any, index: int, outputs: Outputs) -> None:
        if target in self.gates.routes.gates:
            self.gates.add(target, node, output)
        else:
            await self.pass_on(target, output, index, outputs)

    async def _put_out(self, output: Any, outputs: Outputs) -> None:
        if self.metrics is not None:
            self.metrics.count_out()
        outputs.append(output)
        if self.room is not None and self.room.is_full():
            await self.room.wait()

    async def _open_gates(self, start: int, index: int, outputs: Outputs) -> None:
        """Pass on what has arrived where branches meet, from one of the gates on."""
        gates = self.gates
        for gate in gates.routes.gates[start:]:
            for item in gates.open(gate, is_flush=False):
                await self.pass_on(gate, item, index, outputs)
        for output in gates.outputs():
            await self._put_out(output, outputs)

    async def pass_on(self, node: int, item: Any, index: int, outputs: Outputs) -> None:
        """Pass an item to a node, and its outputs to those behind it."""
        self.gates.enter(node)
        if self.metrics is not None:
            self.metrics.note_item(node)
        await self._call(node, "process", functools.partial(self.called[node].process, item), index, outputs)

    async def handle(self, node: int, phase: str, index: int | None, error: BaseException) -> None:
        """Raise the error for what a node raised, unless its policy takes the item.

        Args:
            node: The node.
            phase: The method that raised it.
            index: The index of the input, if there is one.
            error: What was raised.
        """
        refused = error if isinstance(error, FailedItemError) else None
        failure = self.failure(node, phase, index, error if refused is None else refused.original)
        try:
            if refused is not None and refused.dead_letter is not None:
                letter = functools.partial(refused.dead_letter, refused.item, failure)  # type: ignore[arg-type] # The error of an exception is one.
                await self._hand_over(node, letter)
                return
        except BaseException as raised:  # noqa: BLE001 - Raised below, without another context.
            self._note_failure(node, raised)
            failure = self.failure(node, phase, index, raised)
        finally:
            del refused, error
        try:
            throw(failure)
        finally:
            del failure

    async def _hand_over(self, node: int, letter: Callable[[], object]) -> None:
        """Call the function that takes failed items of a node, where the node is called."""
        self.node = node
        await resolved(await self.invoke(node, letter))
        if self.metrics is not None:
            self.metrics.note_handled(node, True)  # noqa: FBT003 - As in Rust.

    async def clean_up(self) -> list[BaseException]:
        """Clean up the nodes that were initialized, in reverse order; return what they raised."""
        stop_timers(self.called)
        return await super().clean_up()

    async def flush(self, outputs: Outputs, base: int = 0, room: Room | None = None) -> None:
        """Pass on the last outputs of each node; the arguments are those of `Stage.take`."""
        self.room = room
        index = max(0, self.inputs - base - 1)
        self.gates.forget()
        try:
            await self._flush_nodes(index, outputs)
        finally:
            self.gates.forget()

    async def _flush_nodes(self, index: int, outputs: Outputs) -> None:
        gates = self.gates
        for node, target in enumerate(self.called):
            if node in gates.routes.gates:
                for item in gates.open(node, is_flush=True):
                    await self.pass_on(node, item, index, outputs)
            flush = getattr(target, "flush", None)
            if callable(flush):
                await self._call(node, "flush", flush, index, outputs)
        for output in gates.outputs():
            await self._put_out(output, outputs)

    async def _call(
        self, node: int, phase: str, method: Callable[[], Any], index: int, outputs: Outputs
    ) -> None:
        """Call a method of a node, and pass its outputs on; the arguments are those of `follow`."""
        self.node = node
        step = _Step(0)
        step.enter()
        try:
            result = await self.invoke(node, method)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            self._note_failure(node, error, step)
            failure = error
        else:
            step.leave(self.job if self.on_thread[node] else None)
            await self.follow(node, phase, result, index, outputs, step.took)
            return
        try:
            await self.handle(node, phase, index, failure)
        finally:
            del failure

    async def follow(  # noqa: PLR0913, PLR0917 - What is known of the call.
        self, node: int, phase: str, result: Any, index: int, outputs: Outputs, took: int = 0
    ) -> None:
        """Pass on what a node returned: an output, or a coroutine or generator of outputs.

        Args:
            node: The node.
            phase: The method that returned it.
            result: What it returned.
            index: The index of the input.
            outputs: Receives the outputs of the last nodes.
            took: How long the method took, in nanoseconds.
        """
        failure: BaseException
        kind, step = "coroutine", _Step(took)
        try:
            result = await self._await(node, result, step)
            if (kind := return_kind(result)) == "plain":
                if result is not None or phase == "process":
                    self._note_call(node, step)
                if result is not None:
                    await self._send(node, result, index, outputs)
                return
            while True:
                step.enter()
                self.node = node
                output = (await self.draw(node, result))[0]
                step.leave()
                if output is END:
                    self._note_call(node, step)
                    return
                await self._send(node, output, index, outputs)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = error
        if step.is_in_node:
            self._note_failure(node, failure, step if kind == "coroutine" else None)
            try:
                await self.handle(node, phase, index, failure)
            finally:
                del failure
            return
        if kind != "plain":
            closed = await self._close(node, result)
            if closed is not None:
                failure = combine(failure, [self.failure(node, phase, None, closed)]) or failure
            del closed
        try:
            throw(failure)
        finally:
            del failure

    async def _await(self, node: int, result: Any, step: _Step) -> Any:
        """Return what a coroutine results in, and anything else unchanged."""
        while return_kind(result) == "coroutine":
            step.enter()
            self.node = node
            result = await result
            step.leave()
        return result

    def _note_call(self, node: int, step: _Step) -> None:
        if self.metrics is not None:
            self.metrics.note_call(node, step.took)

    def _note_failure(self, node: int, error: BaseException, step: _Step | None = None) -> None:
        """Note what a call raised, which was in this step; a generator has no time of its own then."""
        if self.metrics is not None:
            if step is not None:
                step.leave()
                self._note_call(node, step)
            note_failure(self.metrics, node, error)

    async def draw(self, node: int, generator: Any) -> tuple[Any]:
        """Return the next output of a generator of any kind, or `END`."""
        if hasattr(type(generator), "__anext__"):
            return (await anext(generator, END),)
        return (await self.invoke(node, functools.partial(next, generator, END)),)

    async def _close(self, node: int, generator: Any) -> BaseException | None:
        try:
            close = getattr(generator, "aclose", None)
            if close is None:
                await self.invoke(node, generator.close)
            else:
                await close()
        except BaseException as error:  # noqa: BLE001 - Returned.
            return error
        return None


class _Step:
    """A call of a node and what it returns late.

    Attributes:
        is_in_node: Whether the node runs now.
        took: How long it has run, in nanoseconds.
    """

    __slots__ = ("_began", "is_in_node", "took")

    def __init__(self, took: int) -> None:
        self.is_in_node = False
        self.took = took
        self._began = 0

    def enter(self) -> None:
        self.is_in_node = True
        self._began = time.perf_counter_ns()

    def leave(self, job: Job | None = None) -> None:
        """Leave the node; the way to a thread and back does not count as the work that was done there."""
        if job is not None and job.is_done:
            self.took += int(job.took * 1e9)
        else:
            self.took += time.perf_counter_ns() - self._began
        self.is_in_node = False
