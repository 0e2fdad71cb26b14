"""Tasks that wait for more work, of which a callback of the loop can do the first step."""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio.tasks import _enter_task, _leave_task
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator

    from remotemedia._loop.sessions.streams.chunks import Chunk

__all__ = ["IdleTask"]


class IdleTask:
    """A task that waits for another chunk.

    Attributes:
        chunk: Receives the chunk; `None` for work that has begun, or at the end of the stream.
        task: The task.
        variables: A copy of its context, which nodes may have changed.
    """

    __slots__ = ("_begun", "_context", "chunk", "task", "variables")

    def __init__(self, context: contextvars.Context) -> None:
        """Let the current task wait, which runs in this context."""
        self.chunk: asyncio.Future[Chunk | None] = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task runs")
        self.task: asyncio.Task[Any] = task
        self.variables = contextvars.copy_context()
        self._context = context
        # Work that has suspended, and what it waits for.
        self._begun: tuple[Coroutine[Any, Any, None], Any] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> bool | None:
        """Do the first step of some work as the task would. Called where no task runs.

        Often nothing is left. Otherwise the task is woken for the `rest`.

        Returns:
            Whether the work is done; `None` if it could not begin.
        """
        task = self.task
        loop = task.get_loop()
        try:
            _enter_task(loop, task)
        except RuntimeError:
            # Another task runs.
            return None
        try:
            awaited = self._context.run(work.send, None)
        except StopIteration:
            self.variables = self._context.copy()
            return True
        except asyncio.CancelledError:
            # The task was cancelled by what it did, and ends.
            if not task.cancelling():
                raise
            return True
        finally:
            _leave_task(loop, task)
        self._begun = work, awaited
        if not self.chunk.done():
            self.chunk.set_result(None)
        return False

    @property
    def has_begun(self) -> bool:
        """Whether some work has begun, and is not done."""
        return self._begun is not None

    def rest(self, error: BaseException | None) -> Awaitable[None]:
        """Return the rest of the work that has begun; the task awaits it.

        Args:
            error: What was raised in the task before it went on.
        """
        if self._begun is None:
            raise RuntimeError("no work has begun")
        return _resume(*self._begun, error)


@types.coroutine
def _resume(
    work: Coroutine[Any, Any, None], awaited: Any, error: BaseException | None
) -> Generator[Any, Any, None]:
    """Do the rest of some work, which awaits something, as `yield from` would."""
    if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(awaited) and awaited.cancel():
        # A task passes a cancellation to what it awaits.
        error = None
    while True:
        sent = None
        if error is None:
            try:
                sent = yield awaited
            except BaseException as raised:  # noqa: BLE001 - For the work.
                error = raised
        try:
            if error is None:
                awaited = work.send(sent)
            elif isinstance(error, GeneratorExit):
                work.close()
                raise error
            else:
                thrown, error = error, None
                awaited = work.throw(thrown)
                del thrown
        except StopIteration:
            return
