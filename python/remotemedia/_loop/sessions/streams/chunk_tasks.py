"""A stream whose chunks are passed on in tasks."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._loop.sessions.streams.idle_tasks import IdleTask
from remotemedia._loop.sessions.streams.queues import close_task
from remotemedia._loop.sessions.streams.stream import Stream

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Coroutine

    from remotemedia._loop.sessions.entrance import Entrance
    from remotemedia._loop.sessions.streams.chunks import Chunk

__all__ = ["ChunkTasks"]


class ChunkTasks(Stream):
    """Passes each chunk on in a task of its own, or in one that has become idle."""

    def __init__(self, entrance: Entrance, capacity: int, *, counts_own_items: bool = False) -> None:
        """Start without tasks."""
        super().__init__(entrance, capacity, counts_own_items=counts_own_items)
        # The tasks, each with its first chunk.
        self._tasks: dict[asyncio.Task[None], Chunk] = {}
        self._idle: list[IdleTask] = []
        self._under_way: set[Chunk] = set()

    @abstractmethod
    async def _pass(self, chunk: Chunk) -> None:
        """Pass a chunk through the stages."""

    @abstractmethod
    def _end_chunk(self, chunk: Chunk) -> None:
        """Forget a chunk, wherever it is."""

    def _go_on(self, chunk: Chunk) -> None:
        """Pass a chunk through the stages in a task."""
        idle = self._idle_task(chunk)
        if idle is not None:
            chunk.task = idle.task
            idle.chunk.set_result(chunk)
        else:
            context = chunk.context.copy()
            self._start_task(chunk, self._pass_all(chunk, context), context)

    def _idle_task(self, chunk: Chunk) -> IdleTask | None:
        """Remove and return an idle task with the variables of a chunk."""
        idle = self._idle[-1] if self._idle else None
        if idle is None or idle.chunk.done() or idle.variables != chunk.context:
            return None
        return self._idle.pop()

    def _go_on_at_once(self, chunk: Chunk) -> bool:
        """Pass on the only chunk in progress, without a turn of the loop; return whether that has begun."""
        idle = self._idle_task(chunk) if len(self._under_way) == 1 else None
        if idle is None:
            return False
        chunk.task = idle.task
        work = self._pass(chunk)
        is_done = idle.begin(work)
        if is_done is None:
            work.close()
        if is_done is not False:
            self._idle.append(idle)
        return is_done is not None

    def _start_task(
        self, chunk: Chunk, work: Coroutine[Any, Any, None], context: contextvars.Context
    ) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._note_task(task, chunk)

    def _note_task(self, task: asyncio.Task[None], chunk: Chunk) -> None:
        chunk.task = task
        self._tasks[task] = chunk
        self._entrance.tasks.add(task)
        task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._entrance.tasks.discard(task)
        first = self._tasks.pop(task)
        if first in self._under_way:
            # It was cancelled before it began.
            self._end_chunk(first)

    async def _pass_all(self, chunk: Chunk, context: contextvars.Context) -> None:
        """Pass a chunk, and others for which the context is the right one, until the end of the stream."""
        work: Awaitable[None] | None = self._pass(chunk)
        while work is not None:
            await work
            if not self.is_active:
                return
            work = await self._next_work(IdleTask(context))

    async def _next_work(self, idle: IdleTask) -> Awaitable[None] | None:
        """Wait for a chunk; return the work on it, or `None` at the end of the stream."""
        self._idle.append(idle)
        try:
            chunk = await idle.chunk
        except BaseException as error:
            if idle in self._idle:
                self._idle.remove(idle)
            elif idle.has_begun:
                return idle.rest(error)
            elif not idle.chunk.cancelled() and (given := idle.chunk.result()) is not None:
                # The task was cancelled before it went on.
                self._end_chunk(given)
            # A cancelled task refers to this frame.
            del idle
            raise
        if idle.has_begun:
            return idle.rest(None)
        return None if chunk is None else self._pass(chunk)

    def _end_idle_tasks(self) -> None:
        idle, self._idle = self._idle, []
        for waiting in idle:
            if not waiting.chunk.done():
                waiting.chunk.set_result(None)

    @property
    def is_active(self) -> bool:
        """Whether items are on their way, or may come."""
        return super().is_active or bool(self._under_way)

    def cancel(self) -> None:
        """Stop the tasks."""
        super().cancel()
        for task in [*self._tasks]:
            task.cancel()

    def close_task(self) -> None:
        """End the tasks where the event loop no longer runs."""
        super().close_task()
        for task in [*self._tasks]:
            close_task(task)

    async def wait_for_end(self) -> None:
        """Wait until the tasks have ended."""
        await super().wait_for_end()
        tasks = self._tasks.keys() - {asyncio.current_task()}
        if tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
