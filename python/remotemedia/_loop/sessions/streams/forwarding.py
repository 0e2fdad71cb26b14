"""A stream through stages of which some may have any number of outputs for an item."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from remotemedia._loop.sessions.streams.chunks import Chunk, failed, outputs_of
from remotemedia._loop.sessions.streams.queues import Failed
from remotemedia._loop.sessions.streams.staged import StagedStream
from remotemedia._loop.stages.beside import Entry

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remotemedia._loop.sessions.chain import Chain
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["ForwardingStream"]


class ForwardingStream(StagedStream):
    """Passes outputs of a node on while it makes more of them: in chunks of their own, the parts of a chunk.

    An input is done when all of its parts are. A node waits while as many of its outputs as there is room
    for are in later stages, or while that many outputs of the stream were not taken.
    """

    def __init__(self, chain: Chain, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        super().__init__(chain, capacity, counts_own_items=counts_own_items)
        self.entrances = self._entrances
        count = len(self.entrances)
        self._makes_several = [entrance.stage.makes_several for entrance in self.entrances]
        # How many outputs of each stage are in later ones, and the part that was begun last.
        self._forwarded = [0] * count
        self._newest_parts: list[Chunk | None] = [None] * count
        # The last item that has failed, in each stage or an earlier one.
        self._failed: list[int | None] = [None] * count

    def has_room_behind(self, position: int) -> bool:
        """Whether a stage may have another output."""
        is_bounded = self._overflow == "wait" and not self.is_abandoned
        if is_bounded and len(self.outputs) >= self._capacity:
            return False
        return self._forwarded[position] < self._capacity

    def has_failed_behind(self, position: int, index: int) -> bool:
        """Whether an item has failed in a later stage, which items reach one after the other."""
        return index in self._failed[position + 1 :]

    def forward(self, position: int, chunk: Chunk, entry: Entry) -> None:
        """Pass an output of a stage on, or an error."""
        if chunk.generation != self._generation:
            return
        if position == len(self.entrances) - 1:
            chunk.has_failed |= entry.failure is not None
            self._keep(outputs_of([entry]))
            if len(self.outputs) == 1:
                # Readers wait for the first one.
                self.notify()
            return
        self._forwarded[position] += 1
        newest = self._newest_parts[position]
        may_join = newest is not None and newest.parent is chunk and newest.count < self._largest_part
        if newest is not None and may_join and newest.is_waiting:
            newest.entries.append(entry)
            newest.count += 1
            return
        part = self._newest_parts[position] = Chunk([], chunk.generation, chunk.context)
        part.entries, part.count = [entry], 1
        part.position, part.parent = position + 1, chunk
        chunk.parts += 1
        self._under_way.add(part)
        self._go_on(part)

    @property
    def _largest_part(self) -> int:
        return max(1, self._capacity // (len(self.entrances) + 1))

    async def _pass_stage(self, entrance: Entrance, chunk: Chunk) -> bool:
        goes_on = await super()._pass_stage(entrance, chunk)
        position = self.entrances.index(entrance)
        if self._makes_several[position] and goes_on:
            # All outputs were passed on. This is what has ended the whole stage.
            for entry in chunk.entries:
                self.forward(position, chunk, entry)
            chunk.entries = []
        for entry in chunk.entries:
            if entry.failure is not None:
                self._failed[position] = entry.index
        return goes_on

    def _note_entered(self, entrance: Entrance, chunk: Chunk) -> None:
        if chunk.parent is not None:
            # What an item has produced after an error is not needed.
            failed_item = self._failed[self.entrances.index(entrance)]
            chunk.entries = [entry for entry in chunk.entries if entry.index != failed_item]

    def _work_in(self, entrance: Entrance, chunk: Chunk) -> Coroutine[Any, Any, None]:
        position = self.entrances.index(entrance)
        if self._makes_several[position]:
            return _Forwarder(self, position, chunk).take()
        return super()._work_in(entrance, chunk)

    def _deliver(self, chunk: Chunk, outputs: list[Any]) -> None:
        chunk.has_failed |= any(type(output) is Failed for output in outputs)
        super()._deliver(chunk, outputs)

    def _finish_chunk(self, chunk: Chunk) -> None:
        """Count a chunk as done, if all of its parts are, and then the one of which it is a part."""
        done: Chunk | None = chunk
        while done is not None and done.is_over and not done.parts:
            parent = done.parent
            if parent is None:
                super()._finish_chunk(done)
            else:
                parent.parts -= 1
                parent.has_failed |= done.has_failed
                self._forwarded[done.position - 1] -= done.count
            done = parent

    async def _wait_until_through(self) -> None:
        await super()._wait_until_through()
        # The last outputs have the index of the last item, which may have failed.
        self._failed = [None] * len(self.entrances)

    async def _flush_stage(self, position: int, entrance: Entrance, generation: int) -> bool:
        if not self._makes_several[position]:
            flushed = await self._flushed(entrance, generation)
            if flushed is None or not await self._pass_flushed(position, flushed):
                return False
            chunk = flushed
        else:
            chunk = Chunk([], generation, contextvars.copy_context())
            call = await self._enter(entrance, 0)
            if call is None:
                return False
            inputs = self._taken if self._counts_own_items else self.entrances[0].stage.inputs
            forwarder = _Forwarder(self, position, chunk)
            flush = forwarder.flush(max(0, inputs - 1), entrance.stage.inputs - inputs)
            goes_on, failure = await entrance.visit(call, flush)
            if failure is not None:
                self.forward(position, chunk, failed(failure))
            del failure
            if not goes_on:
                return False
        await self.changes.wait_while(lambda: chunk.parts > 0)
        return not chunk.has_failed and generation == self._generation

    def _forget_soon(self) -> None:
        for entrance in self.entrances:
            entrance.stage.forget_soon()


class _ItemFailedError(asyncio.CancelledError):
    """Stops the nodes of an item that has failed in a later stage."""


class _Forwarder:
    """The `Room` of a stage whose outputs the next one takes while the nodes go on.

    Attributes:
        outputs: Receives the outputs.
    """

    def __init__(self, stream: ForwardingStream, position: int, chunk: Chunk) -> None:
        """Forward what the stage at a position makes of a chunk."""
        self.outputs: list[Any] = []
        self._stream = stream
        self._position = position
        self._chunk = chunk
        self._index = 0

    async def take(self) -> None:
        """Pass the items of the chunk through the stage."""
        entries, self._chunk.entries = self._chunk.entries, []
        stage = self._stream.entrances[self._position].stage
        for entry in entries:
            if entry.failure is not None:
                self._forward(entry)
                continue
            self._index = entry.index
            await self._do(stage.take_whole(entry.values, entry.index, self.outputs, self))

    async def flush(self, index: int, base: int) -> None:
        """Pass on the last outputs of the nodes; their errors have this index."""
        self._index = index
        await self._do(self._stream.entrances[self._position].stage.flush(self.outputs, base, self))

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        failure: BaseException | None = None
        try:
            await work
        except _ItemFailedError:
            pass
        except Exception as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            failure = error
        if failure is not None:
            self._forward(failed(failure, self._index))
        del failure

    def _forward(self, entry: Entry) -> None:
        self._stream.forward(self._position, self._chunk, entry)

    def is_full(self) -> bool:
        """Return whether the nodes have to wait; called after each output."""
        for output in self.outputs:
            self._forward(Entry(self._index, output))
        self.outputs.clear()
        return self._has_failed() or not self._stream.has_room_behind(self._position)

    async def wait(self) -> None:
        """Wait until there is room for another output.

        Raises:
            _ItemFailedError: If the item has failed in a later stage, so that no more outputs are needed.
        """
        stream = self._stream
        entrance = stream.entrances[self._position]
        entrance.is_waiting = True
        try:
            await stream.changes.wait_while(
                lambda: not (self._has_failed() or stream.has_room_behind(self._position))
            )
        finally:
            entrance.is_waiting = False
        if self._has_failed():
            raise _ItemFailedError

    def _has_failed(self) -> bool:
        return self._stream.has_failed_behind(self._position, self._index)
