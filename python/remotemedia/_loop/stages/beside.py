"""Passes items through nodes on the loop and on the thread beside it: what waits crosses together."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import find, original_error
from remotemedia._compiled.kernels import LazyResultError
from remotemedia._core import is_lazy
from remotemedia._errors import throw
from remotemedia._exception_chain import set_traceback
from remotemedia._graph.output_shape import shape
from remotemedia._loop.stages.measuring import measured
from remotemedia._loop.stages.singly import Singly
from remotemedia._loop.stages.threads import close_unused
from remotemedia._loop.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from remotemedia._compiled.kernels import Kernel
    from remotemedia._core import LoopCall
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.known import Part
    from remotemedia._loop.stages.members import Members
    from remotemedia._loop.stages.singly import Outputs
    from remotemedia._loop.stages.threads import Job, NodeThread

__all__ = ["BREATHING_SPACE", "Beside", "Entry", "discard"]

BREATHING_SPACE = 64
"""The items between two turns of other tasks."""


class Entry:
    """An item on its way through parts of a chain.

    Attributes:
        index: The index of the item, for errors.
        values: What has become of it.
        failure: What ended it.
        is_through: Whether the values are outputs of the last node, or the failure has its node.
        node: The node that the failure ended, where no kernel says it.
    """

    __slots__ = ("failure", "index", "is_through", "node", "values")

    def __init__(self, index: int, item: Any) -> None:
        """Begin with the item."""
        self.index = index
        self.values = [item]
        self.failure: BaseException | None = None
        self.is_through = False
        self.node: int | None = None


class Beside(Singly):
    """A chain in which nodes run on the loop and on a thread, or on the thread alone.

    Attributes:
        kernel: The kernel whose coroutine is awaited now.
        kernel_first: The index of its first node.
        only_kernel: The kernel for one item, if all nodes are on the loop.
        done: How many items of the last chunk were taken, the one that failed among them.
        has_neighbours: Whether it is one of several stages, and takes several items from place to place.
    """

    def __init__(
        self, graph: Graph, neighbour: Members | None = None, thread: NodeThread | None = None
    ) -> None:
        """Claim the nodes."""
        super().__init__(graph, neighbour, thread)
        self._parts: list[Part] = []
        # What the parts pass their items to.
        self._called = self.called
        self._part: Part | None = None
        self._is_on_thread = False
        self.has_neighbours = False
        self.only_kernel: Kernel | None = None
        self.kernel: Kernel | None = None
        self.kernel_first = self.first
        self.done = 0

    def divide(self) -> None:
        """Compile the parts of the chain."""
        self._called = self.called
        if self.metrics is not None:
            self._called = measured(self.called, self.on_thread, self.metrics)
            self._parts = self.known.divided(self._called)
        else:
            self._parts = self.known.parts(self.called, are_changed=self.has_run_code)
        is_one = len(self._parts) == 1
        self._is_on_thread = is_one and self._parts[0].on_thread
        self.only_kernel = self._parts[0].kernel if is_one and not self._is_on_thread else None

    def thread_index(self) -> int:
        """Return the index of the node that the thread calls now."""
        frame = None if self.thread is None else sys._current_frames().get(self.thread.ident)  # noqa: SLF001 - The documented way.
        part = self._part
        while frame is not None and part is not None and part.kernel is not None:
            if frame.f_code is part.kernel.source.code:
                return max(0, part.kernel.source.node_of_line[frame.f_lineno]) + part.first
            frame = frame.f_back
        return self.node

    @property
    def takes_chunks(self) -> bool:
        """Whether the thread takes several items in one call."""
        return len(self._parts) == 1 and self._parts[0].kernel is not None

    @property
    def is_divided(self) -> bool:
        """Whether there are several places, each of which takes all items that are there."""
        return self.has_neighbours or self.thread is not None

    async def take_chunk(self, items: Sequence[Any], first: int, outputs: Outputs) -> BaseException | None:
        """Pass items through the thread, as far as none fails; `done` counts them. Returns the failure."""
        part = self._part = self._parts[0]
        kernel = part.kernel
        left = [*items]
        self.done = 0
        while kernel is not None and left:
            if not _are_plain(left):
                return await self._take_lazy_items(left, first, outputs)
            try:
                job = await self.begin(functools.partial(_take_chunk, kernel, left))
            except BaseException:
                # What has not begun does not begin.
                left.clear()
                raise
            made, taken, error = job.take_value()
            outputs.extend(made)
            self.done += taken
            if error is None:
                return None
            entry = Entry(first + self.done - 1, None)
            entry.failure = error
            del error, job
            await self._explain(entry, part)
            if entry.failure is not None:
                return entry.failure
            outputs.extend(entry.values if entry.is_through else ())
            del left[:taken]
        return None

    async def call_thread(self, call: LoopCall, item: Any) -> Any:
        """Pass one item through the thread, as `take_chunk`, and return the output or `None`."""
        part = self._part = self._parts[0]
        if part.kernel is None or not _are_plain((item,)):
            outputs: list[Any] = []
            failure = await self.take_chunk([item], call.first, outputs)
        else:
            job = await self.begin(functools.partial(_call_kernel, part.kernel.function, item))
            outputs = job.take_value() or []
            entry = Entry(call.first, None)
            entry.failure, job.error = job.error, None
            failure = None
            if entry.failure is not None:
                await self._explain(entry, part)
                outputs, failure = entry.values if entry.is_through else [], entry.failure
                entry.failure = None
        try:
            if failure is not None:
                throw(failure)
        finally:
            del failure
        return shape([output for output in outputs if output is not None])

    async def _take_lazy_items(self, items: list[Any], first: int, outputs: Outputs) -> BaseException | None:
        for entry in await self.take_entries(items, first + self.done):
            self.done += 1
            outputs.extend(entry.values)
            if entry.failure is not None:
                return entry.failure
        return None

    async def take_entries(self, items: Sequence[Any], first: int) -> list[Entry]:
        """Pass items through all parts; return what has become of each."""
        entries = [Entry(first + offset, item) for offset, item in enumerate(items)]
        await self.pass_entries(entries)
        return entries

    async def pass_entries(self, entries: list[Entry]) -> None:
        """Pass items through all parts."""
        try:
            for part in self._parts:
                self._part = part
                if part.on_thread:
                    await self._take_on_thread(part, entries)
                else:
                    await self._take_on_loop(part, entries)
        except BaseException:
            begun = [*entries]
            # What has not begun does not begin.
            entries.clear()
            if self.job is not None and not self.job.is_done:
                self.job.when_done(functools.partial(discard, begun))
            else:
                discard(begun)
            raise

    async def _take_on_loop(self, part: Part, entries: list[Entry]) -> None:
        turns = Turns() if len(entries) >= BREATHING_SPACE else None
        for position, entry in enumerate(entries, 1):
            if turns is not None and not position % BREATHING_SPACE:
                await turns.give()
            if entry.failure is not None or entry.is_through or not entry.values:
                continue
            (value,) = entry.values
            entry.values = []
            if part.kernel is None:
                await self._finish(entry, part.first, value)
                continue
            try:
                self.kernel, self.kernel_first = part.kernel, part.first
                self.coroutine = part.kernel.function(value)
                result = await self.coroutine
                entry.values = [] if result is None else [result]
            except Exception as error:  # noqa: BLE001 - Raised by the caller, for its item.
                entry.failure = original_error(error)
            finally:
                self.coroutine = self.kernel = None
            if entry.failure is not None:
                await self._explain(entry, part)

    async def end_entry(self, entry: Entry, error: BaseException | None) -> None:
        """Continue with an item after what `only_kernel` has raised for it."""
        if error is None:
            return
        if not isinstance(error, Exception):
            try:
                throw(error)
            finally:
                del error
        entry.failure = original_error(error)
        del error
        await self._explain(entry, self._parts[0])

    async def _take_on_thread(self, part: Part, entries: list[Entry]) -> None:
        await self.end_entries(await self.begin(functools.partial(self._work, part, entries)))

    @property
    def crosses_at_once(self) -> bool:
        """Whether the thread, which runs, calls all nodes."""
        return self._is_on_thread and self.thread is not None and self.thread.is_running

    def begin_entries(self, entries: list[Entry]) -> Job:
        """Begin to pass items through the thread, if `crosses_at_once`, and wait briefly for it.

        `end_entries` follows.
        """
        part = self._part = self._parts[0]
        job = self.start(functools.partial(self._work, part, entries))
        if self.thread is not None:
            self.thread.wait_briefly(job)
        return job

    async def end_entries(self, job: Job) -> None:
        """Continue with the items that the thread could not pass through its nodes."""
        if job.error is not None:
            error, job.error = job.error, None
            try:
                throw(error)
            finally:
                del error
        for entry in job.take_value():
            await self._explain(entry, self._part)

    def _work(self, part: Part, entries: list[Entry]) -> list[Entry]:
        """Pass items through nodes on the thread; return those that failed."""
        failed: list[Entry] = []
        kernel = part.kernel
        plain: type | None = None
        # The list is emptied to stop.
        for entry in entries:
            if entry.failure is not None or entry.is_through or not entry.values:
                continue
            (value,), entry.values = entry.values, []
            # Most items are of one type, which is checked once.
            if type(value) is not plain and not is_lazy(value):
                plain = type(value)
            try:
                if kernel is None or type(value) is not plain:
                    result = self._call_nodes(part, value)
                    if result is not None:
                        entry.values.append(result)
                else:
                    kernel.function(iter((value,)), entry.values)
                    if entry.values and entry.values[0] is None:
                        entry.values = []
            except Exception as error:  # noqa: BLE001 - Raised on the loop, for its item.
                entry.failure, entry.node = error, self.node
                failed.append(entry)
        return failed

    def _call_nodes(self, part: Part, item: Any) -> Any:
        """Call the nodes of a part one by one."""
        node = part.first
        while node < len(self.nodes) and self.on_thread[node]:
            self.node = node
            item = self._called[node].process(item)
            if item is None:
                return None
            if is_lazy(item):
                raise LazyResultError(item)
            node += 1
        return item

    async def _explain(self, entry: Entry, part: Part | None) -> None:
        """Find the node of an error, or continue after a result that is a generator or coroutine."""
        error, entry.failure = entry.failure, None
        try:
            if error is None:
                return
            node = self.node if entry.node is None else entry.node
            if part is not None and part.kernel is not None:
                found = find(error, part.kernel)
                node = found.node + part.first if found.in_progress.work or found.node >= 0 else node
            if isinstance(error, LazyResultError):
                await self._follow(entry, node, *error.args)
            else:
                entry.values, entry.is_through = [], True
                await self.handle(node, "process", entry.index, error)
        except Exception as failure:  # noqa: BLE001 - Raised by the caller, for its item.
            # Its traceback refers to this frame, which refers to the entry.
            set_traceback(failure, None)
            entry.failure = failure
        finally:
            del error

    async def _finish(self, entry: Entry, node: int, value: Any) -> None:
        """Pass an item through the rest of the chain, node by node."""
        entry.values = []
        await self._through(entry, self.pass_on(node, value, entry.index, entry.values))

    async def _follow(self, entry: Entry, node: int, result: Any, took: int = 0) -> None:
        """Pass the lazy result of a node, which took some nanoseconds, through the rest of the chain."""
        entry.values = []
        await self._through(entry, self.follow(node, "process", result, entry.index, entry.values, took))

    async def _through(self, entry: Entry, work: Coroutine[Any, Any, None]) -> None:
        entry.is_through = True
        try:
            await work
        except Exception as error:  # noqa: BLE001 - Raised by the caller, for its item.
            entry.failure = error


def discard(entries: list[Entry]) -> None:
    """Forget items that are not needed."""
    for entry in entries:
        if entry.failure is not None:
            close_unused(entry.failure)


def _call_kernel(function: Callable[..., Any], item: Any) -> list[Any]:
    """Pass one item through a kernel; return the outputs."""
    outputs: list[Any] = []
    function(iter((item,)), outputs)
    return outputs


def _take_chunk(kernel: Kernel, items: list[Any]) -> tuple[list[Any], int, BaseException | None]:
    """Pass items through a kernel; return the outputs, how many items were taken, and the failure."""
    left: Any = iter(items)
    count = len(items)
    outputs: list[Any] = []
    failure = None
    try:
        kernel.function(left, outputs)
    except BaseException as error:  # noqa: BLE001 - Raised on the loop, with its node.
        failure = error
    if kernel.source.leaves_none:
        outputs = [output for output in outputs if output is not None]
    try:
        return outputs, count - left.__length_hint__(), failure
    finally:
        del failure


def _are_plain(items: Sequence[Any]) -> bool:
    """Whether no item is itself a coroutine or generator."""
    kinds = set(map(type, items))
    return not any(hasattr(kind, name) for kind in kinds for name in ("__await__", "__anext__", "__next__"))
