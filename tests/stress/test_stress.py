"""Many callers, many sessions, many items: nothing is lost, leaked or mixed up."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stream_nodes import (
    Add,
    AsyncAdd,
    Noting,
    Odd,
    Twice,
    Worker,
    shortly_and_long,
    thread_count,
    threads_since,
)

from remotemedia import Pipeline, with_options


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
    def test_64_tasks_and_8_threads_get_their_own_results(self, count):
        numbers = iter(range(count))

        async def call(session):
            return [await session.call(number) == expected(number) for number in numbers]

        def call_from_thread(session, loop):
            calls = (
                (number, asyncio.run_coroutine_threadsafe(session.call(number), loop)) for number in numbers
            )
            return [call.result() == expected(number) for number, call in calls]

        async def main():
            loop = asyncio.get_running_loop()
            async with busy_pipeline().open() as session:
                with ThreadPoolExecutor(8) as threads:
                    calls = [loop.run_in_executor(threads, call_from_thread, session, loop) for _ in range(8)]
                    return await asyncio.gather(*calls, *(call(session) for _ in range(64)))

        by_caller = asyncio.run(main())
        results = [result for one in by_caller for result in one]

        assert all(by_caller), "each had its turn"

        assert len(results) == count
        assert all(results)

    @pytest.mark.parametrize("count", shortly_and_long(4_000, 100_000))
    @pytest.mark.parametrize("pipeline", [busy_pipeline, lambda: Pipeline([Add(), Noting(log=[])])])
    def test_8_threads_get_their_own_results(self, count, pipeline):
        def call(start):
            results = ((number, session.call(number)) for number in range(start, count, 8))
            return [result in (number + 1, expected(number)) for number, result in results]

        with pipeline().open() as session:
            workers = [Worker(lambda start=start: call(start)) for start in range(8)]
            for worker in workers:
                worker.join()
            results = [result for worker in workers for result in worker.result()]

        assert len(results) == count
        assert all(results)


class Item:
    """An object that accepts weak references."""


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

        assert threads_since(before[0]) == 0
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

        most, before = 0, resident_kib()
        with Pipeline([Passes(), Passes()]).open(placement="thread", queue_size=16) as session:
            tracemalloc.start()
            for number, _ in enumerate(outputs(session)):
                if number % 1000 == 0:
                    most = max(most, tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()

        assert next(read) == count
        assert most < 4 << 20
        # The collector does not traverse the queues of the engine.
        assert resident_kib() - before < 32 * 1024
