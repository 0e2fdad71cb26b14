"""Awaits coroutines for threads without an event loop; connects the engine with asyncio.

`asyncio.run_coroutine_threadsafe` does not suffice: it reports a cancelled task at once, while the task may
still be unwinding, so the node would be cleaned up too early.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._asyncio.futures import Result, Started, cancel
from remotemedia._asyncio.iteration import Iteration
from remotemedia._asyncio.own_loop import OwnLoop
from remotemedia._asyncio.question import Question
from remotemedia._errors import CallTimeoutError
from remotemedia._graph.node_kinds import return_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Collection

    from remotemedia._asyncio.futures import Done
    from remotemedia._asyncio.packs import Packs

__all__ = ["Bridge", "run_alone"]


class Bridge:
    """The event loop of one run, for the thread of the run.

    Args:
        loop: The caller's running loop. Without it, the bridge runs a separate loop in a thread until
            `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._thread: threading.Thread | None = None
        if loop is None:
            own = OwnLoop()
            self._thread, loop = own.thread, own.start()
        self._loop = loop
        # What each thread waits for, with its result, and what was started without a waiting thread.
        self.current: dict[int, asyncio.Task[Any]] = {}
        self.results: dict[int, Result] = {}
        self._spared: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: set[Started] = set()
        self._starting: deque[Started] = deque()
        self._is_start_due = False
        self._ended: list[Started] = []
        # Those with items that are not done.
        self.packs: set[Packs] = set()
        self.is_cancelled = False
        self._releasing = threading.RLock()
        self.is_abandoned = False

    def wait(
        self,
        awaitable: Awaitable[Any],
        timeout: float | None = None,
        context: contextvars.Context | None = None,
        *,
        can_be_cancelled: bool = True,
    ) -> Any:
        """Block this thread until the awaitable has ended; a cancelled run cancels it.

        It runs in a copy of `context`, or of the context of this thread.

        Raises:
            asyncio.CancelledError: If the run was cancelled.
            CallTimeoutError: If it takes longer than `timeout` seconds; it is cancelled.
        """
        own_context = contextvars.copy_context() if context is None else context
        has_begun = False

        def begin(result: Result) -> asyncio.Task[None]:
            nonlocal has_begun
            has_begun = True
            task = self.begin(self._await(result.set, awaitable, timeout), own_context)
            task.add_done_callback(functools.partial(_end, awaitable, result.set))
            return task

        try:
            return self.ask(begin, can_be_cancelled=can_be_cancelled)
        finally:
            if not has_begun or self.is_abandoned:
                # The loop stopped before it started.
                _close(awaitable)

    def wait_to_the_end(
        self,
        awaitable: Awaitable[Any],
        timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Block this thread until the awaitable has ended, even if the run is cancelled; used for cleanup.

        If the caller's loop no longer runs, a separate loop awaits it.
        """
        if self.is_loop_gone():
            return run_alone(awaitable)
        return self.wait(awaitable, timeout, context, can_be_cancelled=False)

    def start(
        self,
        awaitable: Awaitable[Any],
        done: Done,
        timeout: float | None,
        context: contextvars.Context | None = None,
    ) -> Callable[[], object]:
        """Start to await without blocking; `done(value, error)` is called on the loop at the end.

        Returns:
            A function that cancels it, from any thread.
        """
        started = Started(
            awaitable,
            done,
            timeout,
            self._note_end,
            contextvars.copy_context() if context is None else context,
        )
        self._starting.append(started)
        # One wake-up of the loop serves all calls that start before it runs.
        if not self._is_start_due:
            self._is_start_due = True
            self.on_loop(self._start_all)
        return lambda: self.on_loop(started.cancel)

    def awaited_by(self, thread_id: int) -> Callable[[], object] | None:
        """Return a function that cancels what a thread waits for; `None` if it does not wait."""
        task = self.current.get(thread_id)
        return None if task is None else lambda: self.on_loop(lambda: cancel(task))

    def interrupt(self, is_due: Callable[[], bool] | None = None) -> None:
        """Cancel everything in progress; the run continues afterwards.

        Args:
            is_due: Called on the loop, where nothing can start in the meantime. If it returns `False`, the
                interruption is over, and the work in progress belongs to later items.
        """

        def interrupt() -> None:
            if is_due is None or is_due():
                self.cancel_current(spared=self._spared)

        self.on_loop(interrupt)

    def iterate(
        self,
        iterable: AsyncIterable[Any],
        *,
        is_ours: bool,
        timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> Iteration:
        """Iterate over an async iterable; each step may take `timeout` seconds.

        An iterable that belongs to the engine is closed at the end.
        """
        return Iteration(self, iterable, is_ours=is_ours, timeout=timeout, context=context)

    def spare_thread(self) -> None:
        """Exclude this thread from interruptions: it produces items, and has none to drop."""
        self._spared.add(threading.get_ident())

    def cancel(self) -> None:
        """Cancel what is awaited now and later. May be called from any thread."""
        self.is_cancelled = True
        if self.is_loop_gone():
            self.release_all()
        else:
            self.on_loop(self.cancel_current)

    def close(self) -> None:
        """Stop the bridge's own loop and its thread; the caller's loop is not changed."""
        if self._thread is not None:
            self.on_loop(self._loop.stop)
            self._thread.join()

    def begin(self, work: Coroutine[Any, Any, None], context: contextvars.Context) -> asyncio.Task[None]:
        """Create a task, on the thread of the loop."""
        task = self._task_of(work, context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _task_of(self, work: Coroutine[Any, Any, None], context: contextvars.Context) -> asyncio.Task[None]:
        if self._loop.get_task_factory() is None:
            return self._loop.create_task(work, context=context)
        # Not every task factory accepts a context. A task copies the context in which it is created.
        return context.run(self._loop.create_task, work)

    def ask(self, begin: Callable[[Result], asyncio.Task[None] | None], *, can_be_cancelled: bool) -> Any:
        """Block this thread until the task that `begin` starts on the event loop has a result."""
        question = Question(self, begin, can_be_cancelled=can_be_cancelled)
        try:
            question.ask()
            while not question.wait():
                pass
        except BaseException:
            # Ctrl-C in the main thread: the coroutine is cancelled, and must end first.
            question.cancel()
            raise
        finally:
            question.end()
        return question.result.take()

    def is_loop_gone(self) -> bool:
        """Whether the loop no longer runs anything.

        A stopped loop may run again, but a run that must end cannot rely on that.
        """
        if self._loop.is_closed():
            return True
        return self.is_cancelled and self._thread is None and not self._loop.is_running()

    async def _await(
        self,
        done: Done,
        awaitable: Awaitable[Any],
        timeout: float | None,  # noqa: ASYNC109 - The word of the option.
        *,
        has_thread: bool = True,
    ) -> None:
        # What an awaitable returns may be awaited, too: by the thread that waits, or here if there is none.
        limit = None
        try:
            if timeout is None:
                value = await (awaitable if has_thread else _value_of(awaitable))
            else:
                async with asyncio.timeout(timeout) as limit:
                    value = await (awaitable if has_thread else _value_of(awaitable))
        except BaseException as failure:  # noqa: BLE001 - Some of them would stop the event loop.
            is_late = timeout is not None and limit is not None and limit.expired()
            # The traceback of the failure refers to this frame, which must not refer to the failure.
            done(
                None,
                self.reported(failure) if not is_late or timeout is None else CallTimeoutError(timeout),
            )
        else:
            done(value, None)
            # The outputs of an async generator come with its failure, whose traceback refers to this frame
            # from Python 3.12 on.
            del value

    def reported(self, failure: BaseException) -> BaseException:
        """Return the failure for the waiting thread: a cancellation if the loop closed the coroutine."""
        if self.is_abandoned and isinstance(failure, GeneratorExit):
            return asyncio.CancelledError()
        if type(failure) is asyncio.CancelledError and _is_cancelled_from_outside():
            # Its frames refer to those of the ending event loop, and to the tasks that it cancels. The
            # engine, which the garbage collector cannot traverse, would keep them and its own session alive.
            failure.__traceback__ = None
        return failure

    def _start_all(self) -> None:
        self._is_start_due = False
        while self._starting:
            started = self._starting.popleft()
            work = self._await(started.set, started.awaitable, started.timeout, has_thread=False)
            task = self._task_of(work, started.context)
            started.task = task
            self._started.add(started)
            task.add_done_callback(functools.partial(self._end, started))
            if self.is_cancelled or started.is_cancelled:
                task.cancel()

    def _end(self, started: Started, task: asyncio.Task[None]) -> None:
        self._started.discard(started)
        _end(started.awaitable, started.set, task)

    def _note_end(self, started: Started) -> None:
        """Report results of one turn of the loop together, which wakes their thread once."""
        if self.is_abandoned:
            started.report()
            return
        if not self._ended:
            try:
                self._loop.call_soon(self._report_ended)
            except RuntimeError:
                # The loop is closed.
                started.report()
                return
        self._ended.append(started)

    def _report_ended(self) -> None:
        ended, self._ended = self._ended, []
        for started in ended:
            started.report()

    def cancel_current(self, thread_id: int | None = None, spared: Collection[int] = ()) -> None:
        """Cancel what a thread waits for, or everything in progress. Called on the loop."""
        if thread_id is None:
            for thread, task in self.current.items():
                if thread not in spared:
                    cancel(task)
            for started in self._started:
                started.cancel()
            for packs in [*self.packs]:
                packs.cancel()
        elif thread_id in self.current:
            cancel(self.current[thread_id])

    def on_loop(self, callback: Callable[[], object]) -> None:
        """Call a function on the loop, from any thread."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self.release_all()

    def release_all(self) -> None:
        """Release all waiting threads, because the loop no longer runs."""
        with self._releasing:
            self.is_abandoned = True
            while self.packs:
                self.packs.pop().release()
            begun = [started.task for started in self._started if started.task is not None]
            for task in [*self._tasks, *begun]:
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - Expected here.
                _close(task.get_coro())
                # If the loop runs again.
                with suppress(RuntimeError):
                    task.cancel()
            self._tasks.clear()
            for result in [*self.results.values()]:
                result.set(None, asyncio.CancelledError())
            self._report_ended()
            for started in [*self._started, *self._starting]:
                _close(started.awaitable)
                started.set(None, asyncio.CancelledError())
            self._started.clear()
            self._starting.clear()


def _end(awaitable: Awaitable[Any], done: Done, task: asyncio.Task[None]) -> None:
    # A task that was cancelled before it started never ran it, and Python would warn.
    _close(awaitable)
    # Its failure has been reported, or is not needed.
    if task.cancelled() or task.exception() is not None:
        done(None, asyncio.CancelledError())


async def _value_of(awaitable: Awaitable[Any]) -> Any:
    """Return what an awaitable results in, which is none."""
    value = await awaitable
    while return_kind(value) == "coroutine":
        value = await value
    return value


def run_alone(awaitable: Awaitable[Any]) -> Any:
    """Await on this thread, on a separate loop."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - Documented; it does not raise.
        bridge = Bridge(None)
        try:
            return bridge.wait_to_the_end(awaitable)
        finally:
            bridge.close()

    async def wait() -> Any:
        return await awaitable

    # With a factory, the runner does not replace the current loop of the thread.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(wait())


def _is_cancelled_from_outside() -> bool:
    """Whether the current task was cancelled; otherwise its own code raised the error."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # A coroutine is closed without a running loop.
        return True
    return task is None or task.cancelling() > 0


def _close(awaitable: object) -> None:
    """Close a coroutine, as the interpreter would when its last reference is gone."""
    if type(awaitable) is CoroutineType or isinstance(awaitable, Coroutine):
        try:
            awaitable.close()
        except Exception as failure:  # noqa: BLE001 - Its result is not needed.
            _log.log_ignored_error(failure)
