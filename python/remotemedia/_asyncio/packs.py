"""Items of a coroutine function that come together, and are in progress at the same time in a few tasks."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from remotemedia._asyncio import futures
from remotemedia._graph.node_kinds import return_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from remotemedia._asyncio.bridge import Bridge

    Process = Callable[[Any], Coroutine[Any, Any, Any]]

__all__ = ["Packs"]

_VALUES = frozenset([bool, bytes, dict, float, int, list, str, tuple, type(None)])
"""What most items are, and is not awaited."""


class Client(Protocol):
    """Who is notified of the items of a pack, on the loop."""

    def begin(self, place: int) -> None:
        """Note that an item is about to begin."""

    def done(self, place: int, value: Any, failure: BaseException | None) -> None:
        """Take the result of an item, or its failure."""


class Packs:
    """The packs of one coroutine function.

    A task takes one item after the other, and the next task begins when it suspends. Each item is in a
    context of its own: a task whose item has set a variable takes no other one.

    Args:
        bridge: The loop.
        process: The coroutine function.
        limit: How many items may be in progress at once.
    """

    def __init__(self, bridge: Bridge, process: Process, limit: int) -> None:
        self._bridge = bridge
        self._process = process
        self._limit = limit
        # Items from other threads, on their way to the loop.
        self._arrived: deque[_Item] = deque()
        self._waiting: deque[_Item] = deque()
        self._running: dict[_Item, asyncio.Task[None]] = {}
        self._cancelled: set[_Item] = set()
        # Tasks, and whether one of them has not begun.
        self._tasks = 0
        self._is_next_due = False

    def start(self, items: Iterable[Any], client: Client, context: contextvars.Context | None) -> _Pack:
        """Start with items of one caller, without blocking. May be called from any thread."""
        own_context = contextvars.copy_context() if context is None else context
        pack = _Pack(self, client, own_context)
        # Before the loop knows: it may be gone.
        self._bridge.packs.add(self)
        self._arrived.extend(_Item(pack, place, item) for place, item in enumerate(items))
        self._bridge.on_loop(self._begin)
        return pack

    def cancel(self, is_meant: Callable[[_Item], bool] = lambda _: True) -> None:
        """Cancel items. Called on the loop."""
        self._take_arrived()
        for item, task in self._running.items():
            if is_meant(item):
                self._cancelled.add(item)
                futures.cancel(task)
        for item in [*self._waiting]:
            if is_meant(item):
                self._waiting.remove(item)
                self._report(item, None, asyncio.CancelledError())

    def release(self) -> None:
        """The loop no longer runs: all items that are not done are cancelled."""
        self._take_arrived()
        left = [*self._running, *self._waiting]
        self._running.clear()
        self._waiting.clear()
        for item in left:
            self._report(item, None, asyncio.CancelledError())

    def _begin(self) -> None:
        """Begin with what waits, if a task more may run."""
        self._take_arrived()
        if self._bridge.is_cancelled:
            self.cancel()
        if self._waiting and not self._is_next_due and self._tasks < self._limit:
            self._is_next_due = True
            self._tasks += 1
            pack = self._waiting[0].pack
            task = self._bridge.begin(self._run(pack), pack.context.copy())
            task.add_done_callback(self._end)

    def _take_arrived(self) -> None:
        while self._arrived:
            self._waiting.append(self._arrived.popleft())

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks -= 1
        if task.cancelled():
            # It has not begun.
            self._is_next_due = False
            self.cancel()
        if self._waiting:
            self._begin()
        elif not self._tasks:
            self._bridge.packs.discard(self)

    async def _run(self, pack: _Pack) -> None:
        self._is_next_due = False
        task = asyncio.current_task()
        before = contextvars.copy_context()
        waiting, running, client = self._waiting, self._running, pack.client
        while waiting and waiting[0].pack is pack and task is not None:
            item = waiting.popleft()
            if waiting and not self._is_next_due:
                self._begin()
            running[item] = task
            client.begin(item.place)
            value, failure = None, None
            try:
                value = await self._process(item.data)
                if type(value) not in _VALUES:
                    while return_kind(value) == "coroutine":
                        value = await value
            except BaseException as error:  # noqa: BLE001 - Some of them would stop the event loop.
                failure = self._bridge.reported(error)
            if running.pop(item, None) is None:
                # It was released.
                return
            self._report(item, value, failure)
            # What it refers to is not kept until the next item is done.
            del value, failure
            if task.cancelling() and not self._uncancel(item, task):
                # Somebody else has cancelled the task.
                self.cancel()
                return
            if contextvars.copy_context() != before:
                return

    def _uncancel(self, item: _Item, task: asyncio.Task[None]) -> bool:
        if item not in self._cancelled:
            return False
        self._cancelled.remove(item)
        while task.cancelling():
            task.uncancel()
        return True

    def _report(self, item: _Item, value: Any, failure: BaseException | None) -> None:
        if futures.leave_fork is not None:
            futures.leave_fork(failure)
        item.pack.client.done(item.place, value, failure)


class _Pack(NamedTuple):
    packs: Packs
    client: Client
    context: contextvars.Context

    def cancel_between(self, start: int, end: int) -> None:
        """Cancel the items in these places. May be called from any thread."""

        def is_meant(item: _Item) -> bool:
            return item.pack is self and start <= item.place < end

        self.packs._bridge.on_loop(lambda: self.packs.cancel(is_meant))  # noqa: SLF001 - Of this module.


class _Item:
    __slots__ = ("data", "pack", "place")

    def __init__(self, pack: _Pack, place: int, data: Any) -> None:
        self.pack = pack
        self.place = place
        self.data = data
