"""All entry points at once, while threads are switched as often as possible and each step is logged."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys

import pytest
from stream_nodes import Add, AsyncAdd, Count, Twice, Worker, shortly_and_long

from remotemedia import Batch, Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import SessionClosedError, SessionInterruptedError

WATCHDOG_SECS = 240


class Batched:
    def process(self, items):
        return items


class Source:
    def process(self):
        yield from range(3)


class Listens(logging.Handler):
    def emit(self, record):
        record.getMessage()


@pytest.fixture
def hurried():
    logger, handler, interval = logging.getLogger("remotemedia"), Listens(), sys.getswitchinterval()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    logger.setLevel(level)
    logger.removeHandler(handler)


def pipeline(turn):
    options = [{}, {"placement": "thread"}, {"queue_size": 2}]
    nodes = [with_options(Add(), **options[turn % 3]), with_options(AsyncAdd(), concurrency=4), Count()]
    return Pipeline([*nodes, with_options(Batched(), batch=Batch(4, max_wait=0.001))])


def outputs_of(numbers):
    return [*(number + 2 for number in numbers), f"{len(numbers)} items"]


def use_session(turn, shared):
    with pipeline(turn).open(enable_metrics=bool(turn % 2), queue_size=4) as session:
        shared.append(session)
        try:
            session.call(turn)
            list(itertools.islice(session.map(itertools.count()), 5))
            for item in range(5):
                session.put(item)
            session.interrupt()
            session.drain()
            session.metrics()
            session.put(1)
            # A session of another thread, in any state.
            shared[turn % len(shared)].call(1)
            session.end()
            list(session)
        except (SessionInterruptedError, SessionClosedError):
            pass
        if turn % 3 == 0:
            session.close()


def use_inline_session(turn, shared):
    with Pipeline([Add(), Twice()]).open() as session:
        shared.append(session)
        try:
            assert list(session.map([1, 2])) == [2, 2, 3, 3]
            assert session.call(turn) == [turn + 1, turn + 1]
            shared[turn % len(shared)].interrupt()
        except (SessionInterruptedError, SessionClosedError):
            pass


async def use_async_session(turn):
    async with pipeline(turn).open(enable_metrics=bool(turn % 2), queue_size=4) as session:
        call = asyncio.create_task(session.call(turn))
        await asyncio.sleep(0)
        call.cancel()
        assert await session.call(turn) == turn + 2
        async for _ in session.map(itertools.count()):
            break
        for item in range(5):
            await session.put(item)
        await session.interrupt()
        await session.drain()
        session.metrics()
        await session.put(1)
        session.end()
        outputs = [output async for output in session]
        assert outputs[0] == 3
        if turn % 3 == 0:
            await session.close()


async def use_execution(turn):
    numbers = list(range(5))
    assert await execute_pipeline_with_input([Add(), AsyncAdd(), Count()], numbers) == outputs_of(numbers)
    assert await execute_pipeline_with_input(pipeline(turn), numbers) == outputs_of(numbers)
    assert await execute_pipeline([Source(), Add()], enable_metrics=True)
    outputs = await pipeline(turn).run(iter(numbers), use_rust=bool(turn % 2))
    assert outputs == outputs_of(numbers)
    assert [output async for output in pipeline(turn).process(iter(numbers))] == outputs_of(numbers)


@pytest.mark.timeout(WATCHDOG_SECS + 60)
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("rounds", shortly_and_long(3, 60))
def test_8_threads_over_all_entry_points(rounds, unraisable):
    shared = []

    def use(number):
        for turn in range(number, number + rounds):
            use_session(turn, shared)
            use_inline_session(turn, shared)
            asyncio.run(use_async_session(turn))
            asyncio.run(use_execution(turn))

    workers = [Worker(lambda number=number: use(number)) for number in range(8)]
    for worker in workers:
        worker.join(WATCHDOG_SECS)
        worker.result()

    assert unraisable == []
