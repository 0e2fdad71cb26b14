"""An open session of three trivial nodes: one call from plain Python, one from asyncio, and a stream."""

from __future__ import annotations

import asyncio
import functools
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness.loop_timing import medians_in_turn
from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.runs.custom_nodes import AddOne
from remotemedia import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

CALLS = 20_000
"""Calls from plain Python in a round, timed together: one takes about as long as reading the clock."""

ITEMS = 100_000


def session_call(effort: Effort) -> Samples:
    """Calls of a session, compared with three calls of `process`."""
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]

    def by_hand() -> float:
        started = perf_counter()
        for item in range(CALLS):
            third.process(second.process(first.process(item)))
        return (perf_counter() - started) * 1e6 / CALLS

    with Pipeline(nodes).open() as session:

        def ours() -> float:
            started = perf_counter()
            for item in range(CALLS):
                session.call(item)
            return (perf_counter() - started) * 1e6 / CALLS

        return alternate(ours, by_hand, effort.rounds(60))


def awaited_call(effort: Effort) -> Samples:
    """Calls of an async session, alternating with calls by hand on a thread of the default executor."""
    return asyncio.run(_awaited_rounds(effort.rounds(60)))


async def _awaited_rounds(rounds: int) -> Samples:
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]

    def by_hand(item: int) -> int:
        return third.process(second.process(first.process(item)))

    async with Pipeline(nodes).open() as session:
        return await medians_in_turn(session.call, lambda item: asyncio.to_thread(by_hand, item), rounds)


def session_map(effort: Effort) -> Samples:
    """A stream of items that are all there already."""
    return _against_chain(lambda: range(ITEMS), effort)


def lazy_map(effort: Effort) -> Samples:
    """A stream of items that come one by one, of which none is read ahead."""
    return _against_chain(lambda: (item for item in range(ITEMS)), effort)


def _against_chain(items: Callable[[], Iterable[int]], effort: Effort) -> Samples:
    """Time a stream against a chain of generators.

    Raises:
        AssertionError: If the two don't give the same outputs.
    """
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]

    def by_hand() -> Iterator[int]:
        return _through(third, _through(second, _through(first, items())))

    with Pipeline(nodes).open() as session:
        if list(session.map(items())) != list(by_hand()):
            raise AssertionError("the session gives other outputs than the chain by hand")
        return alternate(
            lambda: _consume(session.map(items())), lambda: _consume(by_hand()), effort.rounds(60)
        )


def _through(node: AddOne, items: Iterable[int]) -> Iterator[int]:
    for item in items:
        yield node.process(item)


def _consume(outputs: Iterable[int]) -> float:
    started = perf_counter()
    for _ in outputs:
        pass
    return (perf_counter() - started) * 1e3


_row = functools.partial(Benchmark, compared_by="ratio")

BENCHMARKS = [
    _row(
        "session-call",
        "session.call, 3 trivial nodes",
        "three calls of process",
        0.5,
        session_call,
        unit="µs",
        compared_by="difference",
    ),
    _row(
        "awaited-call",
        "await session.call, 3 trivial nodes (median)",
        "await asyncio.to_thread of the three calls",
        0.6,
        awaited_call,
        unit="µs",
    ),
    _row(
        "session-map",
        "session.map, 3 trivial nodes, range(100,000)",
        "chain of generators by hand",
        1.15,
        session_map,
        unit="ms",
    ),
    _row(
        "lazy-map",
        "session.map of a generator of 100,000 ints",
        "chain of generators by hand",
        1.3,
        lazy_map,
        unit="ms",
    ),
]
