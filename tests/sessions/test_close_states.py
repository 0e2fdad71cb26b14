"""A session is closed in every state."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Add, AsyncHold, Endless, Hangs, Hold, Noting, Worker, opened

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class TestStates:
    @PLACEMENTS
    def test_before_the_first_item(self, placement):
        node = Noting()

        opened(node, placement=placement).close()

        assert node.log == ["initialize node", "cleanup node"]

    @PLACEMENTS
    def test_twice(self, placement):
        node = Noting()
        session = opened(node, placement=placement)
        session.call(1)

        session.close()
        session.close()

        assert node.log == ["initialize node", 1, "cleanup node"]

    def test_while_producers_wait_for_room(self):
        hold = AsyncHold()
        session = opened(hold, queue_size=1)
        producers = [Worker(lambda: [session.put(number) for number in range(100)]) for _ in range(4)]
        assert hold.is_there.wait(TIMEOUT_SECS)

        session.close()

        for producer in producers:
            with pytest.raises(SessionClosedError):
                producer.result()
        assert len(hold.cancelled) == 1

    def test_while_consumers_wait_for_outputs(self):
        session = opened(Add(), placement="thread")
        session.put(1)
        is_first_taken = threading.Event()
        consumer = Worker(lambda: [is_first_taken.set() for _ in session])
        assert is_first_taken.wait(TIMEOUT_SECS)

        session.close()

        with contextlib.suppress(SessionClosedError):
            consumer.result()
        assert not consumer.is_alive()

    def test_during_a_drain(self):
        hold = AsyncHold()
        session = opened(hold)
        session.put(1)
        draining = Worker(session.drain)
        assert hold.is_there.wait(TIMEOUT_SECS)

        session.close()

        with contextlib.suppress(SessionClosedError):
            draining.result()
        assert not draining.is_alive()

    def test_during_an_interrupt(self):
        hangs = Hangs()
        session = opened(hangs, placement="thread")
        session.put(1)
        assert hangs.is_there.wait(TIMEOUT_SECS)
        interrupting = Worker(session.interrupt)

        with pytest.raises(NodeTimeoutError):
            session.close(timeout=0.05)

        hangs.go.set()
        interrupting.result()

    def test_while_a_source_runs(self):
        log = []

        class Source:
            def process(self):
                try:
                    yield from itertools.count()
                finally:
                    log.append("closed")

            def cleanup(self):
                log.append("cleanup")

        session = opened(Source(), with_options(Add(), placement="thread"))
        next(iter(session))

        session.close()

        assert log == ["closed", "cleanup"]

    def test_while_a_generator_gives(self):
        node = Endless()
        session = opened(node, Noting(), placement="thread")
        session.put(1)
        assert node.has_begun.wait(TIMEOUT_SECS)

        session.close()

        assert node.closed == [1]

    def test_calls_in_progress_raise_session_closed_error(self):
        hold = AsyncHold()
        session = opened(with_options(hold, concurrency=4))
        calls = [Worker(lambda: session.call(1)) for _ in range(4)]
        assert hold.is_there.wait(TIMEOUT_SECS)

        session.close()

        for call in calls:
            with pytest.raises(SessionClosedError, match="The session is closed"):
                call.result()

    def test_while_a_coroutine_is_about_to_begin(self):
        class Begins(Hold):
            def process(self, item):
                super().process(item)
                return self.wait(item)

            async def wait(self, item):
                try:
                    await asyncio.Event().wait()
                finally:
                    self.seen.append("ended")

        hold, begins = AsyncHold(), Begins()
        pipeline = Pipeline("branches").add_node(hold, after=[], concurrency=2)
        pipeline.add_node(begins, after=[], placement="thread")
        session = pipeline.open().__enter__()
        session.put(1)
        assert hold.is_there.wait(TIMEOUT_SECS)
        assert begins.is_there.wait(TIMEOUT_SECS)
        closing = Worker(session.close)
        while not hold.cancelled:
            threading.Event().wait(0.001)

        begins.go.set()

        closing.result()
        assert begins.seen in ([1], [1, "ended"])

    def test_an_error_in_cleanup_is_raised(self):
        class Breaks(Add):
            def cleanup(self):
                raise OSError("stuck")

        with pytest.raises(NodeError, match="Node 'Breaks_0' failed in cleanup\\(\\): OSError: stuck"):
            opened(Breaks()).close()
