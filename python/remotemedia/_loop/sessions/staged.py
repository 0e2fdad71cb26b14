"""A stream of inputs through several stages, which work at the same time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._core import Callers
from remotemedia._loop.sessions.queues import Failed, close_task
from remotemedia._loop.sessions.stream import Stream, is_cancelled
from remotemedia._loop.stages.beside import Entry
from remotemedia._loop.turns import CROSSING_SECS, next_size
from remotemedia.exceptions import SessionInterruptedError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine

    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.chain import Chain
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["StagedStream", "outputs_of", "through"]


class _Chunk:
    """Items on their way through the stages.

    Attributes:
        entries: What has become of them.
        count: Their number.
        generation: That of the stream, which changes when items are dropped.
        took: The time in the slowest stage.
    """

    __slots__ = ("count", "entries", "generation", "took")

    def __init__(self, items: list[Any], generation: int) -> None:
        self.entries = [Entry(0, item) for item in items]
        self.count = len(items)
        self.generation = generation
        self.took = 0.0

    def add(self, items: list[Any]) -> None:
        """Add more items."""
        self.entries += [Entry(0, item) for item in items]
        self.count += len(items)


class StagedStream(Stream):
    """Passes each chunk of inputs through the stages in a task of its own.

    The entrances of the stages keep the order of the chunks.
    """

    def __init__(self, chain: Chain, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        entrances = chain.entrances
        # Each stage can work on an item.
        super().__init__(entrances[0], capacity + len(entrances) - 1, counts_own_items=counts_own_items)
        self._entrances = entrances
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_progress = 0
        self._generation = 0
        self._newest: _Chunk | None = None

    @property
    def has_room(self) -> bool:
        """Whether another chunk may begin."""
        free = self._free
        # The next chunk is not cut short by those that are in progress.
        return free >= self._largest if self._in_progress else free > 0

    @property
    def _free(self) -> int:
        """How many more items may be in progress."""
        waiting = len(self.outputs) if self._overflow == "wait" and not self.is_abandoned else 0
        return self._capacity - self._in_progress - waiting

    @property
    def _largest(self) -> int:
        """The size of the next chunk; there is room for several, so that all stages work."""
        return max(1, min(self._size, self._capacity // (len(self._entrances) + 1)))

    @property
    def _room(self) -> int:
        return max(1, min(self._largest, self._free))

    async def _take(self, chunk: list[Any]) -> None:
        self._begin(chunk, None)

    async def _take_one(self, item: Any) -> None:
        self._begin([item], None)

    async def _take_in_context(self, item: Any, context: contextvars.Context) -> None:
        self._begin([item], context)

    def _begin(self, items: list[Any], context: contextvars.Context | None) -> None:
        self._in_progress += len(items)
        newest = self._newest
        if newest is not None and context is None and self._takes(newest, len(items)):
            # The stage is not free yet: what waits for it crosses together.
            newest.add(items)
            return
        chunk = _Chunk(items, self._generation)
        self._newest = chunk if context is None else None
        work = self._pass(chunk)
        loop = asyncio.get_running_loop()
        if context is None:
            task = loop.create_task(work)
        else:
            context.run(Callers().install)
            task = loop.create_task(work, context=context)
        self._tasks.add(task)
        self._entrance.keep(task)

    def _takes(self, chunk: _Chunk, count: int) -> bool:
        """Whether a chunk that waits takes more items."""
        return chunk.generation == self._generation and chunk.count + count <= self._largest

    async def _pass(self, chunk: _Chunk) -> None:
        try:
            for entrance in self._entrances:
                if not await self._pass_stage(entrance, chunk):
                    return
            self._keep(outputs_of(chunk.entries))
        except Exception as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            if not self._entrance.is_closed:
                self._keep([Failed(error)])
        finally:
            if (task := asyncio.current_task()) is not None:
                self._tasks.discard(task)
            chunk.entries.clear()
            if chunk.generation == self._generation:
                self._in_progress -= chunk.count
                self.finished += chunk.count
            self._size = next_size(self._size, chunk.took, CROSSING_SECS, self._capacity)
            self.notify()

    async def _pass_stage(self, entrance: Entrance, chunk: _Chunk) -> bool:
        """Pass a chunk through a stage; return whether it goes on, because it was not dropped."""
        inputs = chunk.count

        async def work(call: LoopCall) -> None:
            if entrance is self._entrances[0]:
                self._number(chunk, call.first)
                entrance.stage.core.count_inputs(chunk.count - inputs)
            began = time.perf_counter()
            if chunk.generation == self._generation:
                await entrance.stage.pass_entries(chunk.entries)
            chunk.took = max(chunk.took, time.perf_counter() - began)

        goes_on, failure = await self._visit(entrance, inputs, work)
        try:
            chunk.entries = through(chunk.entries) if failure is None else [_failed(failure)]
        finally:
            del failure
        return goes_on and chunk.generation == self._generation

    def _number(self, chunk: _Chunk, first: int) -> None:
        """Set the indices of items that enter the first stage. No more items come into the chunk."""
        if chunk is self._newest:
            self._newest = None
        first = self._taken if self._counts_own_items else first
        self._taken += chunk.count
        for index, entry in enumerate(chunk.entries, first):
            entry.index = index

    async def _visit(
        self, entrance: Entrance, inputs: int, work: Callable[[LoopCall], Coroutine[Any, Any, None]]
    ) -> tuple[bool, BaseException | None]:
        """Work inside a stage; return whether the work was not dropped, and how it failed."""
        try:
            call = await entrance.enter(inputs, "map", is_fresh=True)
        except SessionInterruptedError:
            return False, None
        has_arrived = False
        failure: BaseException | None = None
        entrance.is_stream_inside = True
        try:
            await work(call)
        except asyncio.CancelledError as error:
            has_arrived = True
            if entrance.stop is None:
                if is_cancelled():
                    raise
                failure = error
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            failure = error
        finally:
            entrance.is_stream_inside = False
            entrance.leave(call)
        try:
            if entrance.stop is None:
                return True, failure
        finally:
            del failure
        if await entrance.take_stop(has_arrived=has_arrived) is None:
            raise asyncio.CancelledError
        return False, None

    async def _take_flush(self) -> None:
        """Flush the stages, each after the last outputs of those before it."""
        if not self.is_ended:
            self.accepted += 1
            self.is_ended = True
        await self.changes.wait_while(lambda: self._in_progress > 0)
        generation = self._generation
        for position, entrance in enumerate(self._entrances):
            if self.is_abandoned or not await self._flush_stage(position, entrance, generation):
                break
        self.finished += 1

    async def _flush_stage(self, position: int, entrance: Entrance, generation: int) -> bool:
        outputs: list[Any] = []
        stage = entrance.stage
        inputs = self._taken if self._counts_own_items else self._entrances[0].stage.core.inputs
        goes_on, failure = await self._visit(
            entrance, 0, lambda _: stage.flush(outputs, stage.core.inputs - inputs)
        )
        chunk = _Chunk(outputs, generation)
        for entry in chunk.entries:
            entry.index = max(0, inputs - 1)
        if failure is not None:
            chunk.entries.append(_failed(failure))
        del failure
        for following in self._entrances[position + 1 :]:
            if not goes_on or not chunk.entries:
                break
            goes_on = await self._pass_stage(following, chunk)
        has_failed = any(entry.failure is not None for entry in chunk.entries)
        if goes_on and generation == self._generation:
            self._keep(outputs_of(chunk.entries))
            self.notify()
        return goes_on and not has_failed

    # The end.

    def drop(self) -> int:
        """Drop inputs, also those in progress, and outputs that were not taken; errors stay."""
        self._generation += 1
        count = super().drop()
        # Their tasks end later.
        self.finished += self._in_progress
        self._in_progress = 0
        return count

    @property
    def is_active(self) -> bool:
        """Whether its tasks have not ended."""
        return super().is_active or not all(task.done() for task in self._tasks)

    def cancel(self) -> None:
        """Stop the tasks."""
        super().cancel()
        for task in self._tasks:
            task.cancel()

    def close_task(self) -> None:
        """End the tasks where the event loop no longer runs."""
        super().close_task()
        for task in [*self._tasks]:
            close_task(task)

    async def wait_for_end(self) -> None:
        """Wait until the tasks have ended."""
        await super().wait_for_end()
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)


def through(entries: list[Entry]) -> list[Entry]:
    """Return what has left a stage as entries for the next one: one for each value, one for each failure."""
    if all(len(entry.values) == 1 and entry.failure is None for entry in entries):
        for entry in entries:
            entry.is_through = False
        return entries
    found: list[Entry] = []
    failed: int | None = None
    for entry in entries:
        # What an item has produced after an error is not needed.
        if entry.index == failed:
            continue
        found.extend(Entry(entry.index, value) for value in entry.values)
        if entry.failure is not None:
            found.append(_failed(entry.failure, entry.index))
            failed = entry.index
    return found


def outputs_of(entries: list[Entry]) -> list[Any]:
    """Return what has left the last stage: outputs, and `Failed` for items that failed."""
    return [entry.values[0] if entry.failure is None else Failed(entry.failure) for entry in entries]


def _failed(failure: BaseException, index: int = 0) -> Entry:
    entry = Entry(index, None)
    entry.values = []
    entry.failure = failure
    entry.is_through = True
    return entry
