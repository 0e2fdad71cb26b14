"""Sessions on an event loop that a pipeline opens one after the other, and the ends of their nodes."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from remotemedia import Node, Pipeline, with_options
from remotemedia.exceptions import NodeError


def on_loop(test):
    """Run a coroutine as a test."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


class AddOne(Node):
    def process(self, item):
        return item + 1


class AsyncAddOne(Node):
    async def process(self, item):
        return item + 1


async def result_of(pipeline, item):
    async with pipeline.open() as session:
        return await session.call(item)


def inline(node):
    return with_options(node, placement="inline")


class TestNodesThatChange:
    """A pipeline keeps what it knows of its nodes for the next session, but only while it is true."""

    @pytest.mark.parametrize("place", [inline, lambda node: node])
    @on_loop
    async def test_a_method_of_the_class_may_be_replaced(self, place, monkeypatch):
        pipeline = Pipeline([place(AddOne()), AsyncAddOne()])
        before = await result_of(pipeline, 1)

        monkeypatch.setattr(AddOne, "process", lambda self, item: item * 10)

        assert (before, await result_of(pipeline, 1)) == (3, 11)

    @on_loop
    async def test_a_method_of_the_object_may_be_set(self):
        node = AddOne()
        pipeline = Pipeline([inline(node)])
        before = await result_of(pipeline, 1)

        node.process = lambda item: item * 10

        assert (before, await result_of(pipeline, 1)) == (2, 10)

    @on_loop
    async def test_a_function_may_become_a_coroutine(self, monkeypatch):
        async def process(self, item):
            await asyncio.sleep(0)
            return threading.current_thread()

        pipeline = Pipeline([AddOne()])
        before = await result_of(pipeline, 1)

        monkeypatch.setattr(AddOne, "process", process)

        assert (before, await result_of(pipeline, 1)) == (2, threading.current_thread())

    @on_loop
    async def test_the_code_of_a_function_may_be_replaced(self):
        class Changing(Node):
            def process(self, item):
                return item + 1

        pipeline = Pipeline([inline(Changing())])
        before = await result_of(pipeline, 1)

        Changing.process.__code__ = (lambda self, item: item * 10).__code__

        assert (before, await result_of(pipeline, 1)) == (2, 10)

    @on_loop
    async def test_a_node_may_choose_its_method_in_each_initialize(self):
        class Choosing(Node):
            def initialize(self):
                super().initialize()
                self.factor = getattr(self, "factor", 1) * 10
                factor = self.factor
                self.process = lambda item: item * factor

            def process(self, item):
                return item

            def cleanup(self):
                super().cleanup()
                del self.process

        pipeline = Pipeline([inline(Choosing())])

        assert [await result_of(pipeline, 1) for _ in range(3)] == [10, 100, 1000]

    @on_loop
    async def test_added_nodes_are_in_the_next_session(self):
        pipeline = Pipeline([inline(AddOne())])
        before = await result_of(pipeline, 1)

        pipeline.add_node(inline(AddOne()))

        assert (before, await result_of(pipeline, 1)) == (2, 3)

    @on_loop
    async def test_two_sessions_may_be_open(self):
        pipeline = Pipeline([inline(AddOne()), AsyncAddOne()])

        async with pipeline.open() as one, pipeline.open() as other:
            assert await asyncio.gather(one.call(1), other.call(2)) == [3, 4]


class Cleaning(Node):
    """Records where it is cleaned up; what that does comes from the test."""

    def __init__(self, work=lambda: None):
        self.work = work
        self.thread = None

    def process(self, item):
        self.thread = threading.get_ident()
        return item

    def cleanup(self):
        super().cleanup()
        assert self.thread == threading.get_ident() != threading.main_thread().ident
        return self.work()


@pytest.fixture(params=["beside", "placed"])
def on_thread(request):
    """The pipeline of a node that is called on a thread of its session."""
    options = {"placement": "thread"} if request.param == "placed" else {}
    return lambda node: Pipeline([with_options(node, **options), AsyncAddOne()])


class TestEndsOfThreads:
    @on_loop
    async def test_nodes_without_a_lifecycle_of_their_own_start_no_thread(self, on_thread):
        node = AddOne()

        async with on_thread(node).open():
            threads = threading.enumerate()
            is_initialized = node.is_initialized

        assert threads == [threading.main_thread()]
        assert (is_initialized, node.is_initialized) == (True, False)

    @on_loop
    async def test_they_are_called_on_one(self, on_thread):
        node = Cleaning()

        await result_of(on_thread(node), 1)

        assert node.thread != threading.get_ident()
        assert threading.enumerate() == [threading.main_thread()]

    @on_loop
    async def test_a_slow_cleanup_does_not_hold_up_the_loop(self, on_thread):
        is_noticed = threading.Event()
        node = Cleaning(lambda: is_noticed.wait(5))
        loop = asyncio.get_running_loop()

        async with on_thread(node).open() as session:
            await session.call(1)
            # Until this is called, `cleanup` does not return.
            loop.call_soon(is_noticed.set)

        assert is_noticed.is_set()
        assert not node.is_initialized
        assert threading.enumerate() == [threading.main_thread()]

    @pytest.mark.parametrize("error", [ValueError, StopIteration])
    @on_loop
    async def test_an_error_of_cleanup_is_raised(self, on_thread, error):
        def fail():
            raise error("no")

        node = Cleaning(fail)
        with pytest.raises(NodeError) as raised:
            await result_of(on_thread(node), 1)

        assert type(raised.value.__cause__) is error
        assert raised.value.phase == "cleanup"
        assert not node.is_initialized

    @on_loop
    async def test_a_coroutine_from_cleanup_is_awaited(self, on_thread):
        awaited_in = []

        async def end():
            await asyncio.sleep(0)
            awaited_in.append(threading.get_ident())

        await result_of(on_thread(Cleaning(end)), 1)

        assert awaited_in == [threading.get_ident()]

    @on_loop
    async def test_a_cancelled_close_waits_for_cleanup(self, on_thread):
        has_begun, may_end = threading.Event(), threading.Event()

        def end():
            has_begun.set()
            may_end.wait(5)

        node = Cleaning(end)
        task = asyncio.create_task(result_of(on_thread(node), 1))
        await asyncio.to_thread(has_begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not node.is_initialized
        assert threading.enumerate()[0] is threading.main_thread()


class Waiting:
    """Waits for an event if the item is one."""

    def process(self, item):
        if isinstance(item, threading.Event):
            return item.wait(5)
        return item


class TestQuickWork:
    """The loop waits a moment for work of a thread that was quick the last time."""

    @on_loop
    async def test_work_that_needs_the_loop_ends(self):
        loop = asyncio.get_running_loop()
        async with Pipeline([Waiting()]).open() as session:
            results = []
            for item in range(5):
                await session.call(item)
                event = threading.Event()
                loop.call_soon(event.set)
                results.append(await session.call(event))

        assert results == [True] * 5

    @on_loop
    async def test_other_tasks_run_between_quick_calls(self):
        turns = 0

        async def count():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with Pipeline([Waiting()]).open() as session:
            task = asyncio.create_task(count())
            for item in range(2000):
                await session.call(item)
            task.cancel()

        assert turns >= 5

    @on_loop
    async def test_a_slow_call_after_quick_ones_is_cancelled(self):
        event = threading.Event()
        async with Pipeline([Waiting()]).open() as session:
            for item in range(3):
                await session.call(item)
            asyncio.get_running_loop().call_later(0.05, event.set)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await session.call(event)

            assert await session.call(4) == 4
