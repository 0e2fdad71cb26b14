"""Many callers, many sessions, many items, cancellations at any moment: nothing is lost, left or mixed up."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path

import pytest
from stream_nodes import Add, AsyncAdd, Count, Noting, Odd, Twice, Worker, thread_count

from remotemedia import Batch, Pipeline, with_options
from remotemedia.exceptions import SessionClosedError, SessionInterruptedError

LONG = [pytest.mark.long, pytest.mark.timeout(1200)]


def shortly_and_long(short, long):
    """A figure of `make test`, and one of `make test-long`."""
    return [short, pytest.param(long, marks=LONG)]


@pytest.fixture
def unraisable(monkeypatch):
    """What nobody could raise, and what event loops complain about."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: found.append(error.exc_value))
    monkeypatch.setattr(threading, "excepthook", lambda error: found.append(error.exc_value))
    return found


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def busy_pipeline():
    """Filters, generators, a fan-out and a join, on threads and inline, with and without coroutines."""
    pipeline = Pipeline("busy")
    pipeline.add_node(AsyncAdd(), id="in", concurrency=16)
    pipeline.add_node(Odd(), id="odd", after="in", placement="thread")
    pipeline.add_node(Twice(), id="twice", after="in")
    pipeline.add_node(Noting("tens", []), id="same", after="in", queue_size=8)
    pipeline.add_node(Together(), id="all", after=["odd", "twice", "same"], join=True)
    return pipeline


class Together:
    def process(self, item):
        return (item["odd"], tuple(item["twice"]), item["same"])


def expected(number):
    number += 1
    return (number if number % 2 else None, (number, number), number)


class TestCallers:
    @pytest.mark.parametrize("count", shortly_and_long(4_000, 100_000))
    def test_64_tasks_get_their_own_answers(self, count):
        numbers = iter(range(count))

        async def call(session):
            return [await session.call(number) == expected(number) for number in numbers]

        async def main():
            async with busy_pipeline().open() as session:
                return await asyncio.gather(*(call(session) for _ in range(64)))

        answers = [answer for one in asyncio.run(main()) for answer in one]

        assert len(answers) == count
        assert all(answers)

    @pytest.mark.parametrize("count", shortly_and_long(4_000, 100_000))
    @pytest.mark.parametrize("pipeline", [busy_pipeline, lambda: Pipeline([Add(), Noting(log=[])])])
    def test_8_threads_get_their_own_answers(self, count, pipeline):
        def call(start):
            answers = ((number, session.call(number)) for number in range(start, count, 8))
            return [answer in (number + 1, expected(number)) for number, answer in answers]

        with pipeline().open() as session:
            workers = [Worker(lambda start=start: call(start)) for start in range(8)]
            for worker in workers:
                worker.join()
            answers = [answer for worker in workers for answer in worker.result()]

        assert len(answers) == count
        assert all(answers)


class Item:
    """Something that a weak reference can follow."""


class Passes:
    def process(self, item):
        return item


class AsyncPasses:
    async def process(self, item):
        return item


def seen_pipeline(seen):
    nodes = [Passes(), Passes(), AsyncPasses()]
    seen += map(weakref.ref, nodes)
    return Pipeline(
        [nodes[0], with_options(nodes[1], placement="thread"), with_options(nodes[2], concurrency=4)]
    )


def seen_items(seen):
    items = [Item() for _ in range(3)]
    seen += map(weakref.ref, items)
    return items


def use_session(seen):
    with seen_pipeline(seen).open() as session:
        seen.append(weakref.ref(session))
        session.call(seen_items(seen))
        list(session.map(seen_items(seen)))
        session.put(seen_items(seen))


def use_async_session(seen):
    async def main():
        async with seen_pipeline(seen).open() as session:
            seen.append(weakref.ref(session))
            await session.call(seen_items(seen))
            async for _ in session.map(seen_items(seen)):
                pass
            await session.put(seen_items(seen))
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


class TestNothingIsLeft:
    @pytest.mark.parametrize("use", [use_session, use_async_session])
    @pytest.mark.parametrize("count", shortly_and_long(200, 1_000))
    def test_sessions_leave_no_thread_file_task_or_object(self, use, count):
        seen = []
        for _ in range(20):
            use(seen)
        before = thread_count(), open_files(), resident_kib()

        for _ in range(count):
            use(seen)
        gc.collect()

        assert thread_count() <= before[0]
        assert open_files() <= before[1]
        assert [reference for reference in seen if reference() is not None] == []
        assert resident_kib() - before[2] < 8 * 1024

    @pytest.mark.parametrize("way", ["map", "put"])
    @pytest.mark.parametrize("count", shortly_and_long(50_000, 1_000_000))
    def test_a_slow_consumer_bounds_the_memory_of_a_fast_producer(self, way, count):
        read = itertools.count()

        def items():
            for _ in range(count):
                next(read)
                yield bytes(1000)

        def put_all(session):
            for item in items():
                session.put(item)
            session.end()

        def outputs(session):
            if way == "map":
                yield from session.map(items())
                return
            producer = Worker(lambda: put_all(session))
            yield from session
            producer.result()

        most = 0
        with Pipeline([Passes(), Passes()]).open(placement="thread", queue_size=16) as session:
            tracemalloc.start()
            for number, _ in enumerate(outputs(session)):
                if number % 1000 == 0:
                    most = max(most, tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()

        assert next(read) == count
        assert most < 4 << 20


class TestCancelledCalls:
    @pytest.mark.parametrize("count", shortly_and_long(1_000, 10_000))
    def test_at_random_moments(self, count, unraisable):
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
                answer = await call
            except asyncio.CancelledError:
                return True
            return answer == [number] * 9

        async def main():
            complaints = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with Pipeline(nodes).open() as session:
                answers = []
                for start in range(0, count, 50):
                    group = (call_and_cancel(session, number) for number in range(start, start + 50))
                    answers += await asyncio.gather(*group)
                await session.drain()
                last = await session.call(-1)
            return all(answers), last, complaints, len(asyncio.all_tasks())

        assert asyncio.run(main()) == (True, [-1] * 9, [], 1)
        gc.collect()
        assert next(begun) == next(ended)
        assert next(opened) == next(closed)
        assert unraisable == []

    @pytest.mark.parametrize("count", shortly_and_long(100, 1_000))
    def test_event_loops_that_close_with_work_in_flight(self, count, unraisable, caplog):
        cancelled, closed = [], []
        before = thread_count()

        class Waits:
            async def process(self, item):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(item)
                    raise

        class Gives:
            def process(self, item):
                try:
                    yield item
                    yield item
                finally:
                    closed.append(item)

        async def main(number):
            async with Pipeline([Gives(), with_options(Waits(), concurrency=4)]).open() as session:
                calls = [asyncio.create_task(session.call(number)) for _ in range(4)]
                for call in calls:
                    # Nobody waits for them in the end.
                    call.add_done_callback(lambda call: call.cancelled() or call.exception())
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                if number % 2:
                    raise KeyError(number)
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
                await asyncio.gather(*calls)

        for number in range(count):
            with pytest.raises((KeyError, asyncio.CancelledError)):
                asyncio.run(main(number))
        gc.collect()

        assert unraisable == []
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert thread_count() <= before
        assert set(cancelled) <= set(range(count))


class TestSwitchInterval:
    @pytest.mark.timeout(300)
    def test_8_threads_over_all_entry_points_with_debug_logging(self, unraisable):
        """The interpreter switches threads as often as it can, and every step of every item is logged."""
        rounds = 6

        def use(number):
            for turn in range(rounds):
                with pipeline(turn).open(enable_metrics=bool(turn % 2), queue_size=4) as session:
                    shared.append(session)
                    use_all(session, number)

        def use_all(session, number):
            try:
                session.call(number)
                list(itertools.islice(session.map(itertools.count()), 5))
                for item in range(5):
                    session.put(item)
                session.interrupt()
                session.drain()
                session.metrics()
                session.put(1)
                # A session of another thread, at any moment of its life.
                shared[number % len(shared)].call(1)
                session.end()
                list(session)
            except (SessionInterruptedError, SessionClosedError):
                pass

        def pipeline(turn):
            options = [{}, {"placement": "thread"}, {"queue_size": 2}]
            nodes = [
                with_options(Add(), **options[turn % 3]),
                with_options(AsyncAdd(), concurrency=4),
                Count(),
            ]
            return Pipeline([*nodes, with_options(Batched(), batch=Batch(4, max_wait=0.001))])

        class Batched:
            def process(self, items):
                return items

        class Listens(logging.Handler):
            def emit(self, record):
                record.getMessage()

        shared = []
        logger, handler, before = logging.getLogger("remotemedia"), Listens(), sys.getswitchinterval()
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.DEBUG)
        sys.setswitchinterval(1e-6)
        try:
            workers = [Worker(lambda number=number: use(number)) for number in range(8)]
            for worker in workers:
                worker.join(240)
                worker.result()
        finally:
            sys.setswitchinterval(before)
            logger.setLevel(level)
            logger.removeHandler(handler)

        assert unraisable == []
