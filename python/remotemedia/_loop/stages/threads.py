"""The thread beside an event loop on which the `def` nodes of a run or session are called."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
import weakref
from _thread import LockType, allocate_lock
from collections import deque
from queue import SimpleQueue
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._loop.failed_items import LateResult
from remotemedia._threads import join, start_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Job", "NodeThread", "RecentThreads", "close_unused"]


_POLL_INTERVAL_SECS = 0.001

_MOMENT_SECS = 0.00005
"""How long the event loop waits for work of which the last one has ended within this time.

Its thread then wakes the loop through a lock, which takes a quarter of the time of a message to the loop.
"""

_START_SECS = 0.0002
"""How long the loop waits for the first work of a thread, which has to start; `Thread.start` waits, too."""

_FEW_THREADS = 4
"""For how many threads that have received work within `_RECENT_SECS` the event loop waits."""

_RECENT_SECS = 0.005


class Job:
    """Work for the thread, and what became of it.

    Attributes:
        value: What the work returned.
        error: What it raised.
        is_done: Whether it has ended; set on the loop.
        took: How long it took; set on the thread.
    """

    __slots__ = (
        "_context",
        "_ends",
        "_has_ended",
        "_is_over",
        "_thread",
        "_when_done",
        "_work",
        "error",
        "is_done",
        "took",
        "value",
    )

    def __init__(self, work: Callable[[], Any], thread: NodeThread) -> None:
        """Take work for a thread, and the context of the current task."""
        self._work: Callable[[], Any] | None = work
        self._thread = thread
        self._context = contextvars.copy_context()
        # What notifies the loop of the end, if it must be.
        self._ends: _Ends | None = None
        self._when_done: list[Callable[[], object]] = []
        # What the loop waits for briefly.
        self._is_over: LockType | None = None
        self._has_ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.took = 0.0

    def do(self) -> None:
        """Do the work. Called on the thread."""
        work, self._work = self._work, None
        # Not from the beginning of the job on: what waits for a busy loop is not slow.
        began = time.perf_counter()
        if work is not None:
            try:
                self.value = self._context.run(work)
            except BaseException as error:  # noqa: BLE001 - Raised on the loop.
                self.error = error
            del work
        self._thread.last_took = self.took = time.perf_counter() - began
        # In this order: `wait_briefly` and `when_done` do it the other way round.
        self._has_ended = True
        if self._is_over is not None:
            self._is_over.release()
        if self._ends is not None:
            self._ends.add(self)

    def wait_briefly(self, secs: float) -> bool:
        """Wait for the end, but only for a moment; return whether it came. Called on the loop."""
        is_over = allocate_lock()
        is_over.acquire()
        self._is_over = is_over
        if self._has_ended or is_over.acquire(timeout=secs):
            self.end()
        return self.is_done

    async def wait(self) -> None:
        """Wait for the end. A cancellation does not end the work."""
        future = asyncio.get_running_loop().create_future()
        self.when_done(functools.partial(_resolve, future))
        await future

    def end_alone(self, timeout: float) -> bool:
        """Wait for the end where the loop no longer runs; return whether it came in time."""
        until = time.monotonic() + timeout
        while not self._has_ended:
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_INTERVAL_SECS)
        self.end()
        return True

    def end(self) -> None:
        """Notify those who wait for the end. Called on the loop."""
        if self.is_done:
            return
        self.is_done = True
        for call in self._when_done:
            try:
                call()
            except RuntimeError:
                # The tasks of a closed loop cannot be notified.
                continue
        self._when_done.clear()

    def take_value(self) -> Any:
        """Return what the work returned, and forget it."""
        value, self.value = self.value, None
        return value

    def discard(self) -> None:
        """Forget what became of the work, which is not needed. A coroutine that was not awaited is closed."""
        value, error = self.take_value(), self.error
        self.error = None
        close_unused(value if error is None else error)
        del error

    def when_done(self, call: Callable[[], object]) -> None:
        """Call this on the loop when the work has ended."""
        self._when_done.append(call)
        if self._ends is None:
            self._ends = self._thread.ends()
            if self._has_ended:
                asyncio.get_running_loop().call_soon(self.end)


class _Ends:
    """The work for an event loop that has ended since its last turn. One message announces all of it.

    Attributes:
        loop: Returns the loop, if it exists.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._jobs: deque[Job] = deque()
        self._is_announced = False

    def add(self, job: Job) -> None:
        """Add work. Called on its thread."""
        self._jobs.append(job)
        if self._is_announced:
            return
        self._is_announced = True
        # A loop that is closed waits for nothing.
        if (loop := self.loop()) is not None:
            try:
                loop.call_soon_threadsafe(self._take)
            except RuntimeError:
                return

    def _take(self) -> None:
        # In this order: `add` does it the other way round.
        self._is_announced = False
        try:
            while self._jobs:
                self._jobs.popleft().end()
        finally:
            if self._jobs and (loop := self.loop()) is not None:
                # A request to stop was raised in between.
                loop.call_soon(self._take)


_ends: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ends] = weakref.WeakKeyDictionary()


def _ends_of(loop: asyncio.AbstractEventLoop) -> _Ends:
    found = _ends.get(loop)
    if found is None:
        found = _ends[loop] = _Ends(loop)
    return found


class RecentThreads:
    """The threads that have received work last."""

    def __init__(self) -> None:
        """Start without threads."""
        # When each received work; the last one is at the end.
        self._times: dict[int, float] = {}
        self._are_many_until = 0.0

    def is_one_of_many(self, thread: int, now: float) -> bool:
        """Note that a thread has received work; return whether more than a few have within a short time."""
        times = self._times
        times.pop(thread, None)
        times[thread] = now
        if len(times) > _FEW_THREADS and times.pop(next(iter(times))) > now - _RECENT_SECS:
            self._are_many_until = now + _RECENT_SECS
        return now < self._are_many_until

    def forget(self, thread: int) -> None:
        """Forget a thread that ends."""
        self._times.pop(thread, None)


_recent = RecentThreads()


class NodeThread:
    """A thread that begins with its first work, and does one thing after the other.

    Attributes:
        is_running: Whether it has begun.
        last_took: How long the last work took; set on the thread.
    """

    def __init__(self, name: str) -> None:
        """Store the name; the thread does not run yet."""
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._moment_secs = _START_SECS
        self._ends: _Ends | None = None
        self.is_running = False
        self.last_took = 0.0

    def ends(self) -> _Ends:
        """Return the ended work of the running loop: a session may be cleaned up on another one."""
        loop = asyncio.get_running_loop()
        ends = self._ends
        if ends is None or ends.loop() is not loop:
            ends = self._ends = _ends_of(loop)
        return ends

    @property
    def ident(self) -> int:
        """The identity of the thread, as in `threading.get_ident()`; 0 before it runs."""
        return 0 if self._thread is None else self._thread.ident or 0

    def begin(self, work: Callable[[], Any]) -> Job:
        """Begin with work.

        Raises:
            RuntimeError: If the system cannot start the thread.
        """
        job = Job(work, self)
        if self._thread is None:
            jobs: SimpleQueue[Job | None] = SimpleQueue()
            # The thread finds it when it starts.
            jobs.put(job)
            thread = threading.Thread(target=_work, args=(jobs,), name=self._name, daemon=True)
            start_at_once(thread, "the def nodes of a pipeline")
            self._thread, self._jobs, self.is_running = thread, jobs, True
        else:
            self._jobs.put(job)
        return job

    def wait_briefly(self, job: Job) -> bool:
        """Wait for work for a moment, if the last work was quick; return whether it has ended.

        The loop does not wait for one of many threads: it has work for the others meanwhile.
        """
        if job.is_done:
            return True
        is_one_of_many = _recent.is_one_of_many(id(self), time.perf_counter())
        secs, self._moment_secs = self._moment_secs, _MOMENT_SECS
        return not is_one_of_many and self.last_took < _MOMENT_SECS and job.wait_briefly(secs)

    async def wait(self, job: Job) -> None:
        """Wait for work, at first briefly. A cancellation does not end it."""
        if not self.wait_briefly(job):
            await job.wait()

    def stop(self) -> None:
        """Let the thread end after the work that has begun."""
        _recent.forget(id(self))
        if self._thread is not None:
            self._jobs.put(None)

    def join(self) -> None:
        """Wait for the end of the thread, which has no more work."""
        self.stop()
        if self._thread is not None:
            join(self._thread)


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.do()
        del job


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def close_unused(result: object) -> None:
    """Close a coroutine that a node returned, also one in an error or a tuple: Python would warn about it."""
    if isinstance(result, tuple | BaseException):
        parts = result if isinstance(result, tuple) else result.args
        for part in parts:
            if isinstance(part, BaseException | CoroutineType | LateResult):
                close_unused(part)
    elif isinstance(result, CoroutineType | LateResult):
        result.close()
