"""A node with `concurrency`: up to N items are in its `process` at once."""

from __future__ import annotations

import weakref
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._core import LoopStage
from remotemedia._errors import throw
from remotemedia._exception_chain import set_traceback
from remotemedia._graph.node_kinds import return_kind
from remotemedia._loop.policies import AsyncGuard
from remotemedia._loop.stages.lifecycle import Lifecycle
from remotemedia._loop.stages.stage import Stage

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph
    from remotemedia._graph.policy import Policy
    from remotemedia._loop.stages.beside import Entry
    from remotemedia._loop.stages.members import Members

__all__ = ["ConcurrentStage"]


class ConcurrentStage(Stage):
    """A coroutine node, alone or behind its source, which items enter before others have left.

    As on threads, the lock of the object is held by those that initialize, flush and clean up the node. A
    call only waits until it is free.

    Attributes:
        limit: How many items may be inside.
        is_ordered: Whether items leave in the order in which they entered.
        calls: Begins calls, which hold no lock. It has turns of its own.
        process: Takes an item; returns what the node returns.
        plain: The type of the last result that was no generator or coroutine.
        is_shared: Whether other sessions use the object.
    """

    def __init__(self, graph: Graph, neighbour: Members | None = None) -> None:
        """Claim the node; it is not called yet."""
        super().__init__(graph, neighbour)
        options = graph.entries[-1].options
        self.limit: int = options["concurrency"]
        self.is_ordered: bool = options.get("ordered", True)
        self.calls = LoopStage(graph.name, [], 0, weakref.ref(self), self.core)
        self.plain: type | None = None
        self.process: Any = None
        stage = weakref.ref(self)
        self.is_shared = self.core.listen(lambda: _become_shared(stage))

    @property
    def has_flush(self) -> bool:
        """Whether the node has a method `flush`."""
        return callable(getattr(self.called[self.first], "flush", None))

    def index_at_work(self) -> int:
        """Return the index of the node; several of its items may be in progress."""
        return self.first if self.phase == "process" else self.node

    async def initialize(self) -> None:
        """Initialize the node."""
        await Lifecycle.initialize(self)
        node = self.nodes[self.first]
        policy = self.known.policies[self.first]
        if policy:
            self.called = [*self.called]
            self.called[self.first] = node = _Guards(node, policy)
        self.process = node.process

    async def pass_entries(self, entries: list[Entry]) -> None:
        """Pass items through the node, one after the other: those of other calls are inside, too."""
        for entry in entries:
            if entry.failure is not None or entry.is_through or not entry.values:
                continue
            (value,), entry.values = entry.values, []
            try:
                result = self.process(value)
                if type(result) is CoroutineType:
                    result = await result
            except Exception as error:  # noqa: BLE001 - Raised by the caller, for its item.
                entry.failure = error
                result = None
            await self.finish(entry, result)

    async def finish(self, entry: Entry, result: Any) -> None:
        """Set the values of an item that has a result, or a failure that has no node yet."""
        if entry.failure is not None:
            if not isinstance(entry.failure, Exception):
                throw(entry.failure)
            await self._fail(entry)
        elif self.is_plain(result):
            entry.values = [] if result is None else [result]
        else:
            await self._follow(entry, self.first, result)

    def is_plain(self, result: Any) -> bool:
        """Whether a result is neither a generator nor a coroutine."""
        kind = type(result)
        # Most are of one type, which is checked once.
        if kind is self.plain:
            return True
        if return_kind(result) != "plain":
            return False
        self.plain = kind
        return True

    async def _fail(self, entry: Entry) -> None:
        error, entry.failure = entry.failure, None
        try:
            if error is not None:
                await self.fail(error, entry.index)
        except Exception as failure:  # noqa: BLE001 - As above.
            # Its traceback refers to this frame, which refers to the entry.
            set_traceback(failure, None)
            entry.failure = failure
        finally:
            del error

    async def fail(self, error: BaseException, index: int) -> None:
        """Raise the error for what the node raised, unless its policy takes the item."""
        try:
            await self.handle(self.first, "process", index, error)
        finally:
            del error

    async def clean_up(self) -> list[BaseException]:
        """Clean up the node; return what it raised."""
        guards = self.called[self.first]
        if type(guards) is _Guards:
            guards.stop_timers()
        return await super().clean_up()


class _Guards:
    """Calls a node under its policy, with a guard for each item that is inside.

    Attributes:
        flush: The method of the node, if it has one.
    """

    def __init__(self, node: Any, policy: Policy) -> None:
        """Guard a node on the current event loop."""
        self._node = node
        self._policy = policy
        self.flush = getattr(node, "flush", None)
        self._all: list[AsyncGuard] = []
        self._free: list[AsyncGuard] = []

    async def process(self, item: Any) -> Any:
        """Return what the node makes of an item; see `AsyncGuard`."""
        if not self._free:
            guard = AsyncGuard(self._node, self._policy)
            self._all.append(guard)
            self._free.append(guard)
        guard = self._free.pop()
        try:
            return await guard.process(item)
        finally:
            self._free.append(guard)

    def stop_timers(self) -> None:
        """Stop the timers of the guards, which are not needed any more."""
        for guard in self._all:
            guard.stop_timer()


def _become_shared(stage: weakref.ref[ConcurrentStage]) -> None:
    if (found := stage()) is not None:
        found.is_shared = True
