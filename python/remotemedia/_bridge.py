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
from contextlib import aclosing, nullcontext
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._failures import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    Done = Callable[[Any, BaseException | None], object]

__all__ = ["Bridge"]

_LOOK_SECS = 0.5


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
        self._answers: dict[int, Answer] = {}
        self._started: set[_Started] = set()
        self._starting: deque[_Started] = deque()
        self._is_start_due = False
        self._ended: list[_Started] = []
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

    def start(self, awaitable: Awaitable[Any], done: Done, timeout: float | None) -> Callable[[], object]:
        """Begin to await without waiting; `done(value, error)` is called on the loop at the end.

        Returns:
            What cancels it, from any thread.
        """
        started = _Started(awaitable, done, timeout, self._note_end)
        self._starting.append(started)
        # The loop is woken once for all that are begun until it comes to look.
        if not self._is_start_due:
            self._is_start_due = True
            self._on_loop(self._start_all)
        return lambda: self._on_loop(started.cancel)

    def awaited_by(self, thread_id: int) -> Callable[[], object] | None:
        """What cancels that for which a thread waits, if it does; from any thread."""
        task = self._current.get(thread_id)
        return None if task is None else lambda: self._on_loop(task.cancel)

    def interrupt(self, thread_id: int | None = None) -> None:
        """Cancel what this thread waits for; without one, all that is under way. The run goes on after it."""
        self._on_loop(lambda: self._cancel_current(thread_id))

    def iterate(self, iterable: AsyncIterable[Any], *, is_ours: bool) -> Iteration:
        """Take an async iterable step by step. One that is ours is closed at the end."""
        return Iteration(self, iterable, is_ours=is_ours)

    def cancel(self) -> None:
        """Cancel what is awaited now and what would be awaited from now on. Called from any thread."""
        self._is_cancelled = True
        self._on_loop(self._cancel_current)

    def close(self) -> None:
        """End the bridge's own loop and its thread; the caller's loop is left alone."""
        if self._thread is not None:
            self._on_loop(self._loop.stop)
            self._thread.join()

    def ask(self, begin: Callable[[Answer], asyncio.Task[None] | None], *, can_be_cancelled: bool) -> Any:
        """Block this thread until what `begin` starts, on the event loop, has given its answer."""
        answer = Answer()
        thread_id = threading.get_ident()

        def start() -> None:
            try:
                task = begin(answer)
            except BaseException as failure:  # noqa: BLE001 - Or the thread would wait for ever.
                answer.give(None, failure)
                return
            if task is not None and can_be_cancelled and not answer.is_given:
                self._current[thread_id] = task
                answer.when_given = lambda: self._current.pop(thread_id, None)
                if self._is_cancelled:
                    task.cancel()

        self._answers[thread_id] = answer
        self._on_loop(start)
        try:
            answer.wait()
        except BaseException:
            # Ctrl-C in the main thread: the coroutine is told, and has ended before we go on.
            self._on_loop(lambda: self._cancel_current(thread_id))
            answer.wait()
            raise
        finally:
            self._answers.pop(thread_id, None)
        return answer.take()

    def _wait(self, awaitable: Awaitable[Any], *, can_be_cancelled: bool, timeout: float | None) -> Any:
        context = contextvars.copy_context()

        def begin(answer: Answer) -> asyncio.Task[None]:
            task = self._loop.create_task(_answer_with(answer.give, awaitable, timeout), context=context)
            task.add_done_callback(functools.partial(_end, awaitable, answer.give))
            return task

        try:
            return self.ask(begin, can_be_cancelled=can_be_cancelled)
        finally:
            if self._loop.is_closed() and isinstance(awaitable, CoroutineType):
                # It got no further than the loop did.
                awaitable.close()

    def _start_all(self) -> None:
        self._is_start_due = False
        while self._starting:
            started = self._starting.popleft()
            task = self._loop.create_task(_answer_with(started.give, started.awaitable, started.timeout))
            started.task = task
            self._started.add(started)
            task.add_done_callback(functools.partial(self._end, started))
            if self._is_cancelled or started.is_cancelled:
                task.cancel()

    def _end(self, started: _Started, task: asyncio.Task[None]) -> None:
        self._started.discard(started)
        _end(started.awaitable, started.give, task)

    def _note_end(self, started: _Started) -> None:
        """Those that end in the same turn of the loop are told of together, which wakes their thread once."""
        if not self._ended:
            try:
                self._loop.call_soon(self._tell_ended)
            except RuntimeError:
                # The loop is closed.
                started.tell()
                return
        self._ended.append(started)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        for started in ended:
            started.tell()

    def _cancel_current(self, thread_id: int | None = None) -> None:
        if thread_id is None:
            for task in self._current.values():
                task.cancel()
            for started in self._started:
                started.cancel()
        elif thread_id in self._current:
            self._current[thread_id].cancel()

    def _on_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._give_up()

    def _give_up(self) -> None:
        """The loop is closed, and nothing on it goes on any more: those who wait need not."""
        for task in self._current.values():
            task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - It is known.
        for answer in [*self._answers.values()]:
            answer.give(None, asyncio.CancelledError())
        self._tell_ended()
        for started in [*self._started, *self._starting]:
            if started.task is not None:
                started.task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - As above.
            elif isinstance(started.awaitable, CoroutineType):
                started.awaitable.close()
            started.give(None, asyncio.CancelledError())
        self._started.clear()
        self._starting.clear()


class _Started:
    """What was begun without anyone waiting."""

    __slots__ = ("answer", "awaitable", "done", "is_cancelled", "task", "timeout", "when_given")

    def __init__(
        self,
        awaitable: Awaitable[Any],
        done: Done,
        timeout: float | None,
        when_given: Callable[[_Started], None],
    ) -> None:
        self.awaitable = awaitable
        self.done = done
        self.timeout = timeout
        self.when_given = when_given
        self.task: asyncio.Task[None] | None = None
        self.answer: tuple[Any, BaseException | None] | None = None
        self.is_cancelled = False

    def give(self, value: Any, failure: BaseException | None = None) -> None:
        """Keep the answer until it is told; only the first one counts."""
        if self.answer is None:
            self.answer = (value, failure)
            self.when_given(self)

    def tell(self) -> None:
        """Tell the answer."""
        answer, self.answer = self.answer, (None, None)
        if answer is not None:
            self.done(*answer)

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()


class Answer:
    """What a thread waits for, and the event loop gives once."""

    __slots__ = ("_failure", "_lock", "_value", "is_given", "when_given")

    def __init__(self) -> None:
        # A plain lock: a thread that waits for it can be interrupted by Ctrl-C, and it costs the least.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._failure: BaseException | None = None
        self.is_given = False
        self.when_given: Callable[[], object] | None = None

    def give(self, value: Any, failure: BaseException | None = None) -> None:
        """Let the thread go on; only the first time counts."""
        if self.is_given:
            return
        self.is_given = True
        self._value, self._failure = value, failure
        if self.when_given is not None:
            self.when_given()
        self._lock.release()

    def wait(self) -> None:
        """Block until the answer is there."""
        # A signal that comes just before the wait is not noticed in it.
        while not self._lock.acquire(timeout=_LOOK_SECS):
            pass

    def take(self) -> Any:
        """The answer.

        Raises:
            BaseException: If it is a failure.
        """
        failure, self._failure = self._failure, None
        if failure is None:
            return self._value
        try:
            raise failure
        finally:
            del failure


class Iteration:
    """An async iterator at work in one task of its own.

    So timeouts, task groups and context variables that it holds over a `yield` work as in an `async for`.
    """

    def __init__(self, bridge: Bridge, iterable: AsyncIterable[Any], *, is_ours: bool) -> None:
        self._bridge = bridge
        self._iterable = iterable
        self._is_ours = is_ours
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def next(self) -> tuple[bool, Any]:
        """Answer `(True, item)`, or `(False, None)` at the end."""
        return self._bridge.ask(self._go_on, can_be_cancelled=True)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop before the end."""
        self._is_closing = True
        self._bridge.ask(self._go_on, can_be_cancelled=False)

    def _go_on(self, answer: Answer) -> asyncio.Task[None] | None:
        self._answer = answer
        if self._task is None and not self._is_closing:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)
            self._task.add_done_callback(self._end)
        elif self._task is None or self._task.done():
            answer.give((False, None))
        else:
            self._is_wanted.set()
        return self._task

    async def _run(self) -> None:
        try:
            async with aclosing(self._iterable) if self._is_ours else nullcontext():  # type: ignore[type-var]
                async for item in self._iterable:
                    self._is_wanted = asyncio.Event()
                    self._answer.give((True, item))
                    await self._is_wanted.wait()
                    if self._is_closing:
                        break
        except BaseException as failure:  # noqa: BLE001 - As in `_answer_with`.
            self._answer.give(None, failure)
        else:
            self._answer.give((False, None))

    def _end(self, _task: asyncio.Task[None]) -> None:
        # If it was cancelled before it began, nobody has answered.
        self._answer.give(None, asyncio.CancelledError())


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


async def _answer_with(
    give: Done,
    awaitable: Awaitable[Any],
    timeout: float | None,  # noqa: ASYNC109 - The word of the option.
) -> None:
    limit = None
    try:
        if timeout is None:
            value = await awaitable
        else:
            async with asyncio.timeout(timeout) as limit:
                value = await awaitable
    except BaseException as failure:  # noqa: BLE001 - Out of the task some of them would end the event loop.
        is_late = timeout is not None and limit is not None and limit.expired()
        give(None, CallTimeoutError(timeout) if is_late and timeout is not None else failure)
    else:
        give(value, None)


def _end(awaitable: Awaitable[Any], give: Done, task: asyncio.Task[None]) -> None:
    if isinstance(awaitable, CoroutineType):
        # A task that was cancelled before it began has left it untouched, and Python would warn.
        awaitable.close()
    if task.cancelled():
        give(None, asyncio.CancelledError())
