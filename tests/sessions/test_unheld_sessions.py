"""Sessions without references that were not closed: they stop, and leave nothing."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from stream_nodes import (
    TIMEOUT_SECS,
    Add,
    AsyncHold,
    Endless,
    Noting,
    arrived,
    join_closing_threads,
    opened,
    thread_count,
    threads_since,
)

from remotemedia import Pipeline, with_options

CONCURRENCIES = pytest.mark.parametrize("options", [{}, {"concurrency": 4}], ids=["one", "concurrent"])


class Cleaned(Noting):
    """Sets an event when it is cleaned up, in a coroutine."""

    def __init__(self):
        super().__init__()
        self.is_clean = threading.Event()

    async def cleanup(self):
        await asyncio.sleep(0)
        super().cleanup()
        self.is_clean.set()


class Source:
    def __init__(self):
        self.is_closed = False

    def process(self):
        try:
            while True:
                yield 1
        finally:
            self.is_closed = True


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = thread_count()
    yield
    join_closing_threads()
    assert threads_since(before) == 0


class TestPlain:
    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"queue_size": 2}])
    def test_an_idle_one_is_cleaned_up(self, options):
        node = Noting()
        session = opened(node, Add(), **options)
        session.call(1)

        del session

        assert node.log == ["initialize node", 1, "cleanup node"]

    @CONCURRENCIES
    def test_coroutines_are_cancelled(self, options):
        hold, node = AsyncHold(), Cleaned()
        session = opened(with_options(hold, **options), node)
        session.put(1)
        assert hold.is_there.wait(TIMEOUT_SECS)

        del session

        assert hold.cancelled == [1]
        assert node.is_clean.is_set()

    def test_generators_and_sources_are_closed(self):
        node, source = Endless(), Source()
        sessions = [opened(node, Noting(), placement="thread"), opened(source, Add(), placement="thread")]
        sessions[0].put(1)
        assert node.has_begun.wait(TIMEOUT_SECS)
        assert next(iter(sessions[1])) == 2

        sessions.clear()

        assert node.closed == [1]
        assert source.is_closed


class TestAsync:
    @CONCURRENCIES
    def test_one_dropped_on_a_running_loop_ends_beside_it(self, options):
        hold, node = AsyncHold(), Cleaned()

        async def main():
            session = await Pipeline([with_options(hold, **options), node]).open().__aenter__()
            await session.put(1)
            await arrived(hold.is_there)
            del session
            await arrived(node.is_clean)

        asyncio.run(main())

        assert hold.cancelled == [1]
        assert node.log == ["initialize node", "cleanup node"]

    @CONCURRENCIES
    @pytest.mark.parametrize("way", ["call", "map", "put"])
    def test_one_that_is_open_when_its_loop_ends_is_cleaned_up(self, options, way):
        hold, node = AsyncHold(), Noting()

        async def use(session):
            if way == "map":
                async for _ in session.map([1, 2]):
                    pass
            await (session.put(1) if way == "put" else session.call(1))

        async def main():
            session = await Pipeline([node, with_options(hold, **options)]).open().__aenter__()
            held = asyncio.create_task(use(session))
            await arrived(hold.is_there)
            return held  # The end of the loop cancels it.

        asyncio.run(main())
        gc.collect()
        join_closing_threads()

        assert 1 in hold.cancelled
        assert node.log[-1] == "cleanup node"

    def test_one_whose_loop_is_closed_is_cleaned_up(self):
        node = Noting()
        loop = asyncio.new_event_loop()
        session = loop.run_until_complete(Pipeline([node, AsyncHold(2)]).open().__aenter__())
        assert loop.run_until_complete(session.call(1)) == 1
        loop.close()

        del session

        assert node.log == ["initialize node", 1, "cleanup node"]
