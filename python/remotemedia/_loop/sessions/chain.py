"""The stages of a session on an event loop, one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia._loop.known import known_of
from remotemedia._loop.places import is_concurrent, is_placed
from remotemedia._loop.sessions.concurrent import ConcurrentEntrance
from remotemedia._loop.sessions.entrance import Entrance
from remotemedia._loop.stages.concurrent import ConcurrentStage
from remotemedia._loop.stages.stage import Stage
from remotemedia._loop.streaming.session_stage import SessionStage

if TYPE_CHECKING:
    import asyncio

    from remotemedia._core import LoopMetrics
    from remotemedia._graph.graph import Graph
    from remotemedia._loop.known import Known
    from remotemedia._loop.sessions.entrance import Refusal
    from remotemedia._loop.stages.threads import NodeThread

__all__ = ["Chain"]


class Chain:
    """The stages and their entrances. A placed node is a stage with a thread; the others share a thread.

    A node with concurrency is a stage, too.

    Attributes:
        stages: The stages, in order.
        entrances: Their entrances.
    """

    def __init__(self, graph: Graph, metrics: LoopMetrics | None = None) -> None:
        """Claim the nodes, whose metrics may be collected; none is called yet."""
        known = graph.known or known_of(graph)
        self.stages = _divide(known.stages) if known.stages else [_only(graph, known)]
        if metrics is not None:
            _measure(self.stages, metrics)
        self.entrances = [_entrance(stage, is_last=stage is self.stages[-1]) for stage in self.stages]

    @property
    def is_concurrent(self) -> bool:
        """Whether a node receives several items at once."""
        return any(isinstance(stage, ConcurrentStage) for stage in self.stages)

    @property
    def makes_several(self) -> bool:
        """Whether nodes of one of several stages may have any number of outputs for an item."""
        return len(self.stages) > 1 and any(stage.known.makes_several for stage in self.stages)

    @property
    def is_busy(self) -> bool:
        """Whether a call is inside."""
        return any(entrance.is_busy for entrance in self.entrances)

    async def initialize(self) -> None:
        """Initialize the nodes, in order. `clean_up` must be called in any case."""
        for stage in self.stages:
            await stage.initialize()

    async def clean_up(self) -> list[BaseException]:
        """Clean up the nodes that were initialized, in reverse order; return what they raised."""
        failures = []
        for stage in reversed(self.stages):
            failures += await stage.clean_up()
        return failures

    def clean_up_at_once(self) -> bool:
        """Clean up as far as no code of the user runs for it; return whether these are all nodes."""
        return all(stage.clean_up_at_once() for stage in reversed(self.stages))

    def settle_alone(self) -> None:
        """Wait until all threads have ended what they do, where the event loop no longer runs."""
        for stage in self.stages:
            stage.settle_alone()

    def may_wait_in_cleanup(self) -> bool:
        """Whether `clean_up` may suspend, and so be cancelled."""
        return any(stage.may_wait_in_cleanup() for stage in self.stages)

    async def interrupt(self) -> None:
        """Call `interrupt` of the nodes, in order."""
        for stage in self.stages:
            call = await stage.enter(0)
            try:
                await stage.interrupt()
            finally:
                call.leave()

    def shut(self, *, is_paused: bool = False, is_closed: bool = False) -> None:
        """Pause or close the entrances, or open them after a pause."""
        for entrance in self.entrances:
            entrance.shut(is_paused=is_paused, is_closed=is_closed)

    def clear_lines(self, refusal: Refusal) -> tuple[list[asyncio.Future[None]], int]:
        """Refuse all calls that wait; return what they wait for, and how many calls of the user there are."""
        turns = []
        count = 0
        for entrance in self.entrances:
            refused, calls = entrance.clear_line(refusal)
            turns += refused
            count += calls + entrance.count_calls()
        return turns, count

    async def stop_inside(self, error: Refusal) -> None:
        """Stop the calls that are inside, and wait until they have left."""
        inside = [(entrance, insider) for entrance in self.entrances for insider in entrance.insiders()]
        for entrance in self.entrances:
            entrance.begin_stop(error)
        for entrance, insider in inside:
            # No other call enters meanwhile.
            await entrance.wait_until_left(insider)

    def abandon(self) -> Entrance:
        """Call no node any more; return the entrance of the stage whose node has not returned."""
        for stage in self.stages:
            stage.abandon()
        for entrance in self.entrances:
            if entrance.stage.phase != "process" or entrance.stage.is_thread_busy:
                return entrance
        inside = [entrance for entrance in self.entrances if entrance.is_busy]
        return inside[0] if inside else self.entrances[0]


def _only(graph: Graph, known: Known) -> Stage:
    if is_concurrent(graph.entries[-1]):
        return ConcurrentStage(graph)
    return SessionStage(graph) if known.is_streaming else Stage(graph)


def _entrance(stage: Stage, *, is_last: bool) -> Entrance:
    if isinstance(stage, ConcurrentStage):
        return ConcurrentEntrance(stage, keeps_order=stage.is_ordered and not is_last)
    return Entrance(stage)


def _measure(stages: list[Stage], metrics: LoopMetrics) -> None:
    first = 0
    for stage in stages:
        stage.metrics = metrics.of_stage(first, len(stage.nodes))
        first += len(stage.nodes)


def _divide(parts: list[Graph]) -> list[Stage]:
    stages: list[Stage] = []
    beside: NodeThread | None = None
    for part in parts:
        first = stages[0] if stages else None
        if is_concurrent(part.entries[-1]):
            stages.append(ConcurrentStage(part, first))
            continue
        if part.known is not None and part.known.is_streaming:
            stages.append(SessionStage(part, first))
            continue
        has_own_thread = is_placed(part.entries)
        stage = Stage(part, first, None if has_own_thread else beside)
        stage.has_neighbours = not stage.known.makes_several
        if not has_own_thread:
            beside = beside or stage.thread
        stages.append(stage)
    return stages
