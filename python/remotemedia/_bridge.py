"""Awaits coroutines for a thread that is not the event loop's: the meeting point of the engine and asyncio.

Not `asyncio.run_coroutine_threadsafe`: that one reports a cancelled task at once, while the task may still be
unwinding, and the node would be cleaned up under its feet.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

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
        self._current: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Block this thread until the awaitable has ended; a cancelled run cancels it.

        Raises:
            asyncio.CancelledError: If the run was cancelled.
        """
        return self._wait(awaitable, can_be_cancelled=True)

    def wait_to_the_end(self, awaitable: Awaitable[Any]) -> Any:
        """Block this thread until the awaitable has ended, also when the run is cancelled: clean-up work."""
        return self._wait(awaitable, can_be_cancelled=False)

    def next_of(self, iterator: AsyncIterator[Any]) -> tuple[bool, Any]:
        """Answer `(True, item)`, or `(False, None)` at the end of the iterator."""
        return self.wait(_step(iterator))  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Cancel what is awaited now and what would be awaited from now on. Called from any thread."""
        self._is_cancelled = True
        self._on_loop(self._cancel_current)

    def close(self) -> None:
        """End the bridge's own loop and its thread; the caller's loop is left alone."""
        if self._thread is not None:
            self._on_loop(self._loop.stop)
            self._thread.join()

    def _wait(self, awaitable: Awaitable[Any], *, can_be_cancelled: bool) -> Any:
        context = contextvars.copy_context()
        # A plain lock: a thread that waits for it can be interrupted by Ctrl-C, and it costs the least.
        ended = threading.Lock()
        ended.acquire()
        tasks: list[asyncio.Task[tuple[Any, BaseException | None]]] = []

        def start() -> None:
            task = self._loop.create_task(_outcome_of(awaitable), context=context)
            tasks.append(task)
            if can_be_cancelled:
                self._current = task
                if self._is_cancelled:
                    task.cancel()
            task.add_done_callback(finish)

        def finish(_task: asyncio.Task[Any]) -> None:
            self._current = None
            if isinstance(awaitable, CoroutineType):
                # A task that was cancelled before it began has left it untouched, and Python would warn.
                awaitable.close()
            ended.release()

        self._loop.call_soon_threadsafe(start)
        try:
            ended.acquire()
        except BaseException:
            # Ctrl-C in the main thread: the coroutine is told, and has ended before we go on.
            self._on_loop(self._cancel_current)
            ended.acquire()
            raise
        outcome, failure = tasks[0].result()
        if failure is not None:
            raise failure
        return outcome

    def _cancel_current(self) -> None:
        if self._current is not None:
            self._current.cancel()

    def _on_loop(self, callback: Any) -> None:
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


async def _outcome_of(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except (KeyboardInterrupt, SystemExit) as failure:
        # Out of a task they would end the event loop; they belong to the caller of the run.
        return None, failure


async def _step(iterator: AsyncIterator[Any]) -> tuple[bool, Any]:
    try:
        return True, await anext(iterator)
    except StopAsyncIteration:
        return False, None
