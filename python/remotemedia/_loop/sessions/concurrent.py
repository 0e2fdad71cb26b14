"""Who is inside a node with `concurrency`, and who waits for that."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._loop.sessions.entrance import Entrance, Place

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remotemedia._core import LoopCall
    from remotemedia._loop.sessions.entrance import Inside, Refusal
    from remotemedia._loop.stages.concurrent import ConcurrentStage

__all__ = ["ConcurrentEntrance"]


class ConcurrentEntrance(Entrance):
    """Lets up to N calls into a node at once, in the order in which they came.

    A flush is a call without inputs. It is inside alone.

    Attributes:
        stage: The node.
        inside: The calls that are inside, each with its task; the oldest first.
        stops: Those that have been stopped, with what returns their errors.
        of_streams: Those that are of streams.
        admitted: Those that may enter, but whose tasks have not gone on yet.
        is_flushing: Whether a flush is inside, or admitted.
        limit: How many calls may be inside.
        keeps_order: Whether calls pass on to another stage, in the order in which they entered.
    """

    stage: ConcurrentStage

    def __init__(self, stage: ConcurrentStage, *, keeps_order: bool) -> None:
        """Start with nothing inside."""
        super().__init__(stage)
        self.inside: dict[LoopCall, Inside] = {}
        self.stops: dict[LoopCall, Refusal] = {}
        self.keeps_order = keeps_order
        self.limit = stage.limit
        self.of_streams: set[LoopCall] = set()
        self.admitted: dict[Place, None] = {}
        self.is_flushing = False
        # The calls that have entered and not passed on, with the places of those that wait for others.
        self._order: dict[LoopCall, Place | None] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a call is inside, or on its way there."""
        return bool(self.inside or self._order)

    @property
    def can_enter(self) -> bool:
        """Whether another call need not wait. It may overtake those that are about to go on."""
        if self.line or self.is_shut or self.is_flushing or self.stage.is_shared:
            return False
        return len(self.inside) + len(self.admitted) < self.limit

    def enter_at_once(
        self, inputs: int, *, is_fresh: bool = False, inside: Inside | None = None
    ) -> LoopCall | None:
        """Enter the node, or return `None` if that must wait; see `Entrance`."""
        if not inputs or self.admitted or not self.can_enter:
            return None
        call = self.stage.calls.try_enter(inputs, is_fresh=is_fresh)
        if call is not None:
            self.note(call, inside)
        return call

    def note(self, call: LoopCall, task: Inside | None = None) -> None:
        """Note that a call is inside. The task is the current one, if it is not given."""
        if task is None:
            task = asyncio.current_task()
        self.inside[call] = task  # type: ignore[assignment] # Calls are made in tasks.
        if self.keeps_order:
            self._order[call] = None

    async def _enter_in_turn(self, place: Place) -> LoopCall:
        stage = self.stage
        try:
            if not place.inputs:
                call = await stage.enter(0)
            else:
                if stage.is_shared:
                    # Other sessions may wait for the node to return, as this one does.
                    await stage.lock()
                    stage.core.unlock()
                call = stage.calls.enter(place.inputs)
        finally:
            self.admitted.pop(place, None)
        self.note(call)
        place.call = call
        if place.refusal is not None:
            self.leave(call)
            self.forget(call)
            place.check()
        self.let_in()
        return call

    def _leave_line(self, place: Place) -> None:
        self.admitted.pop(place, None)
        if not self.inside and not self.admitted:
            self.is_flushing = False
        super()._leave_line(place)

    def let_in(self) -> None:
        """Let those in for which there is room."""
        while self.line and not self.is_paused and self._has_room_for(self.line[0]):
            place = self.line.popleft()
            if not place.turn.done():
                self.admitted[place] = None
                self.is_flushing = not place.inputs
                place.turn.set_result(None)

    def _let_first_in(self) -> None:
        # The call would go on at once, before those that have been admitted.
        if not self.admitted:
            self.let_in()

    def _has_room_for(self, place: Place) -> bool:
        count = len(self.inside) + len(self.admitted)
        if not place.inputs:
            return count == 0
        # Those that wait for another session do so one after the other.
        if self.is_flushing or (self.stage.is_shared and self.admitted):
            return False
        return count < self.limit

    def leave(self, call: LoopCall) -> None:
        """Leave the node."""
        call.leave()
        self.inside.pop(call, None)
        if self.of_streams:
            self.of_streams.discard(call)
        if not self.inside:
            self.is_flushing = False
        if self.line or self.changes.waiting:
            self.pass_on()

    # The order behind the node.

    async def leave_in_order(self, call: LoopCall) -> None:
        """Wait until the calls that entered before have passed on.

        Raises:
            SessionInterruptedError: If the session was interrupted meanwhile.
            SessionClosedError: If the session has closed.
        """
        await self._wait_for_order(call, is_call=True)
        place = self._order.get(call)
        if place is not None:
            place.check()

    async def _wait_for_order(self, call: LoopCall, *, is_call: bool) -> bool:
        """Wait as `leave_in_order` does; return whether the call goes on."""
        if call not in self._order or next(iter(self._order)) is call:
            return True
        place = self._order[call] = Place(1, is_call=is_call)
        await place.turn
        return place.refusal is None

    def forget(self, call: LoopCall) -> None:
        """Do not let later calls wait for this one any more."""
        if self._order.pop(call, self) is self:
            return
        first = next(iter(self._order.values()), None)
        if first is not None and not first.turn.done():
            first.turn.set_result(None)

    async def visit(
        self, call: LoopCall, work: Coroutine[Any, Any, Any]
    ) -> tuple[bool, BaseException | None]:
        """Do the work of a stream inside, and leave after the calls that entered before; see `Entrance`."""
        try:
            goes_on, failure = await super().visit(call, work)
            try:
                goes_on = goes_on and await self._wait_for_order(call, is_call=False)
                return goes_on, failure
            finally:
                del failure
        finally:
            self.forget(call)

    # All that is inside.

    def insiders(self) -> list[object]:
        """Return what is inside, for `wait_until_left`."""
        return [*self.inside]

    async def wait_until_left(self, insider: object) -> None:
        """Wait until one of the insiders has left."""
        await self.changes.wait_while(lambda: insider in self.inside)

    def under_way(self) -> list[object]:
        """Return the calls that are inside or wait, for `is_under_way`."""
        return [*self.inside, *self.admitted, *self.line]

    def is_under_way(self, call: object) -> bool:
        """Whether one of these calls has not left."""
        if isinstance(call, Place):
            return not call.is_over if call.call is None else call.call in self.inside
        return call in self.inside

    def oldest(self) -> tuple[Inside | None, int]:
        """Return the task that has been inside for the longest time, and the index of its item."""
        # Another thread may look, while calls enter and leave.
        with suppress(RuntimeError):
            for call, task in self.inside.items():
                return task, call.first
        return None, max(0, self.stage.inputs - 1)

    def reading(self) -> tuple[Any, ...] | None:
        """Return what changes when the oldest call leaves; `None` if no node is called. For any thread."""
        task, index = self.oldest()
        phase = self.stage.phase
        return None if task is None and phase == "process" else (index, phase, self.stage.node, task)

    def count_calls(self) -> int:
        """Return how many calls of the user are inside, or wait for their order behind the node."""
        return len(self.inside) - len(self.of_streams)

    def clear_line(self, refusal: Refusal) -> tuple[list[asyncio.Future[None]], int]:
        """Refuse all calls that wait, also those that are about to go on; see `Entrance`."""
        waiting = [*self.admitted, *(place for place in self._order.values() if place is not None)]
        turns, count = super().clear_line(refusal)
        for place in waiting:
            place.refusal = refusal
        turns += [place.turn for place in waiting if not place.turn.done()]
        return turns, count + sum(place.is_call for place in waiting)

    def begin_stop(self, error: Refusal) -> None:
        """Stop what is inside."""
        for call, task in self.inside.items():
            if call not in self.stops:
                self.stops[call] = error
                task.cancel()

    def is_stopped(self, call: LoopCall) -> bool:
        """Whether a call that was inside has been stopped."""
        return call in self.stops

    def _pop_stop(self, call: LoopCall) -> Refusal | None:
        return self.stops.pop(call, None)

    def _note_stream(self, call: LoopCall, *, is_inside: bool) -> None:
        if is_inside:
            self.of_streams.add(call)
