"""Trivial nodes on threads of their own: what it costs to go from one thread to the next."""

from __future__ import annotations

import functools
import statistics
import threading
from itertools import pairwise
from queue import SimpleQueue
from typing import TYPE_CHECKING

from benchmarks.harness.cores import busy_cores
from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import micros_of_each, millis_to_read
from remotemedia import Node, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ITEMS = list(range(100_000))
CALLS = 2_000
BUSY_CALLS = 200
BATCH = 32


class Add(Node):
    """Adds one."""

    def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


class AddToAll(Node):
    """Adds one to each item of a batch."""

    def process(self, batch: list[int]) -> list[int]:
        """Return the next numbers."""
        return [item + 1 for item in batch]


class HandWritten:
    """The code of a programmer: a thread for each node, a `SimpleQueue` before each and behind the last."""

    def __init__(self, nodes: list[Add]) -> None:
        self.queues: list[SimpleQueue[int | None]] = [SimpleQueue() for _ in range(len(nodes) + 1)]
        steps = zip(nodes, pairwise(self.queues), strict=True)
        self.threads = [threading.Thread(target=_work, args=(node, *queues)) for node, queues in steps]
        for thread in self.threads:
            thread.start()

    def call(self, item: int) -> int | None:
        """Send an item and wait for its output."""
        self.queues[0].put(item)
        return self.queues[-1].get()

    def map(self, items: list[int]) -> Iterator[int]:
        """Send all items from a thread, and yield their outputs."""
        feeder = threading.Thread(target=self._feed, args=(items,))
        feeder.start()
        while (output := self.queues[-1].get()) is not None:
            yield output
        for thread in [feeder, *self.threads]:
            thread.join()

    def close(self) -> None:
        """End the threads."""
        self.queues[0].put(None)
        for thread in self.threads:
            thread.join()

    def _feed(self, items: list[int]) -> None:
        for item in items:
            self.queues[0].put(item)
        self.queues[0].put(None)


def _work(node: Add, before: SimpleQueue[int | None], behind: SimpleQueue[int | None]) -> None:
    while (item := before.get()) is not None:
        behind.put(node.process(item))
    behind.put(None)


def mapped(stages: int) -> Callable[[Effort], Samples]:
    """Return a function that reads a stream through so many stages."""

    def take(effort: Effort) -> Samples:
        nodes = [Add() for _ in range(stages)]
        with _placed(nodes).open() as session:
            return alternate(
                lambda: _micros(session.map(ITEMS)),
                lambda: _micros(HandWritten(nodes).map(ITEMS)),
                effort.rounds(30),
            )

    return take


def called(effort: Effort, calls: int = CALLS) -> Samples:
    """One item through a stage and back (median)."""
    by_hand = HandWritten([Add()])
    with _placed([Add()]).open() as session:
        samples = alternate(
            lambda: statistics.median(micros_of_each(session.call, range(calls))),
            lambda: statistics.median(micros_of_each(by_hand.call, range(calls))),
            effort.rounds(30),
        )
    by_hand.close()
    return samples


def called_while_busy(effort: Effort) -> Samples:
    """The same while all cores are busy."""
    with busy_cores():
        return called(effort, BUSY_CALLS)


def batched(effort: Effort) -> Samples:
    """A node that takes batches, against the same calls with slices of the list."""
    node = AddToAll()
    with Pipeline([node.with_options(batch=BATCH)]).open() as session:
        return alternate(
            lambda: _micros(session.map(ITEMS)),
            lambda: _micros(_in_slices(node)),
            effort.rounds(30),
        )


def _in_slices(node: AddToAll) -> Iterator[int]:
    for start in range(0, len(ITEMS), BATCH):
        yield from node.process(ITEMS[start : start + BATCH])


def _placed(nodes: list[Add]) -> Pipeline:
    return Pipeline([node.with_options(placement="thread") for node in nodes])


def _micros(outputs: Iterator[int]) -> float:
    """Read all outputs: the microseconds of an item."""
    return millis_to_read(outputs, len(ITEMS)) * 1e3 / len(ITEMS)


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row("thread-map", "session.map through a thread, an item", "threads over SimpleQueue", 2.5, mapped(1)),
    _row("thread-map-3", "the same through three threads", "threads over SimpleQueue", 2.5, mapped(3)),
    _row("thread-call", "session.call through a thread (median)", "a pair of SimpleQueue", 1.5, called),
    _row("thread-call-busy", "the same, all cores busy", "a pair of SimpleQueue", None, called_while_busy),
    Benchmark(
        "batch-map",
        "session.map, batch=32, an item",
        "calls with slices of the list",
        0.3,
        batched,
        unit="µs",
        compared_by="difference",
    ),
]
