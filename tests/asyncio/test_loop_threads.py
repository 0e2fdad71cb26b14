"""What runs on the event loop of the caller, what beside it, and how many threads that takes."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from loop_nodes import Same
from stream_nodes import thread_count

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._loop.stages import threads
from remotemedia._loop.stages.threads import NodeThread, RecentThreads

OTHER_THREADS = 4
"""Those of the process that belong to no session."""


class Where:
    """Records the threads of its methods."""

    def __init__(self):
        self.threads = {}

    def note(self, method):
        self.threads.setdefault(method, set()).add(threading.get_ident())

    def initialize(self):
        self.note("initialize")

    def process(self, item):
        self.note("process")
        return item

    def flush(self):
        self.note("flush")

    def cleanup(self):
        self.note("cleanup")

    def is_on(self, thread):
        """Return whether all methods ran on this thread alone."""
        return len(self.threads) == 4 and set().union(*self.threads.values()) == {thread}


class WhereGenerating(Where):
    def process(self, item):
        self.note("process")
        yield item


class Source:
    """An async source of a few items."""

    async def process(self):
        for item in range(3):
            await asyncio.sleep(0)
            yield item


async def run(nodes):
    await execute_pipeline_with_input(nodes, [1, 2])


async def run_async_generator(nodes):
    async def items():
        yield 1
        await asyncio.sleep(0)
        yield 2

    await execute_pipeline_with_input(nodes, items())


async def call_and_map(nodes):
    async with Pipeline(nodes).open() as session:
        await session.call(1)
        assert [output async for output in session.map([2, 3])] == [2, 3]


async def put(nodes):
    async with Pipeline(nodes).open() as session:
        await session.put(1)
        session.end()
        assert [output async for output in session] == [1]


WAYS = pytest.mark.parametrize("way", [run, run_async_generator, call_and_map, put])
KINDS = pytest.mark.parametrize("kind", [Where, WhereGenerating])


@WAYS
@KINDS
@pytest.mark.parametrize("neighbours", [0, 1])
def test_inline_nodes_run_on_the_loop_of_the_caller(way, kind, neighbours):
    node = kind()

    asyncio.run(way([*(Same() for _ in range(neighbours)), with_options(node, placement="inline")]))

    assert node.is_on(threading.get_ident())


@WAYS
@KINDS
def test_nodes_without_a_placement_have_one_thread_beside_the_loop(way, kind):
    first, last = kind(), kind()

    asyncio.run(way([first, Same(), last]))

    (thread,) = first.threads["process"]
    assert thread != threading.get_ident()
    assert first.is_on(thread)
    assert last.is_on(thread)


ON_LOOP = {
    "async": lambda: [Same(), Same()],
    "inline": lambda: [with_options(Where(), placement="inline")],
    "inline and async": lambda: [with_options(WhereGenerating(), placement="inline"), Same()],
}


@pytest.mark.parametrize("nodes", ON_LOOP)
def test_a_thousand_sessions_on_the_loop_take_no_threads(nodes):
    most = 0

    async def hold(number, all_are_open):
        nonlocal most
        async with Pipeline(ON_LOOP[nodes]()).open() as session:
            assert await session.call(number) == number
            await all_are_open.wait()
            most = max(most, thread_count())
            assert [output async for output in session.map([1, 2])] == [1, 2]

    async def main():
        before, all_are_open = thread_count(), asyncio.Barrier(1000)
        await asyncio.gather(*(hold(number, all_are_open) for number in range(1000)))
        return before

    before = asyncio.run(main())

    assert most <= before + OTHER_THREADS


def test_a_session_of_a_source_and_coroutines_takes_no_threads():
    async def main():
        before = thread_count()
        async with Pipeline([Source(), Same()]).open() as session:
            outputs = [output async for output in session]
            return outputs, thread_count() - before

    outputs, threads = asyncio.run(main())

    assert outputs == [0, 1, 2]
    assert threads <= OTHER_THREADS


def test_a_placed_node_takes_one_thread():
    async def hold(number, all_are_open):
        nodes = [Same(), with_options(Where(), placement="thread"), Same()]
        async with Pipeline(nodes).open() as session:
            assert await session.call(number) == number
            await all_are_open.wait()
            return thread_count()

    async def main():
        before, all_are_open = thread_count(), asyncio.Barrier(50)
        counts = await asyncio.gather(*(hold(number, all_are_open) for number in range(50)))
        return max(counts) - before

    assert asyncio.run(main()) <= 50 + OTHER_THREADS


def test_work_that_ends_while_the_loop_is_busy_is_announced_once(monkeypatch):
    announced = []

    async def main():
        loop = asyncio.get_running_loop()
        notify = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: announced.append(notify(call)))
        may_end = threading.Event()
        threads = [NodeThread(f"thread-{number}") for number in range(3)]
        jobs = [thread.begin(may_end.wait) for thread in threads]
        waiting = [asyncio.create_task(job.wait()) for job in jobs]
        await asyncio.sleep(0)

        may_end.set()
        for thread in threads:
            thread.join()
        await asyncio.gather(*waiting)
        return [job.take_value() for job in jobs]

    assert asyncio.run(main()) == [True, True, True]
    assert len(announced) == 1


def test_the_loop_does_not_wait_for_many_threads_that_receive_work_at_the_same_time():
    recent = RecentThreads()

    few = [recent.is_one_of_many(thread % 4, thread / 1e4) for thread in range(40)]
    many = [recent.is_one_of_many(thread, 1 + thread / 1e4) for thread in range(9)]
    later = [recent.is_one_of_many(thread % 9, 2 + thread / 50) for thread in range(40)]

    assert not any(few)
    assert many == [False] * 4 + [True] * 5
    assert not any(later)


def test_the_loop_does_not_wait_until_a_new_thread_runs():
    thread, done = NodeThread("new"), []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread.begin(lambda: done.append(1))
        done_at_once = [*done]
    finally:
        sys.setswitchinterval(interval)
    thread.join()

    assert (done_at_once, done) == ([], [1])


def test_work_whose_end_is_known_is_not_waited_for_again():
    thread = NodeThread("slow")
    job = thread.begin(lambda: None)
    while not thread.wait_briefly(job):
        thread.last_took = 0.0

    thread.last_took = 1.0

    assert thread.wait_briefly(job)
    thread.join()


def test_the_loop_does_not_wait_for_a_thread_whose_last_work_was_slow():
    thread = NodeThread("slow")
    job = thread.begin(lambda: None)
    thread.join()

    thread.last_took = 1.0

    assert not thread.wait_briefly(job)


@pytest.mark.parametrize("are_many", [False, True])
def test_a_call_waits_briefly_for_its_thread_unless_there_are_many(monkeypatch, are_many):
    waits = []

    def wait_briefly(job, _secs):
        waits.append(job)
        return False

    class Recent:
        def is_one_of_many(self, _thread, _now):
            return are_many

        def forget(self, _thread):
            pass

    async def main():
        async with Pipeline([with_options(Where(), placement="thread")]).open() as session:
            return [await session.call(item) for item in range(5)]

    monkeypatch.setattr(threads, "_recent", Recent())
    monkeypatch.setattr(threads.Job, "wait_briefly", wait_briefly)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert bool(waits) is not are_many


def test_threads_that_have_ended_are_not_many(monkeypatch):
    waits = []
    wait_briefly = threads.Job.wait_briefly

    def note(job, secs):
        waits.append(secs)
        return wait_briefly(job, secs)

    async def main():
        for _ in range(20):
            async with Pipeline([with_options(Where(), placement="thread")]).open() as session:
                await session.call(1)

    monkeypatch.setattr(threads, "_recent", threads.RecentThreads())
    # However slow the machine is, all threads work within this time.
    monkeypatch.setattr(threads, "_RECENT_SECS", 60)
    monkeypatch.setattr(threads.Job, "wait_briefly", note)
    asyncio.run(main())

    assert len(waits) >= 20
