"""Round trips of items to a worker, compared with a pipe of the standard library and with plain copies."""

from __future__ import annotations

import functools
import multiprocessing
import statistics
from collections import deque
from contextlib import ExitStack, contextmanager
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.cores import busy_cores, one_core
from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import micros_of_each
from remotemedia import Pipeline, with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ROUND_TRIPS = 500
BUSY_TRIPS = 200
ITEMS = 100_000
PIPED_ITEMS = 10_000
SMALL_ARRAY = np.ones(8_192)
LARGE_ARRAY = np.ones(131_072)
HUGE_ARRAY = np.ones(1_310_720)
PERCENTILE = 99


class AddOne:
    """Returns a number, which takes no time."""

    def process(self, item: int) -> int:
        return item + 1


class First:
    """Returns a small part of a large item."""

    def process(self, item: Any) -> float:
        return float(item[0])


class Same:
    """Returns its item."""

    def process(self, item: Any) -> Any:
        return item


class Exchange:
    """Returns an array that it already has, so that only the transport is measured."""

    def initialize(self) -> None:
        self.array = np.zeros_like(HUGE_ARRAY)

    def process(self, _item: Any) -> Any:
        return self.array


def _serve(connection: Connection, node: Any) -> None:
    while (item := connection.recv()) is not None:
        connection.send(node.process(item))


@contextmanager
def _pipe(node: Any) -> Iterator[Callable[[Any], Any]]:
    """A node behind a `multiprocessing.Pipe`, which pickles."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, node))
    process.start()

    def call(item: Any) -> Any:
        here.send(item)
        return here.recv()

    try:
        yield call
    finally:
        here.send(None)
        process.join()
        here.close()
        there.close()


def _trips(call: Callable[[Any], Any], item: Any, count: int = ROUND_TRIPS) -> list[float]:
    return micros_of_each(call, repeat(item, count))


def _tail(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[PERCENTILE - 1]


def _to_pipe(node: Any, item: Any, of_times: Callable[[list[float]], float], effort: Effort) -> Samples:
    with (
        one_core(),
        Pipeline([with_options(node, placement="process")]).open() as session,
        _pipe(node) as call,
    ):
        return alternate(
            lambda: of_times(_trips(session.call, item)),
            lambda: of_times(_trips(call, item)),
            effort.rounds(30),
        )


def round_trip(effort: Effort) -> Samples:
    """A small int there and back, median."""
    return _to_pipe(AddOne(), 1, statistics.median, effort)


def round_trip_tail(effort: Effort) -> Samples:
    """A small int there and back, 99th percentile."""
    return _to_pipe(AddOne(), 1, _tail, effort)


def round_trip_while_busy(effort: Effort) -> Samples:
    """A small int there and back while all cores are busy, median."""
    with (
        busy_cores(),
        Pipeline([with_options(AddOne(), placement="process")]).open() as session,
        _pipe(AddOne()) as call,
    ):
        return alternate(
            lambda: statistics.median(_trips(session.call, 1, BUSY_TRIPS)),
            lambda: statistics.median(_trips(call, 1, BUSY_TRIPS)),
            effort.rounds(30),
        )


def array_there(effort: Effort) -> Samples:
    """64 kB there, a small reply back."""
    return _to_pipe(First(), SMALL_ARRAY, statistics.median, effort)


def stream(effort: Effort) -> Samples:
    """Many small ints in sequence, per item: on all cores, because the pipe is the fastest on one."""
    node = AddOne()
    with ExitStack() as stack:
        session = stack.enter_context(Pipeline([with_options(node, placement="process")]).open())
        with one_core():
            call = stack.enter_context(_pipe(node))

        def ours() -> float:
            started = perf_counter()
            deque(session.map(range(ITEMS)), maxlen=0)
            return (perf_counter() - started) * 1e6 / ITEMS

        def by_hand() -> float:
            with one_core():
                started = perf_counter()
                for item in range(PIPED_ITEMS):
                    call(item)
                return (perf_counter() - started) * 1e6 / PIPED_ITEMS

        return alternate(ours, by_hand, effort.rounds(12))


def _copies(pairs: list[tuple[Any, Any]]) -> float:
    times = []
    for _ in range(40):
        started = perf_counter()
        for target, array in pairs:
            np.copyto(target, array)
        times.append((perf_counter() - started) * 1e6)
    return statistics.median(times)


def _to_copies(
    node: Any, array: Any, pairs: list[tuple[Any, Any]], effort: Effort, *, with_trip: bool = False
) -> Samples:
    with one_core(), Pipeline([with_options(node, placement="process")]).open() as session:

        def baseline() -> float:
            # The round trip of a small item involves no copy.
            trip = statistics.median(_trips(session.call, [1.0])) if with_trip else 0.0
            return _copies(pairs) + trip

        return alternate(
            lambda: statistics.median(_trips(session.call, array, 40)), baseline, effort.rounds(30)
        )


def megabyte_there(effort: Effort) -> Samples:
    """1 MB there, a small reply back, compared with a copy and a small round trip."""
    pairs = [(np.empty_like(LARGE_ARRAY), LARGE_ARRAY)]
    return _to_copies(First(), LARGE_ARRAY, pairs, effort, with_trip=True)


def there_and_back(effort: Effort) -> Samples:
    """10 MB there, and another 10 MB of the node back."""
    pairs = [(np.empty_like(HUGE_ARRAY), HUGE_ARRAY)] * 2
    return _to_copies(Exchange(), HUGE_ARRAY, pairs, effort)


def there_and_back_apart(effort: Effort) -> Samples:
    """The same, compared with copies that touch as much memory: two arrays, each to its own target."""
    pairs = [(np.empty_like(array), array) for array in (HUGE_ARRAY, np.ones_like(HUGE_ARRAY))]
    return _to_copies(Exchange(), HUGE_ARRAY, pairs, effort)


def unchanged(effort: Effort) -> Samples:
    """10 MB there and back, unchanged."""
    return _to_copies(Same(), HUGE_ARRAY, [(np.empty_like(HUGE_ARRAY), HUGE_ARRAY)], effort)


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row(
        "round-trip",
        "an int to a worker and back, on one core (median)",
        "multiprocessing.Pipe",
        0.6,
        round_trip,
    ),
    _row("round-trip-p99", "the same (99th percentile)", "multiprocessing.Pipe", 1, round_trip_tail),
    _row(
        "round-trip-busy",
        "an int there and back, all cores busy (median)",
        "multiprocessing.Pipe",
        None,
        round_trip_while_busy,
    ),
    _row(
        "worker-map",
        "session.map of 100,000 ints, an item",
        "multiprocessing.Pipe, one by one, on one core",
        0.2,
        stream,
    ),
    _row("array-64k", "64 kB there, a float back, on one core", "multiprocessing.Pipe", 0.5, array_there),
    _row("array-1M", "1 MB there, a float back", "one copy and a small round trip", 1.4, megabyte_there),
    _row("array-10M", "10 MB there, other 10 MB back", "two copies", 1.2, there_and_back),
    _row("array-10M-apart", "the same", "copies of two arrays to two places", None, there_and_back_apart),
    _row("array-10M-same", "10 MB there and back unchanged", "one copy", 1.2, unchanged),
]
