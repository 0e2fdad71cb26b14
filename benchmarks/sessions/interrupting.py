"""How long it takes to interrupt a session with many items."""

from __future__ import annotations

import asyncio
import functools
import threading
from queue import Queue
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, alternate
from remotemedia import Node, Pipeline

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ITEMS = 10_000


class Busy(Node):
    """Processes its first item until it is interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.is_busy = threading.Event()

    async def process(self, item: int) -> int:
        """Return the item after an hour."""
        self.is_busy.set()
        await asyncio.sleep(3600)
        return item


def queued(effort: Effort) -> Samples:
    """An interrupt while the items wait before the node."""
    node = Busy()
    with Pipeline([node]).open(queue_size=ITEMS) as session:

        def interrupt() -> float:
            node.is_busy.clear()
            for item in range(ITEMS):
                session.put(item)
            node.is_busy.wait()
            started = perf_counter()
            dropped = session.interrupt()
            took = (perf_counter() - started) * 1e3
            _check(dropped)
            return took

        return alternate(interrupt, _clear_queue, effort.rounds(60))


def parked(effort: Effort) -> Samples:
    """An interrupt while tasks wait to put the items in."""
    with asyncio.Runner() as runner:
        return runner.run(_parked_rounds(effort.rounds(30)))


async def _parked_rounds(rounds: int) -> Samples:
    node = Busy()
    samples: Samples = []
    async with Pipeline([node]).open() as session:
        for _ in range(rounds + 1):
            node.is_busy.clear()
            puts = [asyncio.create_task(session.put(item)) for item in range(ITEMS)]
            await asyncio.to_thread(node.is_busy.wait)
            started = perf_counter()
            dropped = await session.interrupt()
            took = (perf_counter() - started) * 1e3
            _check(dropped)
            await asyncio.gather(*puts)
            samples.append((took, _clear_queue()))
    return samples[1:]


def _clear_queue() -> float:
    """Do the least that a hand-written interrupt would do."""
    queue: Queue[int] = Queue()
    for item in range(ITEMS):
        queue.put(item)
    started = perf_counter()
    with queue.mutex:
        queue.queue.clear()
    return (perf_counter() - started) * 1e3


def _check(dropped: int) -> None:
    if dropped != ITEMS:
        raise AssertionError(f"{dropped} of {ITEMS} items were dropped")


_row = functools.partial(
    Benchmark, against="clearing a queue.Queue of as many", unit="ms", compared_by="difference", bar=2.0
)

BENCHMARKS = [
    _row("interrupt", "interrupt with 10,000 items queued", measure=queued),
    _row("interrupt-parked", "interrupt with 10,000 puts that wait", measure=parked),
]
