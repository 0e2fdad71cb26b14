"""Passes items through a graph with branches, some of whose nodes are called on the thread.

All items that are there cross together: the thread works on each of them until it needs a node on the loop,
then the loop on each until it needs one on the thread. What is left to do of an item is on a stack, so each
item visits the nodes in the order of other runs.
"""

from __future__ import annotations

import functools
from time import perf_counter_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import NO_NODE
from remotemedia._compiled.layout import INPUT
from remotemedia._core import is_lazy
from remotemedia._errors import throw
from remotemedia._exception_chain import set_traceback
from remotemedia._loop.failed_items import resolved
from remotemedia._loop.stages.beside import BREATHING_SPACE, Beside, Entry
from remotemedia._loop.stages.measuring import note_failure
from remotemedia._loop.stages.threads import close_unused
from remotemedia._loop.turns import Turns

if TYPE_CHECKING:
    from remotemedia._loop.gates import Gates
    from remotemedia._loop.stages.singly import Outputs

__all__ = ["Branches"]


class _Work:
    """What is left to do of an item. Either the loop uses it, or the thread.

    Attributes:
        entry: What becomes of the item.
        gates: What has arrived where branches meet.
        items: Nodes and their items, the next one last.
        closed: The nodes behind gates that open when no items are left, the next one last.
        late: A node, a lazy result of it, and how many nanoseconds it took.
        error: A node, and what it raised on the thread.
    """

    __slots__ = ("closed", "entry", "error", "gates", "items", "late")

    def __init__(self, entry: Entry, gates: Gates) -> None:
        self.entry = entry
        self.gates = gates
        self.items: list[tuple[int, Any]] = []
        self.closed: list[int] = []
        self.late: tuple[int, Any, int] | None = None
        self.error: tuple[int, Exception] | None = None

    def is_left(self) -> bool:
        """Whether an item is left, maybe behind a gate that opens."""
        while self.closed and not self.items:
            gate = self.closed.pop()
            self.items += [(gate, item) for item in reversed(self.gates.open(gate, is_flush=False))]
        return bool(self.items)

    def end(self) -> None:
        """Do nothing more."""
        self.items.clear()
        self.closed.clear()

    def discard(self) -> None:
        """Forget what the thread has made, which is not needed."""
        late, self.late = self.late, None
        close_unused(late)
        self.error = None


class Branches(Beside):
    """Nodes on the loop and on a thread, which may be the nodes of a graph with branches."""

    async def pass_on(self, node: int, item: Any, index: int, outputs: Outputs) -> None:
        """Pass an item to a node, and its outputs to those behind it."""
        if self.known.is_chain or not self.on_thread[node]:
            await super().pass_on(node, item, index, outputs)
            return
        work = _Work(Entry(index, None), self.gates)
        work.entry.values = []
        work.items.append((node, item))
        await self._work_off([work])
        outputs.extend(work.entry.values)
        failure, work.entry.failure = work.entry.failure, None
        try:
            if failure is not None:
                throw(failure)
        finally:
            del failure

    async def pass_entries(self, entries: list[Entry]) -> None:
        """Pass items through all nodes."""
        if self.has_neighbours or self.known.is_chain:
            await super().pass_entries(entries)
            return
        own = self.gates
        try:
            works = [self._work_for(entry, own.empty()) for entry in entries]
            await self._work_off(works)
            for entry, work in zip(entries, works, strict=True):
                if entry.failure is None:
                    for output in work.gates.outputs():
                        await self._put_out(output, entry.values)
        finally:
            self.gates = own

    def _work_for(self, entry: Entry, gates: Gates) -> _Work:
        (item,), entry.values = entry.values, []
        work = _Work(entry, gates)
        work.closed += reversed(gates.routes.gates)
        if self.metrics is not None:
            self.metrics.count_in()
        self._share(self.first - 1 if self.first else INPUT, item, work)
        return work

    async def _work_off(self, works: list[_Work]) -> None:
        """Pass items to their nodes, and all that becomes of them to those behind."""
        turns = Turns() if len(works) >= BREATHING_SPACE else None
        left = [*works]
        try:
            while left:
                for position, work in enumerate(left, 1):
                    if turns is not None and not position % BREATHING_SPACE:
                        await turns.give()
                    await self._work_on_loop(work)
                left = [work for work in left if work.is_left()]
                if left:
                    await self.result_of(self.start(functools.partial(self._work_on_thread, left)))
        except BaseException:
            # What has not begun does not begin.
            left.clear()
            if self.is_thread_busy and self.job is not None:
                self.job.when_done(functools.partial(_discard, works))
            else:
                _discard(works)
            raise

    async def _work_on_loop(self, work: _Work) -> None:
        """Work on an item until it needs the thread."""
        self.gates = work.gates
        entry = work.entry
        error, work.error = work.error, None
        late, work.late = work.late, None
        try:
            if error is not None:
                await self.handle(error[0], "process", entry.index, error[1])
            if late is not None:
                await self.follow(late[0], "process", late[1], entry.index, entry.values, late[2])
            while work.is_left() and not self.on_thread[work.items[-1][0]]:
                await self._call_on_loop(work, *work.items.pop())
        except Exception as failure:  # noqa: BLE001 - Raised by the caller, for its item.
            # Its traceback refers to this frame, which refers to the entry.
            set_traceback(failure, None)
            entry.failure = failure
            work.end()
        finally:
            del error

    async def _call_on_loop(self, work: _Work, node: int, item: Any) -> None:
        began = self._begin_call(node, work)
        try:
            result = self.called[node].process(item)
            if type(result) is CoroutineType:
                result = await result
            if is_lazy(result):
                result = await resolved(result)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            self._measure(node, perf_counter_ns() - began, error)
            failure = error
        else:
            took = perf_counter_ns() - began
            if is_lazy(result):
                entry = work.entry
                await self.follow(node, "process", result, entry.index, entry.values, took)
            else:
                self._measure(node, took)
                self._pass_back(node, result, work)
            return
        try:
            await self.handle(node, "process", work.entry.index, failure)
        finally:
            del failure

    def _work_on_thread(self, works: list[_Work]) -> None:
        """Work on items until each needs the loop."""
        # The list is emptied to stop.
        for work in works:
            while work.late is None and work.error is None and work.is_left():
                if not works or not self.on_thread[work.items[-1][0]]:
                    break
                self._call_on_thread(work, *work.items.pop())

    def _call_on_thread(self, work: _Work, node: int, item: Any) -> None:
        began = self._begin_call(node, work)
        try:
            result = self.called[node].process(item)
        except BaseException as error:
            self._measure(node, perf_counter_ns() - began, error)
            if not isinstance(error, Exception):
                raise
            work.error = node, error
            return
        took = perf_counter_ns() - began
        if is_lazy(result):
            work.late = node, result, took
        else:
            self._measure(node, took)
            self._pass_back(node, result, work)

    def _begin_call(self, node: int, work: _Work) -> int:
        """Note that a node receives an item; return the time."""
        self.node = node
        work.gates.enter(node)
        if self.metrics is not None:
            self.metrics.note_item(node)
        return perf_counter_ns()

    def _measure(self, node: int, took: int, error: BaseException | None = None) -> None:
        if self.metrics is not None:
            self.metrics.note_call(node, took)
            if error is not None:
                note_failure(self.metrics, node, error)

    def _pass_back(self, node: int, result: Any, work: _Work) -> None:
        if result is not None:
            self._share(node, result, work)

    def _share(self, node: int, output: Any, work: _Work) -> None:
        """Add an output of a node to the work for those behind it."""
        if self.metrics is not None and node != INPUT:
            self.metrics.note_output(node)
        routes = work.gates.routes
        targets = routes.targets[node]
        for target in reversed(targets):
            if target in routes.gates:
                work.gates.add(target, node, output)
            else:
                work.items.append((target, output))
        if not targets and routes.has_several_ends:
            work.gates.add(NO_NODE, node, output)
        elif not targets:
            work.entry.values.append(output)
            if self.metrics is not None:
                self.metrics.count_out()


def _discard(works: list[_Work]) -> None:
    for work in works:
        work.discard()
