"""Nodes that run at the same time: stages on threads, and coroutines in flight."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
from itertools import repeat
from queue import Queue
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness.loop_timing import alternate_on_loop
from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import micros_of_each, millis_to_read
from remotemedia import Node, Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.measuring import Effort, Samples
    from remotemedia import AsyncSession

__all__ = ["BENCHMARKS"]

WORK_US = 1_000.0
ITEMS = 200
QUEUE_SIZE = 64
"""The number of items that wait between the hand-written threads, as in a session."""

REPLIES = 100
REPLY_SECS = 0.010


class Digest(Node):
    """Work that releases the interpreter lock, as hashing does."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.data = bytes(size)

    def process(self, item: int) -> int:
        """Return the item, some time later."""
        hashlib.sha256(self.data)
        return item


class Reply(Node):
    """Waits as for a remote service."""

    async def process(self, item: int) -> int:
        """Return the item, some time later."""
        await asyncio.sleep(REPLY_SECS)
        return item


def two_stages(effort: Effort) -> Samples:
    """Two nodes on separate threads, compared with the same nodes in sequence."""
    nodes = _digests()
    # A queue of its own keeps a node from sharing the thread of its neighbour.
    apart = [node.with_options(placement="thread", queue_size=QUEUE_SIZE) for node in nodes]
    with Pipeline(nodes).open() as in_turn, Pipeline(apart).open() as at_once:
        return alternate(
            lambda: millis_to_read(at_once.map(range(ITEMS)), ITEMS),
            lambda: millis_to_read(in_turn.map(range(ITEMS)), ITEMS),
            effort.rounds(24),
        )


def two_threads(effort: Effort) -> Samples:
    """Threads and queues by hand against the same nodes in turn."""
    nodes = _digests()
    with Pipeline(nodes).open() as in_turn:
        return alternate(
            lambda: millis_to_read(_by_threads(nodes), ITEMS),
            lambda: millis_to_read(in_turn.map(range(ITEMS)), ITEMS),
            effort.rounds(24),
        )


def concurrency(effort: Effort) -> Samples:
    """Coroutines of one node in flight against `asyncio.gather`."""
    return asyncio.run(_concurrent_rounds(effort.rounds(60)))


async def _concurrent_rounds(rounds: int) -> Samples:
    node = Reply()
    async with Pipeline([node.with_options(concurrency=REPLIES)]).open() as session:
        return await alternate_on_loop(lambda: _map(session), lambda: _gather(node), rounds)


async def _map(session: AsyncSession) -> float:
    started = perf_counter()
    outputs = [output async for output in session.map(range(REPLIES))]
    took = (perf_counter() - started) * 1e3
    if outputs != list(range(REPLIES)):
        raise AssertionError("the session gives other outputs than gather")
    return took


async def _gather(node: Reply) -> float:
    started = perf_counter()
    await asyncio.gather(*(node.process(item) for item in range(REPLIES)))
    return (perf_counter() - started) * 1e3


def _digests() -> list[Digest]:
    """Two nodes that take so long on this machine."""
    node = Digest(1_000_000)
    best = min(micros_of_each(node.process, repeat(0, 20)))
    size = round(len(node.data) * WORK_US / best)
    return [Digest(size), Digest(size)]


def _by_threads(nodes: list[Digest]) -> Iterator[int]:
    """The code of a programmer: a thread per node, bounded queues between them, `None` at the end."""
    queues: list[Queue[int | None]] = [Queue(QUEUE_SIZE) for _ in range(len(nodes) + 1)]
    steps = zip(nodes, queues, queues[1:], strict=False)
    threads = [threading.Thread(target=_work, args=step) for step in steps]
    threads.append(threading.Thread(target=_feed, args=(queues[0],)))
    for thread in threads:
        thread.start()
    while (output := queues[-1].get()) is not None:
        yield output
    for thread in threads:
        thread.join()


def _work(node: Digest, before: Queue[int | None], behind: Queue[int | None]) -> None:
    while (item := before.get()) is not None:
        behind.put(node.process(item))
    behind.put(None)


def _feed(first: Queue[int | None]) -> None:
    for item in range(ITEMS):
        first.put(item)
    first.put(None)


_row = functools.partial(Benchmark, unit="ms", compared_by="ratio")

BENCHMARKS = [
    _row("two-stages", "2 nodes of 1 ms on threads, 200 items", "the same nodes inline", 0.53, two_stages),
    _row("two-threads", "the same by hand, threads and queues", "the same nodes inline", None, two_threads),
    _row(
        "concurrency",
        "100 calls of 10 ms with concurrency=100",
        "asyncio.gather of the same calls",
        1.1,
        concurrency,
    ),
]
