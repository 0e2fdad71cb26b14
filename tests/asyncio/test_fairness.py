"""A thousand tasks call one session: each receives its own results, and none waits too long."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest

from remotemedia import Pipeline, with_options

TASKS = 1_000
CALLS = 5
WORST_TO_MEDIAN = 20


class Same:
    def process(self, item):
        return item


class SameLater:
    async def process(self, item):
        await asyncio.sleep(0)
        return item


class SameAtOnce:
    async def process(self, item):
        return item


class SameTwice:
    def process(self, item):
        yield item
        yield item


SUSPENDING = {
    "no placement": lambda: [Same()],
    "thread": lambda: [with_options(Same(), placement="thread")],
    "suspending": lambda: [SameLater()],
    "concurrent": lambda: [with_options(SameLater(), concurrency=8)],
    "mixed": lambda: [Same(), SameLater(), with_options(SameAtOnce(), placement="inline")],
    "two threads": lambda: [with_options(Same(), placement="thread", queue_size=4) for _ in range(2)],
}
IMMEDIATE = {
    "inline": lambda: [with_options(Same(), placement="inline")],
    "async": lambda: [SameAtOnce()],
    "inline generator": lambda: [with_options(SameTwice(), placement="inline"), SameAtOnce()],
}


def worst_to_median(ages):
    """Return the 99th percentile, in medians."""
    return statistics.quantiles(ages, n=100)[-1] / statistics.median(ages)


async def calls_of(session, number, results, clock):
    """Call the session several times; append each result, and what the clock counted during the call."""
    for turn in range(CALLS):
        item, began = (number, turn), clock()
        result = await session.call(item)
        results.append((item, result, clock() - began + 1))


@pytest.mark.parametrize("nodes", SUSPENDING)
def test_no_call_is_overtaken_by_many(nodes):
    """The age of a call is the number of calls that end while it waits."""
    results = []

    async def main():
        async with Pipeline(SUSPENDING[nodes]()).open() as session:
            await asyncio.gather(
                *(calls_of(session, task, results, results.__len__) for task in range(TASKS))
            )

    asyncio.run(main())

    assert len(results) == TASKS * CALLS
    assert all(result == item for item, result, _ in results)
    assert worst_to_median([age for *_, age in results]) <= WORST_TO_MEDIAN


@pytest.mark.parametrize("nodes", IMMEDIATE)
def test_no_call_takes_many_turns_of_the_loop(nodes):
    """Nothing has to be waited for, so a call takes one turn, or a few."""
    results, turns = [], 0

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main():
        counting = asyncio.create_task(count_turns())
        async with Pipeline(IMMEDIATE[nodes]()).open() as session:
            await asyncio.gather(*(calls_of(session, task, results, lambda: turns) for task in range(TASKS)))
        counting.cancel()

    asyncio.run(main())

    assert len(results) == TASKS * CALLS
    assert all(result in (item, [item, item]) for item, result, _ in results)
    assert worst_to_median([age for *_, age in results]) <= WORST_TO_MEDIAN


def test_an_item_of_a_slow_source_takes_few_turns_of_the_loop():
    """It gives other tasks no turn, because they had one while its source waited."""
    queue, turns = asyncio.Queue(), []

    class Source:
        async def process(self):
            while True:
                yield await queue.get()

    async def main():
        async with Pipeline([Source(), SameAtOnce(), SameAtOnce()]).open() as session:
            outputs = aiter(session)
            for item in range(5):
                # The last one was longer ago than other tasks may wait for their turn.
                time.sleep(0.002)  # noqa: ASYNC251 - No other task may run.
                queue.put_nowait(item)
                turns.append(await turns_until_done(anext(outputs)))
            await session.close()

    asyncio.run(main())

    assert max(turns[1:]) <= 3


async def turns_until_done(awaitable):
    """Return how many turns of the loop this takes."""
    future = asyncio.ensure_future(awaitable)
    turns = 0
    while not future.done():
        await asyncio.sleep(0)
        turns += 1
    return turns
