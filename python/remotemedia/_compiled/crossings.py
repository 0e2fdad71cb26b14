"""Stages of async nodes for threads: whole items and chunks cross to the event loop at once.

The nodes are one coroutine, in one task of the loop. The thread that waits for it receives the outputs that
exist when a node suspends for longer, and at the latest a millisecond after the chunk has begun.
"""

from __future__ import annotations

import asyncio
import functools
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._asyncio.question import Question
from remotemedia._compiled.failures import close_all, find, original_error
from remotemedia._compiled.kernels import LazyResultError, build_async

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from types import FrameType

    from remotemedia._asyncio.bridge import Bridge
    from remotemedia._asyncio.futures import Result
    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import AsyncKernels, Connections, Kernel
    from remotemedia._core import ChunkItems

__all__ = ["Chunk", "Crossing", "Crossings", "Item", "awaited_node", "build"]

_HAND_ON_SECS = 0.0005
"""How long outputs wait for others while a node is suspended."""


def build(
    nodes: Sequence[Any], connections: Connections | None = None, ids: Sequence[str] = ()
) -> Crossings | None:
    """Compile a graph of coroutines and async generators, or return `None` if that is not possible.

    The arguments are those of `kernels.build`.
    """
    kernels = build_async(nodes, connections, ids)
    return None if kernels is None or not kernels.are_async() else Crossings(kernels, ids)


class Crossings:
    """A graph of async nodes, for calls from threads."""

    def __init__(self, kernels: AsyncKernels, ids: Sequence[str]) -> None:
        """Store the kernels, which are compiled when they are first used."""
        self._kernels = kernels
        self._ids = ids

    def chunk(self, bridge: Bridge, items: ChunkItems, outputs: list[Any]) -> Chunk:
        """Return a call for these items, which appends the outputs."""
        return Chunk(bridge, self._kernels, self._ids, items, outputs)

    def item(self, bridge: Bridge, item: Any) -> Item:
        """Return a call for one item, if no node has several outputs."""
        kernel = self._kernels.one
        if kernel is None:
            raise ValueError("an item can have several outputs")
        return Item(bridge, kernel, self._ids, item)


class Crossing:
    """A call of a kernel on the event loop of a bridge, for which this thread waits.

    Call `begin`, `wait` until it returns `True`, and `end`. After an error, `cancel` comes before `end`.

    Attributes:
        error: What a node raised.
        found: What was in progress when it did.
        closed: What async generators raised that were closed because of the error, with their nodes.
    """

    def __init__(self, bridge: Bridge, kernel: Kernel, ids: Sequence[str]) -> None:
        """Prepare a call, which begins nothing yet."""
        self.error: BaseException | None = None
        self.found: Found | None = None
        self.closed: list[tuple[int, BaseException]] = []
        self._bridge = bridge
        self._kernel = kernel
        self._ids = ids
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: contextvars.Context | None = None
        self._question = Question(bridge, self._begin, can_be_cancelled=True)

    def begin(self, context: contextvars.Context) -> None:
        """Let the loop begin, in this context."""
        self._context = context
        self._question.ask()

    def wait(self) -> bool:
        """Wait for outputs, or for the end. Returns whether the call has ended."""
        return self._question.wait()

    def cancel(self) -> None:
        """Cancel the call, and wait until it has ended."""
        self._question.cancel()

    def end(self) -> None:
        """Wait no longer."""
        self._question.end()

    def check(self) -> None:
        """Raise what ended the call, if it was not a node: a closed loop, or an early cancellation."""
        self._question.result.take()

    def node(self) -> int:
        """Return the index of the node that is called or awaited now."""
        frame = None if self._coroutine is None else getattr(self._coroutine, "cr_frame", None)
        return 0 if frame is None else max(0, self._kernel.source.node_of_line[frame.f_lineno])

    def node_id(self) -> str:
        """Return the id of this node."""
        return self._ids[self.node()]

    def is_first(self, node_id: str) -> bool:
        """Whether this is the id of the first of its nodes."""
        return self._ids[0] == node_id

    def _begin(self, result: Result) -> asyncio.Task[None] | None:
        if self._context is None:
            raise RuntimeError("the call has no context")
        task = self._bridge.begin(self._run(result), self._context)
        # A task that is cancelled before it starts sets no result.
        task.add_done_callback(functools.partial(_set_cancelled, result))
        return task

    async def _run(self, result: Result) -> None:
        try:
            await self._call()
        except BaseException as failure:  # noqa: BLE001 - Some of them would stop the event loop.
            result.set(None, self._bridge.reported(failure))
        else:
            result.set(None)

    async def _call(self) -> None:
        try:
            await self._work()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - Raised by the engine, with its node.
            await self._note(error)
        finally:
            self._coroutine = None

    async def _work(self) -> None:
        """Run the kernel, and store its coroutine meanwhile."""
        raise NotImplementedError

    async def _note(self, error: BaseException) -> None:
        """Store what a node raised. If the engine does not continue, generators end in their own task."""
        original = original_error(error)
        found = self.found = find(original, self._kernel)
        if type(original) is not LazyResultError:
            self.closed = await close_all(found.opened)
        self.error = self._bridge.reported(original)


class Item(Crossing):
    """A call for one item.

    Attributes:
        output: The output, or `None`.
    """

    def __init__(self, bridge: Bridge, kernel: Kernel, ids: Sequence[str], item: Any) -> None:
        """Prepare the call."""
        super().__init__(bridge, kernel, ids)
        self.output: Any = None
        self._item = item

    async def _work(self) -> None:
        self._coroutine = self._kernel.function(self._item)
        self.output = await self._coroutine


class Chunk(Crossing):
    """A call for several items."""

    def __init__(
        self, bridge: Bridge, kernels: AsyncKernels, ids: Sequence[str], items: ChunkItems, outputs: list[Any]
    ) -> None:
        """Prepare the call."""
        self._is_limited = kernels.has_generators()
        super().__init__(bridge, kernels.limited if self._is_limited else kernels.many, ids)
        self._items = items
        self._outputs = outputs
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None

    def wait(self) -> bool:
        """Wait for outputs, or for the end. The caller has taken all outputs so far."""
        room, self._room = self._room, None
        if room is not None:
            self._bridge.on_loop(functools.partial(_open, room))
        return self._question.wait()

    async def _work(self) -> None:
        room = (_Room(self._items.is_due, self._pause),) if self._is_limited else ()
        self._coroutine = self._kernel.function(self._items, self._outputs, *room)
        try:
            await _watched(self._coroutine, self._note_suspension)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _note_suspension(self) -> None:
        if self._outputs and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_HAND_ON_SECS, self._hand_on)

    def _hand_on(self) -> None:
        self._timer = None
        if self._outputs:
            self._question.result.wake()

    async def _pause(self) -> None:
        """Let other tasks run, and the thread take the outputs."""
        # The thread may take it at any time.
        room = self._room = asyncio.get_running_loop().create_future()
        self._question.result.wake()
        await room
        self._items.renew()


class _Room(NamedTuple):
    """What a kernel asks after each output."""

    is_full: Callable[[], bool]
    wait: Callable[[], Coroutine[Any, Any, None]]


@types.coroutine
def _watched(coroutine: Coroutine[Any, Any, None], note: Any) -> Generator[Any, Any, None]:
    """Await a coroutine, and call `note` whenever it suspends."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            if error is None:
                awaited = coroutine.send(value)
            else:
                raised, error = error, None
                try:
                    awaited = coroutine.throw(raised)
                finally:
                    # Its traceback refers to this frame.
                    del raised
        except StopIteration:
            return
        note()
        try:
            value = yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - Passed on.
            error = thrown


def awaited_node(frame: FrameType | None, first_id: str) -> str | None:
    """Return the id of the node that the thread of a stack waits for in a call that begins at `first_id`."""
    while frame is not None:
        call = frame.f_locals.get("self") if frame.f_code.co_name == "wait" else None
        if isinstance(call, Crossing) and call.is_first(first_id):
            return call.node_id()
        frame = frame.f_back
    return None


def _set_cancelled(result: Result, _task: asyncio.Task[None]) -> None:
    if not result.is_set:
        result.set(None, asyncio.CancelledError())


def _open(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
