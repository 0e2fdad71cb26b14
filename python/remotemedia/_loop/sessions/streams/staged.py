"""A stream of inputs through several stages, which work at the same time."""

from __future__ import annotations

import contextvars
import functools
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._core import Callers
from remotemedia._loop.sessions.streams.chunk_tasks import ChunkTasks
from remotemedia._loop.sessions.streams.chunks import Chunk, failed, is_item, outputs_of, through
from remotemedia._loop.sessions.streams.queues import Failed
from remotemedia._loop.stages.beside import discard
from remotemedia._loop.turns import CROSSING_SECS, next_size
from remotemedia.exceptions import SessionInterruptedError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remotemedia._compiled.kernels import Kernel
    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.chain import Chain
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["StagedStream"]


class StagedStream(ChunkTasks):
    """Passes each chunk of inputs through the stages in a task of its own, or in one that has become idle.

    The entrances of the stages keep the order of the chunks. Where the thread of the first stage is free, it
    works before a task goes on.
    """

    def __init__(self, chain: Chain, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        entrances = chain.entrances
        # Each stage can work on an item.
        super().__init__(entrances[0], capacity + len(entrances) - 1, counts_own_items=counts_own_items)
        self._entrances = entrances
        self._in_progress = 0
        self._generation = 0
        self._newest: Chunk | None = None
        # The one that the thread of the first stage works on.
        self._crossing: Chunk | None = None

    @property
    def has_room(self) -> bool:
        """Whether another chunk may begin."""
        free = self._free
        # The next chunk is not cut short by those that are in progress.
        return free > 0 and (not self._in_progress or free >= self._largest)

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
        newest, own = self._newest, context or contextvars.copy_context()
        waits = newest is not None and newest.is_waiting
        may_join = newest is not None and waits and context is None and self._takes(newest, len(items))
        if newest is not None and may_join and newest.context == own:
            # The stage is not free yet: what waits for it with the same variables crosses together.
            newest.add(items)
            return
        chunk = self._newest = Chunk(items, self._generation, own)
        chunk.is_alone = context is not None
        self._under_way.add(chunk)
        if context is not None:
            context.run(Callers().install)
            self._start_task(chunk, self._pass(chunk), context)
        elif waits or not self._cross(chunk):
            self._go_on(chunk)

    def _cross(self, chunk: Chunk) -> bool:
        """Give a chunk to the thread of the first stage; return whether it is free."""
        entrance = self._entrance
        stage = entrance.stage
        if not stage.crosses_at_once:
            return False
        call = entrance.enter_at_once(chunk.count, is_fresh=True, inside=chunk)
        if call is None:
            return False
        chunk.call = call
        self._crossing = chunk
        entrance.is_stream_inside = True
        self._number(chunk, call.first)
        job = chunk.job = stage.begin_entries(chunk.entries)
        # The current task goes on without the call.
        call.detach()
        if job.is_done:
            self._crossing = None
            self._go_on(chunk)
        else:
            job.when_done(functools.partial(self._come_back, chunk))
        return True

    def _come_back(self, chunk: Chunk) -> None:
        """Go on with a chunk that the thread has done."""
        self._crossing = None
        if chunk.is_cancelled:
            self._end_chunk(chunk)
        elif not self._go_on_at_once(chunk):
            self._go_on(chunk)

    def _leave_first(self, chunk: Chunk) -> None:
        """Leave the first stage, which the chunk has entered without a task."""
        call, chunk.call = chunk.call, None
        if call is not None:
            self._entrance.is_stream_inside = False
            self._entrance.leave(call)

    def _end_chunk(self, chunk: Chunk) -> None:
        """Forget a chunk, wherever it is."""
        if chunk not in self._under_way:
            return
        self._under_way.remove(chunk)
        if chunk.entries:
            # It was stopped, perhaps among results of the first stage that it was to await.
            discard(chunk.entries)
            chunk.entries.clear()
        # A cancelled task refers to its frames, and these to the chunk.
        chunk.is_waiting, chunk.job, chunk.task = False, None, None
        if chunk.call is not None:
            self._entrance.stop = None
            self._leave_first(chunk)
        chunk.is_over = True
        self._finish_chunk(chunk)
        self.notify()

    def _finish_chunk(self, chunk: Chunk) -> None:
        """Count the items of a chunk as done."""
        if chunk.generation == self._generation:
            self._in_progress -= chunk.count
            self.finished += chunk.count

    def _takes(self, chunk: Chunk, count: int) -> bool:
        """Whether a chunk that waits takes more items."""
        if chunk.is_alone or chunk.generation != self._generation:
            return False
        return chunk.count + count <= self._largest

    async def _pass(self, chunk: Chunk) -> None:
        """Pass a chunk through the stages."""
        entrances = self._entrances[chunk.position :]
        try:
            if self._is_through_first(chunk):
                self._leave_first(chunk)
                chunk.entries = through(chunk.entries)
                entrances = entrances[1:]
            for entrance in entrances:
                if not await self._pass_stage(entrance, chunk) or not chunk.entries:
                    return
            outputs = outputs_of(chunk.entries)
            chunk.entries = []
            self._deliver(chunk, outputs)
        except Exception as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            if not self._entrance.is_closed:
                self._deliver(chunk, [Failed(error)])
        finally:
            if chunk.parent is None and (chunk.count >= self._size or chunk.took > CROSSING_SECS):
                self._size = next_size(self._size, chunk.took, CROSSING_SECS, self._capacity)
            self._end_chunk(chunk)

    def _deliver(self, chunk: Chunk, outputs: list[Any]) -> None:  # noqa: ARG002 - Chunks end in order.
        """Keep the outputs of a chunk."""
        self._keep(outputs)

    def _note_entered(self, entrance: Entrance, chunk: Chunk) -> None:
        """Note that a chunk has entered a stage."""

    def _is_through_first(self, chunk: Chunk) -> bool:
        """Whether nothing is left to do in the first stage, except to leave it."""
        job = chunk.job
        if chunk.call is None or job is None:
            return False
        chunk.took = job.took
        return self._entrance.stop is None and job.error is None and not job.value

    async def _pass_stage(self, entrance: Entrance, chunk: Chunk) -> bool:
        """Pass a chunk through a stage; return whether it goes on, because it was not dropped."""
        stage = entrance.stage
        call, chunk.call = chunk.call, None
        if call is not None and chunk.job is not None:
            work = stage.end_entries(chunk.job)
        else:
            inputs = chunk.count
            call = entrance.enter_at_once(inputs, is_fresh=True, inside=chunk.task)
            call = call or await self._enter(entrance, inputs)
            if call is None:
                return False
            self._note_entered(entrance, chunk)
            if chunk.is_waiting:
                # Others may have joined it.
                stage.core.count_inputs(chunk.count - inputs)
                chunk.is_waiting = False
                if entrance is self._entrance:
                    self._number(chunk, call.first)
            if chunk.generation != self._generation:
                entrance.leave(call)
                entrance.forget(call)
                return False
            if stage.only_kernel is not None and len(chunk.entries) == 1 and is_item(chunk.entries[0]):
                return await self._pass_item(entrance, call, stage.only_kernel, chunk)
            work = self._work_in(entrance, chunk)
        return await self._visit(entrance, call, work, chunk)

    def _work_in(self, entrance: Entrance, chunk: Chunk) -> Coroutine[Any, Any, None]:
        """Return what passes a chunk through the nodes of a stage."""
        return entrance.stage.pass_entries(chunk.entries)

    async def _pass_item(self, entrance: Entrance, call: LoopCall, kernel: Kernel, chunk: Chunk) -> bool:
        """Pass a single item through a stage, as `_pass_stage`, in as few coroutines as possible."""
        stage = entrance.stage
        (entry,) = chunk.entries
        (value,), entry.values = entry.values, []
        failure: BaseException | None = None
        began = time.perf_counter()
        entrance.is_stream_inside = True
        stage.kernel, stage.kernel_first = kernel, stage.first
        stage.coroutine = coroutine = kernel.function(value)
        try:
            output = await coroutine
            if output is not None:
                entry.values.append(output)
        except BaseException as error:  # noqa: BLE001 - Raised by `end_entry`, with its node.
            failure = error
        stage.coroutine = stage.kernel = coroutine = None
        if failure is not None or entrance.stop is not None:
            work = stage.end_entry(entry, failure)
            # Its traceback refers to this frame.
            del failure
            return await self._visit(entrance, call, work, chunk)
        entrance.is_stream_inside = False
        entrance.leave(call)
        chunk.took = max(chunk.took, time.perf_counter() - began)
        if not entry.values:
            chunk.entries = []
        return chunk.generation == self._generation

    async def _visit(
        self, entrance: Entrance, call: LoopCall, work: Coroutine[Any, Any, None], chunk: Chunk
    ) -> bool:
        """Do work on a chunk inside a stage, and leave; return whether it goes on."""
        stage = entrance.stage
        began = time.perf_counter()
        goes_on, failure = await entrance.visit(call, work)
        job = stage.job if stage.crosses_at_once else None
        chunk.took = max(chunk.took, time.perf_counter() - began if job is None else job.took)
        try:
            chunk.entries = through(chunk.entries) if failure is None else [failed(failure)]
        finally:
            del failure
        return goes_on and chunk.generation == self._generation

    async def _enter(self, entrance: Entrance, inputs: int) -> LoopCall | None:
        """Wait for the calls that came before, and enter a stage; return `None` if the items are dropped."""
        try:
            return await entrance.enter(inputs, "map", is_fresh=True)
        except SessionInterruptedError:
            return None

    def _number(self, chunk: Chunk, first: int) -> None:
        """Set the indices of items that enter the first stage."""
        chunk.is_waiting = False
        first = self._taken if self._counts_own_items else first
        self._taken += chunk.count
        for index, entry in enumerate(chunk.entries, first):
            entry.index = index

    async def _take_flush(self) -> None:
        """Flush the stages, each after the last outputs of those before it."""
        if not self.is_ended:
            self.accepted += 1
            self.is_ended = True
        await self._wait_until_through()
        generation = self._generation
        for position, entrance in enumerate(self._entrances):
            if not entrance.stage.has_flush:
                continue
            if self.is_abandoned or not await self._flush_stage(position, entrance, generation):
                break
        self.finished += 1

    async def _wait_until_through(self) -> None:
        """Wait until all chunks have passed the stages."""
        await self.changes.wait_while(lambda: self._in_progress > 0)

    async def _flush_stage(self, position: int, entrance: Entrance, generation: int) -> bool:
        """Flush a stage, and pass its outputs on; return whether to flush the next one."""
        chunk = await self._flushed(entrance, generation)
        return chunk is not None and await self._pass_flushed(position, chunk)

    async def _pass_flushed(self, position: int, chunk: Chunk) -> bool:
        """Pass what a stage has flushed through those behind it; return whether to flush the next one."""
        goes_on = True
        for following in self._entrances[position + 1 :]:
            if not goes_on or not chunk.entries:
                break
            goes_on = await self._pass_stage(following, chunk)
        has_failed = any(entry.failure is not None for entry in chunk.entries)
        if goes_on and chunk.generation == self._generation:
            self._keep(outputs_of(chunk.entries))
            self.notify()
        return goes_on and not has_failed

    async def _flushed(self, entrance: Entrance, generation: int) -> Chunk | None:
        """Return the last outputs of a stage, or `None` if they are dropped."""
        outputs: list[Any] = []
        stage = entrance.stage
        inputs = self._taken if self._counts_own_items else self._entrances[0].stage.inputs
        call = await self._enter(entrance, 0)
        if call is None:
            return None
        flush = stage.flush(outputs, stage.inputs - inputs)
        goes_on, failure = await entrance.visit(call, flush)
        chunk = Chunk(outputs, generation, contextvars.copy_context())
        for entry in chunk.entries:
            entry.index = max(0, inputs - 1)
        if failure is not None:
            chunk.entries.append(failed(failure))
        del failure
        return chunk if goes_on else None

    def drop(self) -> int:
        """Drop inputs, also those in progress, and outputs that were not taken; errors stay."""
        self._generation += 1
        count = super().drop()
        # Their tasks end later.
        self.finished += self._in_progress
        self._in_progress = 0
        return count

    def cancel(self) -> None:
        """Stop the tasks."""
        super().cancel()
        if self._crossing is not None:
            self._crossing.cancel()

    def close_task(self) -> None:
        """End the tasks where the event loop no longer runs."""
        super().close_task()
        if self._crossing is not None:
            with suppress(RuntimeError):
                self._crossing.cancel()
        for chunk in [*self._under_way]:
            # Other tasks cannot be notified.
            if chunk is not self._crossing:
                with suppress(RuntimeError):
                    self._end_chunk(chunk)
