"""Streams of small items through workers, compared with a pool of the standard library."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.cores import one_core
from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.workers.worker_nodes import AddOne, AddOneLater, Filled, Labels
from remotemedia import Pipeline, with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

INTS = range(100_000)
CHUNK_SIZE = 64
"""The items that the pool sends together."""

SOME_INTS = range(20_000)
AT_ONCE = 16
"""How many coroutines are in progress."""

DICTS = [{"index": index, "text": "x" * 900, "labels": ["a", "b", "c"]} for index in range(10_000)]
"""About 1 kB each."""


def one_worker(effort: Effort) -> Samples:
    """Many small ints through a worker."""
    return _to_pool(AddOne(), INTS, 1, effort)


def two_workers(effort: Effort) -> Samples:
    """The same through two replicas."""
    return _to_pool(AddOne(), INTS, 2, effort)


def of_dicts(effort: Effort) -> Samples:
    """Items of a kilobyte through a worker."""
    return _to_pool(Labels(), DICTS, 1, effort)


def of_dicts_in_two(effort: Effort) -> Samples:
    """The same through two replicas."""
    return _to_pool(Labels(), DICTS, 2, effort)


def on_one_core(effort: Effort) -> Samples:
    """Small ints through a worker, with all processes on one core."""
    with one_core():
        return one_worker(effort)


def two_on_one_core(effort: Effort) -> Samples:
    """The same through two replicas."""
    with one_core():
        return two_workers(effort)


def in_a_row(effort: Effort) -> Samples:
    """Small ints through three workers, one behind the other, against one."""
    nodes = [with_options(AddOne(), placement="process") for _ in range(3)]
    with Pipeline(nodes).open() as three, Pipeline(nodes[:1]).open() as one:
        return alternate(lambda: _micros(three.map, INTS), lambda: _micros(one.map, INTS), effort.rounds(12))


def coroutines(effort: Effort) -> Samples:
    """Small ints through coroutines in a worker, 16 at once, and through as many tasks of a loop here."""
    node = with_options(AddOneLater(), placement="process", concurrency=AT_ONCE)
    with Pipeline([node]).open() as session:
        return alternate(lambda: _micros(session.map, SOME_INTS), _micros_of_tasks, effort.rounds(12))


def _micros_of_tasks() -> float:
    async def work() -> None:
        items, node = iter(SOME_INTS), AddOneLater()

        async def take() -> None:
            for item in items:
                await node.process(item)

        await asyncio.gather(*(take() for _ in range(AT_ONCE)))

    started = perf_counter()
    asyncio.run(work())
    return (perf_counter() - started) * 1e6 / len(SOME_INTS)


def arrays_in_a_row(effort: Effort) -> Samples:
    """Arrays of 1 MB to a worker, others to the next one, and others back, against as many copies."""
    nodes = [with_options(Filled(131_072), placement="process") for _ in range(2)]
    arrays = [np.ones(131_072)] * 200
    targets = [np.empty_like(arrays[0]) for _ in range(4)]

    def copies() -> float:
        started = perf_counter()
        for array in arrays:
            for target in targets:
                np.copyto(target, array)
        return (perf_counter() - started) * 1e6 / len(arrays)

    with Pipeline(nodes).open() as session:
        return alternate(lambda: _micros(session.map, arrays), copies, effort.rounds(12))


def _to_pool(node: Any, items: Any, workers: int, effort: Effort) -> Samples:
    placed = with_options(node, placement="process", replicas=workers)
    spawn = multiprocessing.get_context("spawn")
    with Pipeline([placed]).open() as session, spawn.Pool(workers) as pool:

        def by_pool(items: Any) -> Iterable[Any]:
            return pool.imap(node.process, items, chunksize=CHUNK_SIZE)

        return alternate(
            lambda: _micros(session.map, items), lambda: _micros(by_pool, items), effort.rounds(12)
        )


def _micros(stream: Callable[[Any], Iterable[Any]], items: Any) -> float:
    started = perf_counter()
    deque(stream(items), maxlen=0)
    return (perf_counter() - started) * 1e6 / len(items)


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row("worker-pool", "session.map through a worker, ints, an item", "Pool(1).imap by 64", 1.5, one_worker),
    _row("worker-pool-2", "the same, replicas=2", "Pool(2).imap by 64", 1.5, two_workers),
    _row("worker-pool-core", "the same, one worker on one core", "Pool(1).imap by 64", 1.5, on_one_core),
    _row("worker-pool-core-2", "the same, replicas=2", "Pool(2).imap by 64", 1.5, two_on_one_core),
    _row("worker-dicts", "the same through a worker, dicts of 1 kB", "Pool(1).imap by 64", 1.5, of_dicts),
    _row("worker-dicts-2", "the same, replicas=2", "Pool(2).imap by 64", 1.5, of_dicts_in_two),
    _row("worker-map-3", "three workers in a row, ints, an item", "one worker", 3.0, in_a_row),
    _row("worker-arrays", "1 MB to a worker, to the next and back", "four copies", 1.4, arrays_in_a_row),
    Benchmark(
        "worker-async",
        "coroutines in a worker, concurrency=16, an item",
        "16 tasks in this process",
        4.0,
        coroutines,
        unit="µs",
        compared_by="ours",
    ),
]
