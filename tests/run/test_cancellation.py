"""A cancelled call ends in every state: running work is stopped, nodes are cleaned up in reverse order."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from pathlib import Path

import pytest
from leftovers import wait_until
from stuck_nodes import Noting, Stuck, cancelled

from remotemedia import execute_pipeline_with_input
from remotemedia._session import run
from remotemedia.exceptions import NodeError


class InInitialize(Stuck):
    async def initialize(self):
        super().initialize()
        await self.stay()


class InCoroutine(Stuck):
    async def process(self, item):
        await self.stay()


class InAsyncGenerator(Stuck):
    async def process(self, item):
        yield item
        await self.stay()


class InStream(Stuck):
    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield item
            await self.stay()


class InFlush(Stuck):
    async def flush(self):
        await self.stay()


class InTask(Stuck):
    async def process(self, item):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.stay())


COROUTINES = [InInitialize, InCoroutine, InAsyncGenerator, InStream, InFlush, InTask]


class InFunction(Stuck):
    def process(self, item):
        self.stay_in_thread()
        return item


class InGenerator(Stuck):
    def process(self, item):
        try:
            yield item
            self.stay_in_thread()
            yield item
        finally:
            self.log.append("closed")


class InPlainInitialize(Stuck):
    def initialize(self):
        super().initialize()
        self.stay_in_thread()


@pytest.mark.parametrize("kind", COROUTINES)
def test_a_coroutine_is_cancelled_and_nodes_are_cleaned_up(kind, use_rust):
    log = []

    async def main():
        stuck = kind(log)
        nodes = [Noting("a", log), stuck, Noting("b", log)]
        return await cancelled(execute_pipeline_with_input(nodes, [1], use_rust=use_rust), stuck.is_there)

    task = asyncio.run(main())

    assert task.cancelled()
    assert log[-2:] == ["cleanup stuck", "cleanup a"]
    assert sorted(log[:-2]) == sorted([*before_cleanup(kind), "initialize a", "initialize stuck", "left"])


def before_cleanup(kind):
    return [] if kind is InInitialize else ["initialize b", "cleanup b"]


@pytest.mark.parametrize("kind", [InFunction, InGenerator, InPlainInitialize])
def test_a_function_returns_before_its_node_is_cleaned_up(kind):
    log = []

    async def main():
        stuck = kind(log)
        nodes = [Noting("a", log), stuck, Noting("b", log)]
        task = asyncio.create_task(execute_pipeline_with_input(nodes, [1, 2]))
        await stuck.is_there.wait()
        task.cancel()
        await asyncio.sleep(0)
        log.append("cancelled")
        stuck.may_return.set()
        await asyncio.wait([task])
        return task

    task = asyncio.run(main())

    assert task.cancelled()
    closed = ["closed"] if kind is InGenerator else []
    after = [] if kind is InPlainInitialize else ["cleanup b"]
    assert log[log.index("cancelled") + 1 :] == ["left", *closed, *after, "cleanup stuck", "cleanup a"]


def test_a_generator_that_waits_for_the_nodes_after_it_is_closed(use_rust):
    log = []

    class Generating(Noting):
        def process(self, item):
            try:
                yield item
            finally:
                self.log.append("closed")

    async def main():
        stuck = InCoroutine(log)
        call = execute_pipeline_with_input([Generating("a", log), stuck], [1], use_rust=use_rust)
        return await cancelled(call, stuck.is_there)

    assert asyncio.run(main()).cancelled()
    assert log[log.index("left") :] == ["left", "closed", "cleanup stuck", "cleanup a"]


def test_an_input_that_is_awaited_is_cancelled(use_rust):
    log = []

    async def main():
        stuck = Stuck(log)

        async def items():
            yield 1
            await stuck.stay()

        call = execute_pipeline_with_input([Noting("a", log)], items(), use_rust=use_rust)
        return await cancelled(call, stuck.is_there)

    assert asyncio.run(main()).cancelled()
    assert log == ["initialize a", "left", "cleanup a"]


def test_a_timeout_of_the_caller_works(use_rust):
    log = []

    async def main():
        stuck = InCoroutine(log)
        async with asyncio.timeout(None) as timeout:
            stuck.arrive = lambda: timeout.reschedule(0)
            await execute_pipeline_with_input([stuck], [1], use_rust=use_rust)

    with pytest.raises(TimeoutError):
        asyncio.run(main())

    assert log == ["initialize stuck", "left", "cleanup stuck"]


def test_the_cancellation_itself_arrives_and_keeps_its_message(use_rust):
    async def main():
        stuck = InCoroutine([])
        task = await cancelled(execute_pipeline_with_input([stuck], [1], use_rust=use_rust), stuck.is_there)
        await task

    with pytest.raises(asyncio.CancelledError, match="^enough$"):
        asyncio.run(main())


def test_a_cleanup_that_fails_then_is_the_context_of_the_cancellation(use_rust):
    class Failing(InCoroutine):
        def cleanup(self):
            raise OSError("disk full")

    async def main():
        stuck = Failing([])
        task = await cancelled(execute_pipeline_with_input([stuck], [1], use_rust=use_rust), stuck.is_there)
        await task

    with pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(main())

    context = caught.value
    while context.__context__ is not None:
        context = context.__context__
    assert isinstance(context, NodeError)
    assert (context.phase, str(context.__cause__)) == ("cleanup", "disk full")


def test_a_second_cancellation_does_not_cut_the_clean_up_short():
    log = []

    class Slow(InCoroutine):
        async def cleanup(self):
            self.is_cleaning.set()
            await self.may_end.wait()
            super().cleanup()

    async def main():
        stuck = Slow(log)
        stuck.is_cleaning, stuck.may_end = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(execute_pipeline_with_input([Noting("a", log), stuck], [1]))
        await stuck.is_there.wait()
        task.cancel()
        await stuck.is_cleaning.wait()
        task.cancel()
        await asyncio.sleep(0)
        stuck.may_end.set()
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()
    assert log[-2:] == ["cleanup stuck", "cleanup a"]


def test_a_call_that_is_cancelled_before_it_begins_touches_no_node():
    log = []

    async def main():
        task = asyncio.create_task(execute_pipeline_with_input([Noting("a", log)], [1]))
        task.cancel()
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()
    assert log == []


def test_a_node_that_does_not_return_is_named_and_abandoned(monkeypatch, caplog):
    monkeypatch.setattr(run, "CLOSE_TIMEOUT_SECS", 0)
    log = []

    async def main():
        stuck = InFunction(log)
        task = await cancelled(execute_pipeline_with_input([stuck], [1]), stuck.is_there)
        left = list(log)
        stuck.may_return.set()
        return task, left

    with caplog.at_level(logging.ERROR, "remotemedia"):
        task, left = asyncio.run(main())

    assert task.cancelled()
    assert left == ["initialize stuck"]
    assert "in stay_in_thread" in caplog.text


@pytest.mark.parametrize("kind", COROUTINES)
def test_a_cancelled_call_leaves_nothing(kind):
    def tasks_of_the_process():
        return len(list(Path("/proc/self/task").iterdir()))

    async def main():
        stuck = kind([])
        before = tasks_of_the_process()
        await cancelled(execute_pipeline_with_input([stuck], [1]), stuck.is_there)
        # Fewer, if one of an earlier test has ended meanwhile; the system sees the end later than Python.
        assert wait_until(lambda: tasks_of_the_process() <= before)
        assert threading.enumerate() == [threading.main_thread()]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return weakref.ref(stuck)

    ref = asyncio.run(main())
    gc.collect()

    assert ref() is None
