"""Calls cancelled and event loops closed at any time: everything ends."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random

import pytest
from stream_nodes import join_closing_threads, shortly_and_long, thread_count, threads_since

from remotemedia import Pipeline, with_options


@pytest.mark.parametrize("count", shortly_and_long(1_000, 10_000))
def test_calls_cancelled_at_random_times(count, unraisable):
    begun, ended, opened, closed = (
        itertools.count(),
        itertools.count(),
        itertools.count(),
        itertools.count(),
    )

    class Waits:
        async def process(self, item):
            next(begun)
            try:
                await asyncio.sleep(random.random() / 500)
            finally:
                next(ended)
            return item

    class Gives:
        def process(self, item):
            next(opened)
            try:
                for _ in range(3):
                    yield item
            finally:
                next(closed)

    nodes = [
        with_options(Waits(), concurrency=32),
        Gives(),
        Waits(),
        with_options(Gives(), placement="thread"),
    ]
    chance = random.Random(5)

    async def call_and_cancel(session, number):
        call = asyncio.create_task(session.call(number))
        await asyncio.sleep(chance.random() / 200)
        call.cancel()
        try:
            result = await call
        except asyncio.CancelledError:
            return True
        return result == [number] * 9

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with Pipeline(nodes).open() as session:
            results = []
            for start in range(0, count, 50):
                group = (call_and_cancel(session, number) for number in range(start, start + 50))
                results += await asyncio.gather(*group)
            await session.drain()
            last = await session.call(-1)
        return all(results), last, complaints, len(asyncio.all_tasks())

    assert asyncio.run(main()) == (True, [-1] * 9, [], 1)
    gc.collect()
    assert next(begun) == next(ended)
    assert next(opened) == next(closed)
    assert unraisable == []


class Waits:
    """Counts how often it began, was cancelled, and ended."""

    def __init__(self):
        self.begun, self.cancelled, self.ended, self.cleaned_up = 0, 0, 0, 0

    async def process(self, item):
        self.begun += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended += 1

    def cleanup(self):
        self.cleaned_up += 1


class Gives:
    """Counts its open generators."""

    def __init__(self):
        self.open = []

    def process(self, item):
        self.open.append(item)
        try:
            yield item
            yield item
        finally:
            self.open.remove(item)


async def begin(session, number):
    """Begin work in flight, at any stage, for which no task of the loop waits."""
    for _ in range(4):
        await session.put(number)
    for _ in range(number % 7):
        await asyncio.sleep(0)
    if number % 5 == 0:
        await asyncio.sleep(0.001)


def leave_by_an_error(opening, number):
    async def main():
        async with opening as session:
            await begin(session, number)
            raise KeyError(number)

    with pytest.raises(KeyError):
        asyncio.run(main())


def leave_cancelled(opening, number):
    async def main():
        async with opening as session:
            await begin(session, number)
            calls = [asyncio.create_task(session.call(number)) for _ in range(4)]
            for call in calls:
                # No task waits for them in the end.
                call.add_done_callback(lambda call: call.cancelled() or call.exception())
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            await asyncio.gather(*calls)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def leave_it_open(opening, number):
    async def main():
        session = await opening.__aenter__()
        await begin(session, number)
        calls = [asyncio.create_task(session.call(number)) for _ in range(4)]
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)

    asyncio.run(main())


def close_the_loop(opening, number):
    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(opening.__aenter__())
    loop.run_until_complete(begin(session, number))
    loop.close()
    if number % 2:
        session.close_now(10)


WAYS = [leave_by_an_error, leave_cancelled, leave_it_open, close_the_loop]


@pytest.mark.parametrize("options", [{}, {"concurrency": 4}], ids=["one", "concurrent"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", shortly_and_long(25, 250))
def test_event_loops_that_close_with_work_in_flight(count, way, options, unraisable, caplog):
    before = thread_count()

    for number in range(count):
        waits, gives = Waits(), Gives()
        way(Pipeline([gives, with_options(waits, **options)]).open(), number)
        join_closing_threads()
        gc.collect(0)
        assert waits.begun == waits.ended
        # Work that begins after the event loop has cancelled its tasks is closed instead.
        assert waits.cancelled == waits.begun or way in {leave_it_open, close_the_loop}
        assert waits.cleaned_up == 1
        assert gives.open == []

    gc.collect()
    assert unraisable == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert threads_since(before) == 0
