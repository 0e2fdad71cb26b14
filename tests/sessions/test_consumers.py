"""The reader of the outputs of a stream while others wait for its end, leave it, or wait with a timeout."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from epoch_nodes import Counting
from stream_nodes import Add, AsyncHold, Worker

from remotemedia import Pipeline
from remotemedia.exceptions import SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread", "process"])

NEAR = pytest.mark.parametrize("placement", ["inline", "thread"])


class Repeat:
    def process(self, times):
        yield from range(times)


@PLACEMENTS
@pytest.mark.parametrize("is_drained", [False, True])
def test_outputs_reach_another_thread_when_the_block_ends(placement, is_drained):
    """They were lost, and the iteration ended as if it were complete."""
    with Pipeline([Counting()]).open(placement=placement, queue_size=4) as session:
        outputs = iter(session)
        session.put("first")
        first = Worker(lambda: next(outputs)).result()
        consumer = Worker(lambda: list(outputs))
        for number in range(30):
            session.put(number)
        if is_drained:
            session.drain()

    assert [first, *consumer.result()] == list(range(1, 32))


@NEAR
def test_outputs_reach_another_task_when_the_block_ends(placement):
    async def take(session):
        return [output async for output in session]

    async def main():
        async with Pipeline([Add()]).open(placement=placement, queue_size=4) as session:
            consumer = asyncio.create_task(take(session))
            for number in range(100):
                await session.put(number)
        return await consumer

    assert asyncio.run(main()) == list(range(1, 101))


@PLACEMENTS
def test_outputs_that_were_not_taken_are_available_after_the_block(placement):
    with Pipeline([Add()]).open(placement=placement) as session:
        session.put(1)

    assert list(session) == [2]


@NEAR
def test_leaving_does_not_wait_for_outputs_that_only_its_thread_takes(placement):
    with Pipeline([Repeat()]).open(placement=placement) as session:
        outputs = iter(session)
        session.put(1000)
        first = next(outputs)

    assert first == 0
    with pytest.raises(SessionClosedError):
        list(outputs)


@NEAR
def test_an_iteration_that_is_cut_raises(placement):
    hold = AsyncHold(1)
    with Pipeline([hold]).open(placement=placement) as session:
        consumer = Worker(lambda: list(session))
        session.put(1)
        session.end()
        assert hold.is_there.wait(20)
        session.close()

    with pytest.raises(SessionClosedError):
        consumer.result()


@NEAR
def test_the_thread_that_takes_outputs_may_drain(placement):
    """It waited for itself, because outputs had no room."""
    with Pipeline([Repeat()]).open(placement=placement) as session:
        session.put(1000)
        session.drain()
        session.end()

        assert list(session) == list(range(1000))


def test_the_thread_that_takes_outputs_of_a_map_may_drain():
    with Pipeline([Repeat()]).open(placement="thread") as session:
        outputs = session.map([300, 1])
        first = next(outputs)
        session.drain()

        assert [first, *outputs] == [*range(300), 0]


@pytest.mark.parametrize("way", ["iteration", "map"])
def test_a_cancelled_wait_loses_nothing(way):
    """It ended the iteration."""

    class Waits:
        async def process(self, item):
            has_begun.set()
            await may_continue.wait()
            return item

    async def main():
        async with Pipeline([Waits()]).open() as session:
            for item in (1, 2) if way == "iteration" else ():
                await session.put(item)
            session.end()
            outputs = aiter(session) if way == "iteration" else session.map([1, 2])
            waiting = asyncio.create_task(anext(outputs))
            await has_begun.wait()
            waiting.cancel()
            await asyncio.wait([waiting])
            may_continue.set()
            return [output async for output in outputs]

    has_begun, may_continue = asyncio.Event(), asyncio.Event()

    assert asyncio.run(main()) == [1, 2]


@PLACEMENTS
def test_a_stream_that_is_closed_early_delays_no_call(placement):
    with Pipeline([Counting()]).open(placement=placement) as session:
        with contextlib.closing(session.map(range(1000))) as outputs:
            first = next(outputs)
        seen = session.call("next")

    assert first == 1
    assert seen < 10


@PLACEMENTS
def test_a_stream_without_references_delays_no_call(placement):
    async def main():
        async with Pipeline([Counting()]).open(placement=placement) as session:
            async for _ in session.map(range(1000)):
                break
            return await session.call("next")

    assert asyncio.run(main()) < 10


@NEAR
@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_an_interruption_does_not_end_an_async_source(placement, kind):
    """Its wait was cancelled, and the consumer received a CancelledError."""

    class Source:
        async def process(self):
            has_begun.set()
            await may_continue.wait()
            return "item"

    class Generating(Source):
        async def process(self):
            yield await super().process()

    async def main():
        source = Source() if kind == "coroutine" else Generating()
        async with Pipeline([source, Repeated()]).open(placement=placement) as session:
            consumer = asyncio.create_task(anext(aiter(session)))
            await has_begun.wait()
            await session.interrupt()
            may_continue.set()
            return await consumer

    has_begun, may_continue = asyncio.Event(), asyncio.Event()

    assert asyncio.run(main()) == "item"


class Repeated:
    def process(self, item):
        return item
