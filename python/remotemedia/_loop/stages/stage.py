"""How items pass through the nodes of a run or session on an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import NO_NODE, close_all, find, original_error
from remotemedia._compiled.kernels import LazyResultError, build_async
from remotemedia._errors import combine, throw
from remotemedia._loop.policies import guarded
from remotemedia._loop.stages.branches import Branches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import AsyncKernels, Kernel
    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.stages.beside import Entry
    from remotemedia._loop.stages.members import Members
    from remotemedia._loop.stages.singly import Outputs, Room
    from remotemedia._loop.stages.threads import NodeThread
    from remotemedia._loop.turns import SharedTurns

__all__ = ["Stage"]


class Stage(Branches):
    """Nodes on the current event loop, and on a thread beside it.

    On the loop, items pass through all nodes in one coroutine; one call is inside at a time.
    """

    def __init__(
        self, graph: Graph, neighbour: Members | None = None, thread: NodeThread | None = None
    ) -> None:
        """Claim the nodes; none is called yet."""
        super().__init__(graph, neighbour, thread)
        self._kernels: AsyncKernels | None = None
        self._position = 0
        self._raised: tuple[Found, BaseException] | None = None

    @property
    def has_flush(self) -> bool:
        """Whether there may be anything to flush."""
        return True

    @property
    def one(self) -> Kernel | None:
        """The kernel for one item, if no node may have several outputs for it."""
        return None if self._kernels is None else self._kernels.one

    @property
    def makes_several(self) -> bool:
        """Whether nodes may have any number of outputs for an item."""
        return not self.is_divided and self.one is None

    def index_at_work(self) -> int:
        """Return the index of the node that is called or awaited now."""
        if self.is_thread_busy:
            return self.thread_index()
        frame = None if self.coroutine is None else self.coroutine.cr_frame
        if frame is None or self.kernel is None:
            return self.node
        line: int = frame.f_lineno
        return max(0, self.kernel.source.node_of_line[line]) + self.kernel_first

    async def initialize(self) -> None:
        """Initialize the nodes, and compile them: an object may choose its methods then."""
        await super().initialize()
        if self.known.has_policies:
            self.called = guarded(self.called, self.known.policies, self.on_thread, self.metrics)
        if self.has_neighbours or (self.thread is not None and self.known.is_chain):
            self.divide()
        elif self.thread is None and self.metrics is None:
            self._kernels = self.known.kernels(self._compile, are_changed=self.has_run_code)

    def _compile(self) -> AsyncKernels | None:
        first = self.first
        return build_async(self.called[first:], self.gates.routes.without(first), self.ids[first:])

    def take(
        self,
        call: LoopCall,
        chunk: Sequence[Any],
        outputs: Outputs,
        room: Room | None = None,
        base: int = 0,
    ) -> Coroutine[Any, Any, None]:
        """Pass items through the nodes, and append the outputs.

        Args:
            call: The call, which is inside the nodes.
            chunk: The items.
            outputs: Receives the outputs.
            room: What the outputs need room in, if the nodes may have any number of them.
            base: The index of the first input in errors.

        Raises:
            NodeError: If a node fails. The outputs of the items before are there; `done` counts the items.
        """
        first = call.first - base
        if self.is_divided:
            self.room = room
            return self._take_beside(chunk, first, outputs)
        return self.take_whole(chunk, first, outputs, room)

    def take_whole(
        self, chunk: Sequence[Any], first: int, outputs: Outputs, room: Room | None = None
    ) -> Coroutine[Any, Any, None]:
        """Pass items through all nodes at once, as `take` does; `first` is the index of the first one."""
        # Each coroutine around the nodes costs time whenever one of them suspends, so there is only one here.
        self.room = room
        if self._kernels is None:
            return self._take_singly(chunk, first, outputs)
        if room is None:
            return self._take_compiled(self._kernels.many, (outputs,), chunk, first)
        return self._take_compiled(self._kernels.limited, (outputs, room), chunk, first)

    async def _take_singly(self, chunk: Sequence[Any], first: int, outputs: Outputs) -> None:
        for position, item in enumerate(chunk):
            self.done = position + 1
            await self.take_one(item, first + position, outputs)

    async def _take_compiled(
        self, kernel: Kernel, into: tuple[Any, ...], chunk: Sequence[Any], first: int
    ) -> None:
        items: Any = iter(chunk)
        while True:
            self.kernel = kernel
            self.coroutine = coroutine = kernel.function(items, *into)
            try:
                await coroutine
            except BaseException as error:  # noqa: BLE001 - Raised by `_go_on`, with its node.
                self._note(error, kernel)
            else:
                return
            finally:
                self.coroutine = self.kernel = coroutine = None
            self.done = len(chunk) - items.__length_hint__()
            await self._go_on(first + self.done - 1, into[0])

    async def _take_beside(self, chunk: Sequence[Any], first: int, outputs: Outputs) -> None:
        failure: BaseException | None = None
        if self.takes_chunks:
            failure = await self.take_chunk(chunk, first, outputs)
        else:
            failure = await self._take_parts(chunk, first, outputs)
        try:
            if failure is not None:
                throw(failure)
        finally:
            del failure

    async def _take_parts(self, chunk: Sequence[Any], first: int, outputs: Outputs) -> BaseException | None:
        self.done = 0
        failure: BaseException | None = None
        for entry in await self.take_entries(chunk, first):
            if failure is None:
                self.done += 1
                outputs.extend(entry.values)
                failure = entry.failure
            # As in `_run`.
            entry.failure = None
        try:
            return failure
        finally:
            del failure

    async def pass_entries(self, entries: list[Entry]) -> None:
        """Pass items through all nodes, also those with any number of outputs."""
        if self.is_divided:
            await super().pass_entries(entries)
            return
        for entry in entries:
            if entry.failure is not None or not entry.values:
                continue
            items, entry.values = entry.values, []
            try:
                await self.take_whole(items, entry.index, entry.values)
            except Exception as error:  # noqa: BLE001 - Raised by the caller, for its item.
                entry.failure = error

    async def go_on_one(self, kernel: Kernel, error: BaseException, index: int, outputs: Outputs) -> None:
        """Continue after the kernel for one item has raised an error, as `take` does."""
        self.room = None
        original = original_error(error)
        self._raised = self._find(original, kernel), original
        del error, original
        await self._go_on(index, outputs)

    def _find(self, error: BaseException, kernel: Kernel) -> Found:
        found = find(error, kernel)
        return found.shifted(self.first) if self.first else found

    async def take_stream(self, items: AsyncIterator[Any], outputs: Outputs, turns: SharedTurns) -> None:
        """Pass the items of an async iterator through the nodes, each before the next is requested."""
        self.room = None
        if self.thread is not None:
            async for item in items:
                call = await self.enter(1)
                try:
                    await self.take(call, [item], outputs)
                finally:
                    await self.leave(call)
            return
        done = 0
        while True:
            if not turns.is_shared:
                await turns.enter()
            try:
                if self._kernels is None:
                    async for item in items:
                        await self.take_one(item, done, outputs)
                        done += 1
                        await turns.breathe()
                    self.core.count_inputs(done)
                    return
                kernel = self._kernels.stream
                if await self._run(kernel, kernel.function(items, outputs, turns)):
                    self.core.count_inputs(done + self._position)
                    return
                done += self._position + 1
                await self._go_on(done - 1, outputs)
            finally:
                turns.leave()

    def is_at_input(self) -> bool:
        """Whether a kernel waits for its next item."""
        frame = None if self.coroutine is None else self.coroutine.cr_frame
        return (
            frame is not None
            and self.kernel is not None
            and self.kernel.source.node_of_line[frame.f_lineno] == NO_NODE
        )

    async def _run(self, kernel: Kernel, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Await a kernel; return whether it has not failed. Otherwise call `_go_on`.

        No variable of the frames around a node may refer to what the node raised: from Python 3.12 on, its
        frame refers to them.
        """
        self.coroutine, self.kernel = coroutine, kernel
        try:
            self._position = await coroutine
        except BaseException as error:  # noqa: BLE001 - Raised by `_go_on`, with its node.
            self._note(error, kernel)
            return False
        finally:
            self.coroutine = self.kernel = None
        return True

    def _note(self, error: BaseException, kernel: Kernel) -> None:
        """Store what ended a kernel, for `_go_on`."""
        original = original_error(error)
        found = self._find(original, kernel)
        self._position = found.position or 0
        self._raised = found, original

    async def _go_on(self, index: int, outputs: Outputs) -> None:
        """Continue after a result that a kernel cannot use; raise any other failure of it."""
        if self._raised is None:
            return
        found, error = self._raised
        self._raised = None
        try:
            result = None
            if isinstance(error, LazyResultError):
                (result,) = error.args
            else:
                await self.handle(found.node, "process", index, error)
            await self.go_on(found, result, index, outputs)
        except BaseException as raised:  # noqa: BLE001 - Raised below, with the others.
            failures = [
                self.failure(node, "process", None, failure)
                for node, failure in await close_all(found.opened)
            ]
            failure = combine(raised, failures) or raised
        else:
            return
        finally:
            del error, found
        try:
            throw(failure)
        finally:
            del failure
