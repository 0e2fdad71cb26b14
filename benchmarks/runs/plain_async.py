"""Async nodes from plain Python: a run and a call, whose items cross to an event loop on another thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, alternate
from remotemedia import Node, Pipeline, _core
from remotemedia._graph.graph import resolve

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

COUNT = 20_000
CALLS = 1_000


class AddOne(Node):
    """Returns its item plus one, and never suspends."""

    async def process(self, item: int) -> int:
        """Return the next number."""
        return item + 1


def plain_run(effort: Effort) -> Samples:
    """A run on this thread, as `remotemedia run` makes it, against a loop under `asyncio.run`."""
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]
    items = list(range(COUNT))

    async def by_hand() -> list[int]:
        outputs = []
        for item in items:
            outputs.append(await third.process(await second.process(await first.process(item))))  # noqa: PERF401 - As a programmer would write it.
        return outputs

    def ours() -> float:
        started = perf_counter()
        outputs, _ = _core.run(resolve(nodes), items, False)  # noqa: FBT003 - Positional.
        took = perf_counter() - started
        if len(outputs) != COUNT:
            raise AssertionError(f"{len(outputs)} of {COUNT} items came out")
        return took * 1e6 / COUNT

    def theirs() -> float:
        started = perf_counter()
        asyncio.run(by_hand())
        return (perf_counter() - started) * 1e6 / COUNT

    return alternate(ours, theirs, effort.rounds(60))


def plain_call(effort: Effort) -> Samples:
    """Calls of a session, against `asyncio.run_coroutine_threadsafe` to a loop on another thread."""
    first, second, third = nodes = [AddOne(), AddOne(), AddOne()]

    async def by_hand(item: int) -> int:
        return await third.process(await second.process(await first.process(item)))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def theirs() -> float:
        started = perf_counter()
        for item in range(CALLS):
            asyncio.run_coroutine_threadsafe(by_hand(item), loop).result()
        return (perf_counter() - started) * 1e6 / CALLS

    try:
        with Pipeline(nodes).open() as session:

            def ours() -> float:
                started = perf_counter()
                for item in range(CALLS):
                    session.call(item)
                return (perf_counter() - started) * 1e6 / CALLS

            return alternate(ours, theirs, effort.rounds(60))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row(
        "plain-async-run",
        "run on a plain thread, 3 async nodes, an item",
        "await of the calls under asyncio.run",
        3.0,
        plain_run,
    ),
    _row(
        "plain-async-call",
        "session.call on a plain thread, 3 async nodes",
        "asyncio.run_coroutine_threadsafe by hand",
        2.0,
        plain_call,
    ),
]
