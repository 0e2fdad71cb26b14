"""A stream of inputs through stages of which one is a node with `concurrency`."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._core import Callers
from remotemedia._loop.sessions.concurrent import ConcurrentEntrance
from remotemedia._loop.sessions.streams.chunks import Chunk, failed, outputs_of, through
from remotemedia._loop.sessions.streams.queues import Failed
from remotemedia._loop.sessions.streams.staged import StagedStream
from remotemedia._loop.stages.beside import Entry
from remotemedia._loop.stages.concurrent import ConcurrentStage

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.chain import Chain
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["ConcurrentStream"]


class ConcurrentStream(StagedStream):
    """Passes each input through the stages in a task of its own.

    Its outputs wait for those of the inputs that entered the last stage before it, if that keeps the order.
    """

    def __init__(self, chain: Chain, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        entrances = chain.entrances
        concurrent = [entrance for entrance in entrances if isinstance(entrance, ConcurrentEntrance)]
        # The queue is in front of those that are inside.
        inside = sum(entrance.stage.limit for entrance in concurrent)
        super().__init__(chain, capacity + inside, counts_own_items=counts_own_items)
        self._only = concurrent[0] if len(entrances) == 1 else None
        last = entrances[-1].stage
        self._is_ordered = not isinstance(last, ConcurrentStage) or last.is_ordered
        # The chunks that have entered the last stage.
        self._order: deque[Chunk] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another input may begin."""
        return self._free > 0

    @property
    def _room(self) -> int:
        return 1

    async def _take_iterator(self, items: Iterable[Any]) -> None:
        for item in items:
            self.accepted += 1
            self._begin_item(item, contextvars.copy_context())
            if self._free <= 0:
                await self.changes.wait_while(lambda: not self.has_room)
            if self.is_abandoned:
                return
            await self.turns.give()

    def _begin(self, items: list[Any], context: contextvars.Context | None) -> None:
        if context is not None:
            # The caller does not wait for it.
            context.run(Callers().install)
        for item in items:
            self._begin_item(item, context or contextvars.copy_context())

    def _begin_item(self, item: Any, context: contextvars.Context) -> None:
        if self._only is None:
            chunk = Chunk([item], self._generation, context)
            self._begin_chunk(chunk, self._pass(chunk))
        else:
            chunk = Chunk([], self._generation, context)
            chunk.count = 1
            self._begin_chunk(chunk, self._pass_alone(self._only, chunk, item))

    def _begin_chunk(self, chunk: Chunk, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task for a chunk."""
        self._in_progress += 1
        self._under_way.add(chunk)
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            task = loop.create_task(work, context=chunk.context)
        else:
            # Not every task factory accepts a context. A task copies the context in which it is created.
            task = chunk.context.run(loop.create_task, work)
        self._note_task(task, chunk)

    async def _pass_alone(self, entrance: ConcurrentEntrance, chunk: Chunk, item: Any) -> None:
        """Pass an item through the only stage, as `_pass` does."""
        failure: BaseException | None = None
        result: Any = None
        stage = entrance.stage
        try:
            call: LoopCall | None
            if entrance.can_enter and not entrance.admitted:
                # Tasks that begin give each other a turn by themselves.
                call = stage.calls.enter(1)
                # An eager task begins before it is known.
                entrance.inside[call] = chunk.task or asyncio.current_task()  # type: ignore[assignment]
            elif (call := await self._enter(entrance, 1)) is None:
                return
            if chunk.generation != self._generation:
                entrance.leave(call)
                return
            index, self._taken = self._taken, self._taken + 1
            self._note_entered(entrance, chunk)
            entrance.of_streams.add(call)
            try:
                result = stage.process(item)
                if type(result) is CoroutineType:
                    result = await result
            except BaseException as error:  # noqa: BLE001 - Handled below, without another context.
                failure = error
            if failure is None and not entrance.stops and stage.is_plain(result):
                entrance.leave(call)
                chunk.outputs = () if result is None else (result,)
            else:
                entry = Entry(index if self._counts_own_items else call.first, None)
                entry.values, entry.failure, failure = [], failure, None
                await self._end_call(entrance, call, chunk, entry, result)
        except Exception as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            if not entrance.is_closed:
                chunk.outputs = (Failed(error),)
        finally:
            # Its traceback refers to this frame.
            del failure, item
            self._end_chunk(chunk)

    async def _end_call(
        self, entrance: ConcurrentEntrance, call: LoopCall, chunk: Chunk, entry: Entry, result: Any
    ) -> None:
        """Handle a result that is late, a failure, or a stop, and leave."""
        goes_on, failure = await entrance.visit(call, entrance.stage.finish(entry, result))
        if failure is not None:
            entry = failed(failure)
        del failure
        if goes_on and chunk.generation == self._generation:
            chunk.outputs = outputs_of(through([entry]))
        entry.failure = None

    def _note_entered(self, entrance: Entrance, chunk: Chunk) -> None:
        is_last = entrance is self._entrances[-1] and self._is_ordered
        if is_last and chunk.generation == self._generation and chunk in self._under_way:
            chunk.is_in_order = True
            self._order.append(chunk)

    def _deliver(self, chunk: Chunk, outputs: list[Any]) -> None:
        chunk.outputs = outputs

    def _end_chunk(self, chunk: Chunk) -> None:
        """Forget a chunk; keep its outputs, and those that wait for them."""
        if chunk not in self._under_way:
            return
        self._under_way.remove(chunk)
        # A cancelled task refers to its frames, and these to the chunk.
        chunk.task = None
        chunk.entries.clear()
        order = self._order
        if not chunk.is_in_order and chunk.generation == self._generation:
            self._release(chunk)
        while order and order[0] not in self._under_way:
            self._release(order.popleft())
        self.notify()

    def _release(self, chunk: Chunk) -> None:
        outputs, chunk.outputs = chunk.outputs, ()
        if outputs:
            self._keep([*outputs])
        self._in_progress -= chunk.count
        self.finished += chunk.count

    async def _flush_stage(self, position: int, entrance: Entrance, generation: int) -> bool:
        """Flush a stage, and pass its outputs on, several at once; see `StagedStream`."""
        flushed = await self._flushed(entrance, generation)
        if flushed is None:
            return False
        has_failed = False
        for entry in flushed.entries:
            has_failed |= entry.failure is not None
            chunk = Chunk([], generation, contextvars.copy_context())
            chunk.entries, chunk.count = [entry], 1
            chunk.position = position + 1
            chunk.is_waiting = False
            self.accepted += 1
            self._begin_chunk(chunk, self._pass(chunk))
        await self.changes.wait_while(lambda: bool(self._under_way))
        return not has_failed and generation == self._generation

    def drop(self) -> int:
        """Drop inputs, also those in progress, and outputs that were not taken; errors stay."""
        self._order.clear()
        return super().drop()
