"""Awaits coroutines for a thread that is not the event loop's: the meeting point of the engine and asyncio.

Not `asyncio.run_coroutine_threadsafe`: that one reports a cancelled task at once, while the task may still be
unwinding, and the node would be cleaned up under its feet.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._failures import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Done = Callable[[Any, BaseException | None], object]

__all__ = ["Bridge"]


class Bridge:
    """The event loop of one run, as the run's thread sees it.

    Args:
        loop: The caller's running loop. Without it the bridge runs a loop of its own in a thread until
            `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._thread: threading.Thread | None = None
        if loop is None:
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run_loop, args=(loop,), name="remotemedia-loop", daemon=True
            )
            self._thread.start()
        self._loop = loop
        # What each thread waits for, and what was begun without anyone waiting.
        self._current: dict[int, asyncio.Task[Any]] = {}
        self._started: set[asyncio.Task[Any]] = set()
        self._starting: deque[tuple[Awaitable[Any], Done, float | None]] = deque()
        self._is_cancelled = False

    def wait(self, awaitable: Awaitable[Any], timeout: float | None = None) -> Any:
        """Block this thread until the awaitable has ended; a cancelled run cancels it.

        Raises:
            asyncio.CancelledError: If the run was cancelled.
            CallTimeoutError: If it took longer than `timeout` seconds; it has been cancelled.
        """
        return self._wait(awaitable, can_be_cancelled=True, timeout=timeout)

    def wait_to_the_end(self, awaitable: Awaitable[Any]) -> Any:
        """Block this thread until the awaitable has ended, also when the run is cancelled: clean-up work."""
        return self._wait(awaitable, can_be_cancelled=False, timeout=None)

    def next_of(self, iterator: AsyncIterator[Any]) -> tuple[bool, Any]:
        """Answer `(True, item)`, or `(False, None)` at the end of the iterator."""
        return self.wait(_step(iterator))  # type: ignore[no-any-return]

    def start(self, awaitable: Awaitable[Any], done: Done, timeout: float | None) -> None:
        """Begin to await without waiting; `done(value, error)` is called on the loop at the end."""
        self._starting.append((awaitable, done, timeout))
        # The loop is woken once for all that are begun until it comes to look.
        if len(self._starting) == 1:
            self._loop.call_soon_threadsafe(self._start_all)

    def interrupt(self, thread_id: int | None = None) -> None:
        """Cancel what this thread waits for; without one, all that is under way. The run goes on after it."""
        self._on_loop(lambda: self._cancel_current(thread_id))

    def cancel(self) -> None:
        """Cancel what is awaited now and what would be awaited from now on. Called from any thread."""
        self._is_cancelled = True
        self._on_loop(self._cancel_current)

    def close(self) -> None:
        """End the bridge's own loop and its thread; the caller's loop is left alone."""
        if self._thread is not None:
            self._on_loop(self._loop.stop)
            self._thread.join()

    def _wait(self, awaitable: Awaitable[Any], *, can_be_cancelled: bool, timeout: float | None) -> Any:
        context = contextvars.copy_context()
        thread_id = threading.get_ident()
        # A plain lock: a thread that waits for it can be interrupted by Ctrl-C, and it costs the least.
        ended = threading.Lock()
        ended.acquire()
        tasks: list[asyncio.Task[tuple[Any, BaseException | None]]] = []

        def start() -> None:
            task = self._loop.create_task(_outcome_of(awaitable, timeout), context=context)
            tasks.append(task)
            if can_be_cancelled:
                self._current[thread_id] = task
                if self._is_cancelled:
                    task.cancel()
            task.add_done_callback(finish)

        def finish(_task: asyncio.Task[Any]) -> None:
            self._current.pop(thread_id, None)
            if isinstance(awaitable, CoroutineType):
                # A task that was cancelled before it began has left it untouched, and Python would warn.
                awaitable.close()
            ended.release()

        self._loop.call_soon_threadsafe(start)
        try:
            ended.acquire()
        except BaseException:
            # Ctrl-C in the main thread: the coroutine is told, and has ended before we go on.
            self._on_loop(lambda: self._cancel_current(thread_id))
            ended.acquire()
            raise
        outcome, failure = tasks[0].result()
        if failure is not None:
            raise failure
        return outcome

    def _start_all(self) -> None:
        while self._starting:
            awaitable, done, timeout = self._starting.popleft()
            task = self._loop.create_task(_outcome_of(awaitable, timeout))
            self._started.add(task)
            task.add_done_callback(functools.partial(self._finish_started, awaitable, done))
            if self._is_cancelled:
                task.cancel()

    def _finish_started(self, awaitable: Awaitable[Any], done: Done, task: asyncio.Task[Any]) -> None:
        self._started.discard(task)
        if isinstance(awaitable, CoroutineType):
            awaitable.close()
        if task.cancelled():
            done(None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            done(None, error)
        else:
            done(*task.result())

    def _cancel_current(self, thread_id: int | None = None) -> None:
        if thread_id is None:
            for task in [*self._current.values(), *self._started]:
                task.cancel()
        elif thread_id in self._current:
            self._current[thread_id].cancel()

    def _on_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed: all that ran on it has ended.
            return


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _outcome_of(
    awaitable: Awaitable[Any],
    timeout: float | None,  # noqa: ASYNC109 - The word of the option.
) -> tuple[Any, BaseException | None]:
    try:
        if timeout is None:
            return await awaitable, None
        async with asyncio.timeout(timeout) as limit:
            return await awaitable, None
    except TimeoutError as failure:
        if timeout is not None and limit.expired():
            return None, CallTimeoutError(timeout)
        return None, failure
    except (KeyboardInterrupt, SystemExit) as failure:
        # Out of a task they would end the event loop; they belong to the caller of the run.
        return None, failure


async def _step(iterator: AsyncIterator[Any]) -> tuple[bool, Any]:
    try:
        return True, await anext(iterator)
    except StopAsyncIteration:
        return False, None
