"""A stream of inputs through the nodes of a session on an event loop, and its outputs."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from contextlib import aclosing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from remotemedia._core import Callers
from remotemedia._loop.sessions.changes import Changes
from remotemedia._loop.turns import Turns, next_size
from remotemedia.exceptions import SessionInterruptedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterator
    from typing import Literal

    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.entrance import Entrance

    Overflow = Literal["wait", "keep", "drop"]

__all__ = ["Failed", "Stream", "close_task"]


class Failed:
    """An error in place of the outputs of an input."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Store the error."""
        self.error = error


class Stream:
    """Passes inputs through the nodes in a task of its own, and keeps the outputs until they are taken.

    Attributes:
        outputs: What has not been taken: outputs, and `Failed` for inputs that failed.
        inputs: Items that were put in, each with the context of its caller and the time.
        is_ended: Whether no more items are put in.
        is_complete: Whether all inputs are done, and the nodes were flushed.
        is_cut: Whether outputs are missing, because the session was closed or they were dropped.
        is_abandoned: Whether outputs are no longer taken.
        accepted: The number of inputs so far, the end of input among them.
        finished: The number of inputs that are done.
        changes: Wakes the tasks that wait for the stream.
    """

    def __init__(self, entrance: Entrance, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without inputs."""
        self.outputs: deque[Any] = deque()
        self.inputs: deque[tuple[Any, contextvars.Context, int]] = deque()
        self._waiting: deque[tuple[Any, contextvars.Context, asyncio.Future[bool]]] = deque()
        self.is_ended = False
        self.is_complete = False
        self.is_cut = False
        self.is_abandoned = False
        self.accepted = self.finished = 0
        self.taken_by = 0
        self._entrance = entrance
        self._capacity = capacity
        self._counts_own_items = counts_own_items
        self._overflow: Overflow = "wait"
        self._taken = self._first = 0
        self._size = 1
        self._has_begun = False
        self._iterator: Iterator[Any] = iter(())
        self._task: asyncio.Task[None] | None = None
        self.changes = Changes()

    def notify(self) -> None:
        """Wake the tasks that wait for a change."""
        if self._waiting:
            self._admit()
        self.changes.notify()
        self._entrance.changes.notify()

    @property
    def load(self) -> int:
        """The number of inputs in progress and of waiting outputs."""
        return self.accepted - self.finished + len(self.outputs)

    @property
    def is_ready(self) -> bool:
        """Whether there is an output, or the end."""
        return bool(self.outputs) or self.is_complete or self.is_cut

    @property
    def has_room(self) -> bool:
        """Whether another output may be produced."""
        return self._overflow != "wait" or self.is_abandoned or len(self.outputs) < self._capacity

    def set_overflow(self, overflow: Overflow) -> None:
        """Set what happens to outputs for which there is no room."""
        if overflow != self._overflow:
            self._overflow = overflow
            self.notify()

    # Inputs.

    def put(self, item: Any) -> asyncio.Future[bool] | None:
        """Put an item in; return a future if it waits for room, and whether it came in is its result."""
        context = contextvars.copy_context()
        if self._waiting or self.load >= self._capacity:
            is_in: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append((item, context, is_in))
            return is_in
        self._accept(item, context)
        return None

    def _accept(self, item: Any, context: contextvars.Context) -> None:
        self.accepted += 1
        self.inputs.append((item, context, time.perf_counter_ns()))
        if (metrics := self._entrance.stage.metrics) is not None:
            metrics.note_queue(len(self.inputs))
        if not self._has_begun:
            self._start(self._take_inputs())
        else:
            self.changes.notify()

    def _admit(self) -> None:
        """Accept items that wait, as far as there is room."""
        while self._waiting and (self.load < self._capacity or self._waiting[0][2].done()):
            item, context, is_in = self._waiting.popleft()
            if not is_in.done():
                is_in.set_result(True)
                self._accept(item, context)

    def end(self) -> None:
        """End the input; the nodes are flushed."""
        self.accepted += 1
        self.is_ended = True
        if not self._has_begun:
            self._start(self._take_inputs())
        self.notify()

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
        self._start(self._take_source())

    async def _take_source(self) -> None:
        async with aclosing(self._entrance.stage.source_items()) as items:
            await self._take_async(items)

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
        turns = Turns()
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
            await turns.give()

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
        turns = Turns()
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
            await turns.give()

    async def _take_async(self, items: AsyncIterable[Any]) -> None:
        turns = Turns()
        async for item in items:
            self.accepted += 1
            await self._take([item])
            await self.changes.wait_while(lambda: not self.has_room)
            await turns.give()

    # The nodes.

    async def _take(self, chunk: list[Any]) -> None:
        """Pass items through the nodes; their outputs, or errors, come into the queue."""
        began = time.perf_counter()
        done = 0
        try:
            while done < len(chunk):
                taken = await self._take_some(chunk[done:], done)
                done += taken
                self._taken += taken
        finally:
            self.finished += len(chunk)
        target = self._entrance.stage.chunk_secs
        self._size = next_size(self._size, time.perf_counter() - began, target, self._capacity)
        self.notify()

    async def _take_some(self, chunk: list[Any], done: int) -> int:
        """Pass what is left of a chunk through the nodes, as far as none fails; return how many are done."""
        stage = self._entrance.stage
        if stage.thread is not None and not stage.takes_chunks:
            await self._take_entries(chunk)
            return len(chunk)
        # Where nodes may have any number of outputs, each waits for room.
        room = self._wait_for_room if stage.makes_several else None
        outputs: list[Any] = []
        into = self.outputs if room is not None else outputs

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
        await self._inside(0, lambda call: self._entrance.stage.flush(outputs, self._base(call)), outputs)
        self.finished += 1

    async def _inside(self, inputs: int, work: Callable[[Any], Any], outputs: list[Any]) -> bool:
        """Work inside the nodes, and keep the outputs; return whether all is done, or no longer needed."""
        entrance = self._entrance
        try:
            call = await entrance.enter(inputs, "map")
        except SessionInterruptedError:
            return True
        is_done, has_arrived = True, False
        entrance.is_stream_inside = True
        try:
            await work(call)
        except asyncio.CancelledError as error:
            has_arrived = True
            if entrance.stop is None:
                if is_cancelled():
                    raise
                outputs.append(Failed(error))
                is_done = False
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - Raised by the iteration over the outputs.
            outputs.append(Failed(error))
            is_done = False
        finally:
            entrance.is_stream_inside = False
            entrance.leave(call)
        if entrance.stop is not None:
            if await entrance.take_stop(has_arrived=has_arrived) is None:
                raise asyncio.CancelledError
            return True
        self._keep(outputs)
        return is_done

    def _keep(self, outputs: list[Any]) -> None:
        if self.is_abandoned:
            self.outputs.extend(output for output in outputs if type(output) is Failed)
        elif self._overflow == "drop" and len(self.outputs) + len(outputs) > self._capacity:
            self.cut()
        else:
            self.outputs.extend(outputs)
        # The traceback of an error refers to the frames that hold the list.
        outputs.clear()
        self.notify()

    async def _wait_for_room(self) -> None:
        self.notify()
        if self._overflow == "drop" and len(self.outputs) > self._capacity:
            self.cut()
        if not self.has_room:
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

    # The end.

    def clear_waiting(self) -> list[asyncio.Future[bool]]:
        """Remove the items that wait for room; return what their callers wait for."""
        waiting = [is_in for _, _, is_in in self._waiting if not is_in.done()]
        self._waiting.clear()
        return waiting

    def drop(self) -> int:
        """Drop waiting inputs and outputs that were not taken; errors stay. Return the number of inputs."""
        count = self.accepted - self.finished - self._counts_end()
        self.finished += len(self.inputs)
        self.inputs.clear()
        self._forget_outputs()
        self.notify()
        return count

    def _counts_end(self) -> bool:
        return self.is_ended and not self.is_complete

    def cut(self) -> None:
        """Drop the outputs: the stream ends as one that misses some."""
        self.is_cut = self.is_abandoned = True
        self._forget_outputs()
        self.notify()

    def _forget_outputs(self) -> None:
        failed = [output for output in self.outputs if type(output) is Failed]
        self.outputs.clear()
        self.outputs.extend(failed)

    def take_failure(self) -> BaseException | None:
        """Remove and return the first error that was not raised yet."""
        for output in self.outputs:
            if type(output) is Failed:
                self.outputs.remove(output)
                return output.error
        return None

    async def abandon(self) -> None:
        """Take no more outputs, stop what is in progress, and wait until it has ended."""
        self.drop_all()
        await self.wait_for_end()

    @property
    def is_active(self) -> bool:
        """Whether its task has not ended."""
        return self._task is not None and not self._task.done()

    def cancel(self) -> None:
        """Stop the task, if there is one."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def drop_all(self) -> None:
        """Take no more outputs, and stop what is in progress."""
        self.is_abandoned = True
        self.drop()
        self.cancel()

    def close_task(self) -> None:
        """End the task where the event loop no longer runs."""
        if self._task is not None:
            close_task(self._task)

    async def wait_for_end(self) -> None:
        """Wait until the task has ended."""
        task = self._task
        if task is not None and not task.done() and task is not asyncio.current_task():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])


def is_cancelled() -> bool:
    """Whether the current task is being cancelled; otherwise a node raised the error by itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def close_task(task: asyncio.Task[Any]) -> None:
    """End a task where the event loop no longer runs."""
    coroutine = task.get_coro()
    if not task.done() and coroutine is not None:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - Expected here.
        # Its failures have no caller.
        with suppress(BaseException):
            coroutine.close()
