"""Who is inside the nodes of a session on an event loop, and who waits for that."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from remotemedia._loop.sessions.changes import Changes
from remotemedia._loop.turns import Turns, is_current
from remotemedia.exceptions import SessionClosedError, SessionInterruptedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from remotemedia._core import LoopCall, Waiting
    from remotemedia._loop.stages.stage import Stage

    Refusal = Callable[[], Exception]

    class Inside(Protocol):
        """A task that is inside, or what stands for it."""

        def cancel(self) -> object:
            """Stop it."""

        def get_coro(self) -> Any:
            """Return its coroutine, if it has one."""


__all__ = ["CLOSED", "Entrance", "Place", "closed", "interrupted"]

CLOSED = "The session is closed; call pipeline.open() for a new one"
INTERRUPTED = "The session was interrupted and dropped the item"

_POLL_INTERVAL_SECS = 0.05
"""How often a node that waits for another pipeline checks whether that waits for the node."""


class Place:
    """A place in the line.

    Attributes:
        turn: Has a result when the call may enter.
        inputs: The number of inputs.
        is_call: Whether it is a call of the user.
        since: When it was taken.
        refusal: Returns the error of a call that was refused.
        call: The call that has entered.
        is_over: Whether it was left without entering.
    """

    def __init__(self, inputs: int, *, is_call: bool) -> None:
        """Take the last place.

        Args:
            inputs: The number of inputs.
            is_call: Whether it is a call of the user.
        """
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inputs = inputs
        self.is_call = is_call
        self.since = time.perf_counter_ns()
        self.refusal: Refusal | None = None
        self.call: LoopCall | None = None
        self.is_over = False

    def check(self) -> None:
        """Raise the error of a call that was refused while it waited."""
        if self.refusal is not None:
            raise self.refusal()


class Entrance:
    """Lets calls into the nodes one after the other, in the order in which they came.

    A call that is inside can be stopped: its task is cancelled, but only until the call has ended.

    Attributes:
        line: The calls that wait.
        task: The task that is inside.
        stop: Returns the error for the call inside, if it has been stopped.
        is_closed: Whether no call is let in any more.
        is_paused: Whether all calls wait, because the session is being interrupted.
        is_shut: Whether it is closed or paused.
        is_stream_inside: Whether the call inside is one of a stream.
        is_waiting: Whether the call inside waits for room for its outputs.
        changes: Wakes tasks that wait for calls to leave.
        tasks: Those that take items of streams; a session that is garbage no longer knows its streams.
    """

    def __init__(self, stage: Stage) -> None:
        """Start with nothing inside."""
        self.stage = stage
        self.line: deque[Place] = deque()
        self.task: Inside | None = None
        self.stop: Refusal | None = None
        self.is_closed = False
        self.is_paused = False
        self.is_shut = False
        self.is_stream_inside = False
        self.is_waiting = False
        self.changes = Changes()
        self._turns = Turns()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def enter(
        self, inputs: int, word: str, *, is_call: bool = False, is_fresh: bool = False
    ) -> LoopCall:
        """Wait for the calls that came before, and enter the nodes.

        Args:
            inputs: The number of inputs.
            word: The method of the session, for errors.
            is_call: Whether it is a call of the user, not of a stream.
            is_fresh: Whether the other tasks of the loop have had a turn just now.

        Raises:
            PipelineError: If the call would wait for itself.
            SessionInterruptedError: If the session was interrupted meanwhile.
            SessionClosedError: If the session has closed.
        """
        if self.is_closed:
            raise SessionClosedError(CLOSED)
        calls = self.stage.calls
        is_turn_due = calls.take_turn() and not is_fresh
        if not is_turn_due and (call := self.enter_at_once(inputs)) is not None:
            return call
        waiting = calls.begin_wait(word)
        place = Place(inputs, is_call=is_call)
        self.line.append(place)
        if self.stage.metrics is not None:
            self.stage.metrics.note_queue(sum(place.inputs for place in self.line))
        if is_turn_due:
            # Other tasks run first, but no later call.
            self._turns.note_given()
            asyncio.get_running_loop().call_soon(self.let_in)
        elif len(self.line) == 1:
            # Another session, which shares nodes, may be inside.
            self._let_first_in()
        try:
            await self._wait_for_turn(place, waiting, word)
            call = await self._enter_in_turn(place)
        except BaseException:
            self._leave_line(place)
            raise
        if self.stage.metrics is not None:
            self.stage.metrics.note_wait(inputs * (time.perf_counter_ns() - place.since))
        return call

    async def _enter_in_turn(self, place: Place) -> LoopCall:
        """Enter the nodes, if no other session is in them."""
        call = await self.stage.enter(place.inputs)
        try:
            place.check()
        except BaseException:
            call.leave()
            raise
        self.line.remove(place)
        self.task = asyncio.current_task()
        return call

    def enter_at_once(
        self, inputs: int, *, is_fresh: bool = False, inside: Inside | None = None
    ) -> LoopCall | None:
        """Enter the nodes, as `enter` does, or return `None` if that must wait.

        Args:
            inputs: The number of inputs.
            is_fresh: Whether the other tasks of the loop have had a turn just now.
            inside: The current task, if it is known, or what stands for it.
        """
        if self.line or self.is_shut:
            return None
        call = self.stage.core.try_enter(inputs, is_fresh=is_fresh)
        if call is not None:
            self.task = inside or asyncio.current_task()
        return call

    async def _wait_for_turn(self, place: Place, waiting: Waiting | None, word: str) -> None:
        if waiting is None:
            await place.turn
        while waiting is not None and not place.turn.done():
            await asyncio.wait([place.turn], timeout=_POLL_INTERVAL_SECS)
            if not place.turn.done():
                self.stage.core.check_wait(waiting, word)
        place.check()

    def _leave_line(self, place: Place) -> None:
        place.is_over = True
        with suppress(ValueError):
            self.line.remove(place)
        place.turn.cancel()
        self.let_in()

    def leave(self, call: LoopCall) -> None:
        """Leave the nodes, as soon as the thread has ended what a cancelled task has begun."""
        job = self.stage.job
        if job is not None and not job.is_done:
            # The task does not wait for it.
            call.detach()
            job.when_done(lambda: self.leave(call))
            return
        call.leave()
        self.task = None
        if self.line or self.changes.waiting:
            self.pass_on()

    def pass_on(self) -> None:
        """Notify those who wait for the nodes, after a call has left them."""
        self.changes.notify()
        self.let_in()

    def let_in(self) -> None:
        """Let the next call in, if nothing is inside."""
        if self.line and self.task is None and not self.is_paused and not self.line[0].turn.done():
            self.line[0].turn.set_result(None)

    def _let_first_in(self) -> None:
        """Let a call in for which nobody waits in the line."""
        self.let_in()

    def shut(self, *, is_paused: bool = False, is_closed: bool = False) -> None:
        """Pause or close the entrance, or open it after a pause."""
        self.is_closed |= is_closed
        self.is_paused = is_paused
        self.is_shut = self.is_closed or is_paused
        self.changes.notify()
        self.let_in()

    def reading(self) -> tuple[Any, ...] | None:
        """Return what changes with each call of a node; `None` if no node is called. For any thread."""
        stage = self.stage
        if self.is_waiting or (self.task is None and stage.phase == "process"):
            return None
        return stage.inputs, stage.phase, stage.node, self.task

    def oldest(self) -> tuple[Inside | None, int]:
        """Return the task that has been inside for the longest time, and the index of its item."""
        return self.task, max(0, self.stage.inputs - 1)

    @property
    def is_busy(self) -> bool:
        """Whether a call is inside."""
        return self.task is not None

    def insiders(self) -> list[object]:
        """Return what is inside, for `wait_until_left`."""
        return [] if self.task is None else [self.task]

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Know a task that takes items, until it ends."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def count_calls(self) -> int:
        """Return how many calls of the user are inside, not of streams."""
        return int(self.task is not None and not self.is_stream_inside)

    def clear_line(self, refusal: Refusal) -> tuple[list[asyncio.Future[None]], int]:
        """Refuse all calls that wait; return what they wait for, and how many are calls of the user."""
        for place in self.line:
            place.refusal = refusal
        turns = [place.turn for place in self.line]
        count = sum(place.is_call for place in self.line)
        self.line.clear()
        return turns, count

    def begin_stop(self, error: Refusal) -> None:
        """Stop what is inside."""
        if self.task is not None and self.stop is None:
            self.stop = error
            self.task.cancel()

    async def wait_until_left(self, insider: object) -> None:
        """Wait until one of the insiders has left."""
        await self.changes.wait_while(lambda: self.task is insider)

    def is_stopped(self, call: LoopCall) -> bool:  # noqa: ARG002 - There is only one.
        """Whether a call that was inside has been stopped."""
        return self.stop is not None

    async def leave_in_order(self, call: LoopCall) -> None:
        """Wait until the calls that entered before have left, after one that may have overtaken them."""

    def forget(self, call: LoopCall) -> None:
        """Do not let later calls wait for this one any more."""

    def _note_stream(self, call: LoopCall, *, is_inside: bool) -> None:  # noqa: ARG002 - As above.
        """Note that a call is one of a stream, until it leaves."""
        self.is_stream_inside = is_inside

    async def visit(
        self, call: LoopCall, work: Coroutine[Any, Any, Any]
    ) -> tuple[bool, BaseException | None]:
        """Do the work of a stream inside, and leave.

        Returns:
            Whether the work was not dropped, and how it failed.
        """
        has_arrived = False
        failure: BaseException | None = None
        task = asyncio.current_task()
        self._note_stream(call, is_inside=True)
        try:
            await work
        except asyncio.CancelledError as error:
            has_arrived = True
            if not self.is_stopped(call):
                if _is_cancelled():
                    raise
                failure = error
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not is_current(task):
                # The loop has stopped, and the task is closed.
                raise
            failure = error
        finally:
            # A cancelled task refers to this frame.
            del task
            self._note_stream(call, is_inside=False)
            self.leave(call)
        try:
            if not self.is_stopped(call):
                return True, failure
        finally:
            del failure
        if await self.take_stop(call, has_arrived=has_arrived) is None:
            raise asyncio.CancelledError
        return False, None

    async def take_stop(self, call: LoopCall, *, has_arrived: bool) -> Exception | None:
        """Return the error of the current call, if it was stopped; its task is then no longer cancelled.

        Args:
            call: The call.
            has_arrived: Whether the cancellation was raised in the task.
        """
        stop = self._pop_stop(call)
        task = asyncio.current_task()
        if stop is None or task is None:
            return None
        is_cancelled = task.uncancel() > 0
        if not has_arrived:
            # It is raised at the next occasion.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return None if is_cancelled else stop()

    def _pop_stop(self, call: LoopCall) -> Refusal | None:  # noqa: ARG002 - As above.
        stop, self.stop = self.stop, None
        return stop


def interrupted() -> Exception:
    """Return the error of a call that `interrupt` has dropped."""
    return SessionInterruptedError(INTERRUPTED)


def closed() -> Exception:
    """Return the error of a call of a closed session."""
    return SessionClosedError(CLOSED)


def _is_cancelled() -> bool:
    """Whether the current task is being cancelled; otherwise a node raised the error by itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
