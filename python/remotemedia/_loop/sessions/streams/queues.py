"""The inputs and outputs of a stream that wait: for the nodes, for room, and for a reader."""

from __future__ import annotations

import asyncio
import contextvars
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._loop.sessions.changes import Changes

if TYPE_CHECKING:
    from typing import Literal

    from remotemedia._loop.sessions.entrance import Entrance

    Overflow = Literal["wait", "keep", "drop"]

__all__ = ["Failed", "Queues", "close_task"]


class Failed:
    """An error in place of the outputs of an input."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Store the error."""
        self.error = error


class Queues(ABC):
    """What has been put into a stream, and what has not been taken out.

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

    def __init__(self, entrance: Entrance, capacity: int) -> None:
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
        self._overflow: Overflow = "wait"
        self._has_begun = False
        self._task: asyncio.Task[None] | None = None
        self.changes = Changes()

    def notify(self) -> None:
        """Wake the tasks that wait for a change."""
        if self._waiting:
            self._admit()
        # Most often nobody waits.
        if self.changes.waiting:
            self.changes.notify()
        if (others := self._entrance.changes).waiting:
            others.notify()

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
            self._begin_inputs()
        else:
            self.changes.notify()

    def _admit(self) -> None:
        """Accept items that wait, as far as there is room."""
        while self._waiting and (self.load < self._capacity or self._waiting[0][2].done()):
            item, context, is_in = self._waiting.popleft()
            if not is_in.done():
                is_in.set_result(True)
                self._accept(item, context)

    @abstractmethod
    def _begin_inputs(self) -> None:
        """Begin to take what is put in."""

    def end(self) -> None:
        """End the input; the nodes are flushed."""
        self.accepted += 1
        self.is_ended = True
        if not self._has_begun:
            self._begin_inputs()
        self.notify()

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
        if self.outputs or (self.accepted and not self.is_complete):
            self._forget_soon()
        self.drop()
        self.cancel()

    def _forget_soon(self) -> None:
        """Let nodes that hold items of this stream drop them."""
        self._entrance.stage.forget_soon()

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


def close_task(task: asyncio.Task[Any]) -> None:
    """End a task where the event loop no longer runs."""
    coroutine = task.get_coro()
    if not task.done() and coroutine is not None:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - Expected here.
        # Its failures have no caller.
        with suppress(BaseException):
            coroutine.close()
