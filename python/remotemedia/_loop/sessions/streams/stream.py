"""A stream of inputs through the nodes of a session on an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from remotemedia._core import Callers
from remotemedia._loop.sessions.streams.queues import Failed, Queues
from remotemedia._loop.turns import Turns, next_size
from remotemedia.exceptions import SessionInterruptedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterator

    from remotemedia._compiled.kernels import Kernel
    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.entrance import Entrance
    from remotemedia._loop.stages.singly import Outputs, Room

__all__ = ["Stream"]


class Stream(Queues):
    """Passes inputs through the nodes in a task of its own, and keeps the outputs until they are taken.

    Attributes:
        turns: Those of the other tasks of the loop, between chunks.
    """

    def __init__(self, entrance: Entrance, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        super().__init__(entrance, capacity)
        self._counts_own_items = counts_own_items
        self._taken = self._first = 0
        self._size = 1
        self._iterator: Iterator[Any] = iter(())
        self.turns = Turns()

    # Inputs.

    def _begin_inputs(self) -> None:
        self._start(self._take_inputs())

    def feed(self, items: Any) -> None:
        """Take the items of an iterable or async iterable, as there is room for their outputs."""
        if hasattr(type(items), "__aiter__"):
            self._start(self._take_async(items))
        else:
            self._start(self._take_iterator(items))

    def feed_source(self) -> None:
        """Take the items of the source."""
        self.accepted += 1
        self.is_ended = True
        items = self._entrance.stage.source_items()
        self._start(self._take_async(items, items))

    def _base(self, call: LoopCall, done: int = 0) -> int:
        """Return how far the numbers of a call are ahead of the indices in errors.

        Args:
            call: A call of the chunk, or of what is left of it.
            done: How many items of the chunk were taken in earlier calls, the first of which has counted all.
        """
        if not done:
            self._first = call.first
        return call.first - (self._taken if self._counts_own_items else self._first + done)

    def _start(self, work: Any) -> None:
        self._has_begun = True
        self._task = asyncio.get_running_loop().create_task(self._until_end(work))
        # It may be cancelled before it begins with the work.
        self._task.add_done_callback(lambda _: work.close())
        self._entrance.keep(self._task)

    async def _until_end(self, work: Any) -> None:
        failure: BaseException | None = None
        try:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - Raised by the iteration, after the outputs.
                failure = error
            await self._finish(failure)
        finally:
            # A cancelled task refers to the frames that it was in, and these to the items.
            self._task = None
            self.is_cut |= not self.is_complete
            self.notify()
            del failure
            self._end_idle_tasks()

    def _end_idle_tasks(self) -> None:
        """End the other tasks of the stream, which have nothing to do."""

    async def _finish(self, failure: BaseException | None) -> None:
        """Flush the nodes, after all items or what reading them has raised."""
        if not self._entrance.is_closed and not self.is_abandoned:
            await self._take_flush()
            if failure is not None:
                self.outputs.append(Failed(failure))
            self.is_complete = True
        del failure

    def feed_on_demand(self, items: Any) -> None:
        """Take the items of an iterable only in `advance`."""
        self._has_begun = True
        self._iterator = iter(items)

    async def advance(self) -> None:
        """Take a few more items in the current task, for nodes that never suspend."""
        chunk: list[Any] = []
        failure: BaseException | None = None
        try:
            await self.turns.give()
            chunk.extend(islice(self._iterator, self._room))
        except Exception as error:  # noqa: BLE001 - Raised by the iteration, after the outputs.
            failure = error
        try:
            self.accepted += len(chunk)
            if chunk:
                await self._take(chunk)
            if failure is not None or not chunk:
                await self._finish(failure)
        except BaseException:
            self.is_cut = True
            raise
        finally:
            del failure

    async def _take_inputs(self) -> None:
        while True:
            await self.changes.wait_while(
                lambda: not (self.inputs and self.has_room) and not (self.is_ended and not self.inputs)
            )
            if not self.inputs:
                return
            if chunk := self._next_inputs():
                await self._take(chunk)
            else:
                await self._take_in_context(*self._pop())
            await self.turns.give()

    def _next_inputs(self) -> list[Any]:
        """Remove the next inputs whose callers have the same context as the current task."""
        here = contextvars.copy_context()
        chunk: list[Any] = []
        while self.inputs and len(chunk) < self._room:
            if self.inputs[0][1] != here:
                # It is passed alone, see `_take`.
                break
            chunk.append(self._pop()[0])
        return chunk

    def _pop(self) -> tuple[Any, contextvars.Context]:
        """Remove the next input, and return it with the context of its caller."""
        item, context, since = self.inputs.popleft()
        if (metrics := self._entrance.stage.metrics) is not None:
            metrics.note_wait(time.perf_counter_ns() - since)
        return item, context

    @property
    def _room(self) -> int:
        return max(1, min(self._size, self._capacity - len(self.outputs)))

    async def _take_iterator(self, items: Any) -> None:
        iterator: Iterator[Any] = iter(items)
        while True:
            await self.changes.wait_while(lambda: not self.has_room)
            chunk: list[Any] = []
            try:
                chunk.extend(islice(iterator, self._room))
            finally:
                # The outputs of the items before an error come first.
                self.accepted += len(chunk)
                if chunk:
                    await self._take(chunk)
            if not chunk or self.is_abandoned:
                return
            await self.turns.give()

    async def _take_async(
        self, items: AsyncIterable[Any], source: AsyncGenerator[Any, None] | None = None
    ) -> None:
        """Take the items of an async iterable, and close it if it is a source of the session."""
        try:
            async for item in items:
                self.accepted += 1
                await self._take_one(item)
                if not self.has_room:
                    await self.changes.wait_while(lambda: not self.has_room)
                if self.turns.were_given:
                    self.turns.note_given()
                else:
                    await self.turns.give()
        finally:
            if source is not None:
                await source.aclose()

    # The nodes.

    async def _take(self, chunk: list[Any]) -> None:
        """Pass items through the nodes; their outputs, or errors, come into the queue."""
        began = time.perf_counter()
        done = 0
        try:
            while done < len(chunk):
                if done:
                    self.notify()
                taken = await self._take_some(chunk[done:], done)
                done += taken
                self._taken += taken
        finally:
            self.finished += len(chunk)
        target = self._entrance.stage.chunk_secs
        self._size = next_size(self._size, time.perf_counter() - began, target, self._capacity)
        self.notify()

    async def _take_one(self, item: Any) -> None:
        """Pass an item that comes alone through the nodes, in as few coroutines as possible."""
        entrance = self._entrance
        stage = entrance.stage
        kernel = stage.one
        call = None
        if kernel is not None:
            call = entrance.enter_at_once(1, is_fresh=True, inside=self._task)
        if kernel is None or call is None:
            await self._take([item])
            return
        entrance.is_stream_inside = True
        stage.kernel = kernel
        stage.coroutine = coroutine = kernel.function(item)
        failure: BaseException | None = None
        output = None
        try:
            output = await coroutine
        except BaseException as error:  # noqa: BLE001 - Raised by `go_on_one`, with its node.
            failure = error
        del coroutine
        if failure is not None or entrance.stop is not None:
            try:
                await self._finish_one(call, kernel, output, failure)
            finally:
                # Its traceback refers to this frame.
                del failure, output
            return
        entrance.is_stream_inside = False
        entrance.leave(call)
        self._taken += 1
        self.finished += 1
        if output is not None and self._overflow == "wait" and not self.is_abandoned:
            self.outputs.append(output)
        elif output is not None:
            self._keep([output])
        self.notify()

    async def _finish_one(
        self, call: LoopCall, kernel: Kernel, output: Any, error: BaseException | None
    ) -> None:
        """Continue with a single item after what the kernel has raised, or after it was stopped."""
        stage = self._entrance.stage
        outputs = [] if output is None else [output]
        try:
            index = self._taken if self._counts_own_items else call.first
            work = _nothing() if error is None else stage.go_on_one(kernel, error, index, outputs)
            del error
            await self._leave_with(call, work, outputs)
            self._taken += 1
        finally:
            self.finished += 1
        self.notify()

    async def _take_some(self, chunk: list[Any], done: int) -> int:
        """Pass what is left of a chunk through the nodes, as far as none fails; return how many are done."""
        stage = self._entrance.stage
        if stage.is_divided and not stage.takes_chunks:
            await self._take_entries(chunk)
            return len(chunk)
        outputs: list[Any] = []
        into, room = self._room_for(outputs)

        async def take(call: LoopCall) -> None:
            await stage.take(call, chunk, into, room, self._base(call, done))

        if await self._inside(0 if done else len(chunk), take, outputs):
            return len(chunk)
        return stage.done

    async def _take_entries(self, chunk: list[Any]) -> None:
        """Pass items through parts of a chain, each of which takes all of them."""
        outputs: list[Any] = []

        async def take(call: LoopCall) -> None:
            for entry in await self._entrance.stage.take_entries(chunk, call.first - self._base(call)):
                outputs.extend(entry.values)
                if entry.failure is not None:
                    outputs.append(Failed(entry.failure))
                    # The frames around the nodes refer to the entry, see `Stage._run`.
                    entry.failure = None

        await self._inside(len(chunk), take, outputs)

    async def _take_flush(self) -> None:
        """Flush the nodes: the end of input, which is one more input."""
        if not self.is_ended:
            self.accepted += 1
            self.is_ended = True
        outputs: list[Any] = []
        into, room = self._room_for(outputs)
        await self._inside(0, lambda call: self._entrance.stage.flush(into, self._base(call), room), outputs)
        self.finished += 1

    def _room_for(self, outputs: list[Any]) -> tuple[Outputs, Room | None]:
        """Return where outputs go, and what they need room in: each one, if nodes may have any number."""
        return (self.outputs, self) if self._entrance.stage.makes_several else (outputs, None)

    async def _inside(
        self,
        inputs: int,
        work: Callable[[Any], Any],
        outputs: list[Any],
    ) -> bool:
        """Work inside the nodes, and keep the outputs; return whether all is done, or no longer needed.

        Args:
            inputs: The number of inputs.
            work: Receives the call.
            outputs: Those that the work has made.
        """
        entrance = self._entrance
        # The tasks that take items give others a turn by themselves.
        call = entrance.enter_at_once(inputs, is_fresh=True)
        try:
            if call is None:
                call = await entrance.enter(inputs, "map", is_fresh=True)
        except SessionInterruptedError:
            return True
        return await self._leave_with(call, work(call), outputs)

    async def _leave_with(self, call: LoopCall, work: Coroutine[Any, Any, Any], outputs: list[Any]) -> bool:
        """Do the work inside, leave, and keep the outputs, as `_inside`."""
        goes_on, failure = await self._entrance.visit(call, work)
        try:
            if goes_on:
                outputs += () if failure is None else (Failed(failure),)
                self._keep(outputs)
            return failure is None
        finally:
            # Its traceback refers to this frame.
            del failure

    def _keep(self, outputs: list[Any]) -> None:
        if self.is_abandoned:
            self.outputs.extend(output for output in outputs if type(output) is Failed)
        elif self._overflow == "drop" and len(self.outputs) + len(outputs) > self._capacity:
            self.cut()
        else:
            self.outputs.extend(outputs)
        # The traceback of an error refers to the frames that hold the list.
        outputs.clear()

    def is_full(self) -> bool:
        """Return whether the nodes have to wait; called after each output."""
        count = len(self.outputs)
        if count == 1:
            # Readers wait for the first one.
            self.notify()
        if self._overflow == "drop" and count > self._capacity:
            self.cut()
        return count >= self._capacity and not self.has_room

    async def wait(self) -> None:
        """Wait until there is room for another output."""
        self._entrance.is_waiting = True
        try:
            await self.changes.wait_while(lambda: not self.has_room)
        finally:
            self._entrance.is_waiting = False

    async def _take_in_context(self, item: Any, context: contextvars.Context) -> None:
        """Pass an item through the nodes in the context of its caller."""

        async def take() -> None:
            # Its caller does not wait for it.
            Callers().install()
            await self._take([item])

        await asyncio.get_running_loop().create_task(take(), context=context)


async def _nothing() -> None:
    """Do nothing."""
