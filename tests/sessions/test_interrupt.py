"""`interrupt()`: no output of the old stream can follow."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from leftovers import wait_until
from stream_nodes import (
    TIMEOUT_SECS,
    Add,
    AsyncHold,
    Endless,
    Hold,
    Noting,
    Worker,
)

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import SessionInterruptedError
from remotemedia.nodes import PassThroughNode

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class TestDroppedItems:
    def test_waiting_items_and_items_in_progress_are_not_returned(self):
        hold = Hold(0)

        with Pipeline([hold]).open(placement="thread", enable_metrics=True) as session:
            for number in range(50):
                session.put(number)
            assert hold.is_there.wait(TIMEOUT_SECS)
            interrupting = Worker(session.interrupt)
            hold.go.set()
            dropped = interrupting.result()
            session.put("new")
            session.end()
            outputs = list(session)
            metrics = session.metrics()

        assert outputs == ["new"]
        assert dropped + len([item for item in hold.seen if item != "new"]) >= 50
        assert metrics["interrupted"] == dropped

    @pytest.mark.parametrize("way", ["map", "put", "put into a full queue"])
    def test_the_end_of_the_input_is_no_item_that_is_dropped(self, way):
        # In a full queue, the end waits for room.
        is_full = way == "put into a full queue"
        held, count, queue_size = (0, 2, 1) if is_full else (2, 5, 64)
        hold = Hold(held)

        def take_all():
            if way == "map":
                return list(session.map(range(count)))
            for number in range(count):
                session.put(number)
            session.end()
            return list(session)

        settings = {"queue_size": queue_size, "enable_metrics": True}
        with Pipeline([hold]).open(placement="thread", **settings) as session:
            taking = Worker(take_all)
            assert hold.is_there.wait(TIMEOUT_SECS)
            # By now, all items and the end wait behind the one that is held.
            time.sleep(0.2)
            threading.Timer(0.1, hold.go.set).start()

            assert session.interrupt() == count - held
            assert taking.result() == [*range(held)]
            assert session.metrics()["interrupted"] == count - held

    def test_outputs_that_were_not_taken_are_dropped_too(self):
        node = Noting()

        with Pipeline([node, with_options(Noting(log=node.log), placement="thread")]).open() as session:
            for number in range(10):
                session.put(number)
            session.drain()
            session.interrupt()
            session.put("new")
            session.end()
            outputs = list(session)

        assert outputs == ["new"]

    @PLACEMENTS
    def test_a_call_in_progress_raises_session_interrupted_error(self, placement):
        hold = AsyncHold("old")

        with Pipeline([hold]).open(placement=placement) as session:
            call = Worker(lambda: session.call("old"))
            assert hold.is_there.wait(TIMEOUT_SECS)
            session.interrupt()
            result = session.call("new")

        with pytest.raises(SessionInterruptedError, match="The session was interrupted and dropped the item"):
            call.result()
        assert result == "new"

    def test_a_producer_that_waits_for_room_continues(self):
        old_ones_are_in, may_continue = threading.Event(), threading.Event()

        def produce():
            for _ in range(100):
                session.put("old")
            old_ones_are_in.set()
            assert may_continue.wait(TIMEOUT_SECS)
            session.put("new")
            session.end()

        with Pipeline([AsyncHold("old")]).open(queue_size=2) as session:
            producer = Worker(produce)
            while not old_ones_are_in.wait(0.001):
                session.interrupt()
            session.interrupt()
            may_continue.set()
            outputs = list(session)
            producer.result()

        assert outputs == ["new"]

    @PLACEMENTS
    def test_a_generator_in_progress_is_closed(self, placement):
        node = Endless()

        with Pipeline([node, with_options(Noting(), placement="thread")]).open(
            placement=placement
        ) as session:
            session.put("old")
            assert node.has_begun.wait(TIMEOUT_SECS)
            session.interrupt()

            assert node.closed == ["old"]

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 8}])
    def test_coroutines_are_cancelled(self, options):
        hold = AsyncHold("old")

        with Pipeline([with_options(hold, **options)]).open() as session:
            session.put("old")
            assert hold.is_there.wait(TIMEOUT_SECS)
            session.interrupt()
            cancelled = list(hold.cancelled)
            result = session.call("new")

        assert (cancelled, result) == (["old"], "new")

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 8}])
    @pytest.mark.parametrize("stop", ["interrupt", "close"])
    def test_coroutines_end_first(self, options, stop):
        class Unwinds(AsyncHold):
            async def process(self, item):
                try:
                    return await super().process(item)
                finally:
                    await asyncio.sleep(0.05)
                    log.append("ended")

            def interrupt(self):
                log.append("interrupt")

            def cleanup(self):
                log.append("cleanup")

        log = []
        unwinds = Unwinds()

        with Pipeline([with_options(unwinds, **options)]).open() as session:
            session.put("old")
            assert unwinds.is_there.wait(TIMEOUT_SECS)
            getattr(session, stop)()
            log.append("back")

        assert unwinds.cancelled == ["old"]
        assert sorted(log[: log.index("back")]) == sorted(
            ["ended", "interrupt" if stop == "interrupt" else "cleanup"]
        )

    def test_batches_are_forgotten(self):
        class Batched:
            def process(self, items):
                return [tuple(items)] * len(items)

        with Pipeline([with_options(Batched(), batch=3)]).open() as session:
            session.put("old")
            session.put("old")
            session.interrupt()
            outputs = list(session.map([1, 2, 3]))

        assert outputs == [(1, 2, 3)] * 3

    def test_joins_are_forgotten(self):
        hold = Hold("old")
        pipeline = Pipeline("join")
        pipeline.add_node(Noting(), id="in").add_node(Noting(), id="a", after="in", placement="thread")
        pipeline.add_node(hold, id="b", after="in", placement="thread")
        pipeline.add_node(Noting(), id="both", after=["a", "b"], join=True)

        with pipeline.open() as session:
            session.put("old")
            assert hold.is_there.wait(TIMEOUT_SECS)
            interrupting = Worker(session.interrupt)
            hold.go.set()
            interrupting.result()
            outputs = list(session.map(["new"]))

        assert outputs == [{"a": "new", "b": "new"}]

    def test_items_that_wait_at_a_join_are_released(self):
        class Item:
            pass

        class Makes:
            def process(self, _item):
                item = Item()
                made.append(weakref.ref(item))
                return item

        class Swallows:
            def process(self, _item):
                return None

        made, hold = [], Hold("old")
        pipeline = Pipeline("join").add_node(Noting(), id="in")
        pipeline.add_node(Makes(), id="a", after="in", placement="thread")
        pipeline.add_node(hold, id="b", after="in", placement="thread")
        # The interruption may be too late, so this node must not keep it either.
        pipeline.add_node(Swallows(), id="both", after=["a", "b"], join=True, placement="thread")

        with pipeline.open() as session:
            session.put("old")
            assert hold.is_there.wait(TIMEOUT_SECS)
            while not made:
                time.sleep(0.001)
            interrupting = Worker(session.interrupt)
            hold.go.set()
            interrupting.result()

            # The thread of the node that made it may still hold a reference for a short time.
            assert wait_until(lambda: gc.collect() >= 0 and made[0]() is None)

    def test_an_idle_session_drops_nothing(self):
        with Pipeline([Add()]).open() as session:
            session.call(1)

            assert session.interrupt() == 0
            assert session.call(1) == 2


class Holds:
    """A node that holds one item until the session is interrupted."""

    def __init__(self):
        self.is_there = threading.Event()

    def hold(self, item):
        if item == 20:
            self.is_there.set()
        return item == 20


class HoldsOnThread(Holds):
    def process(self, item):
        if self.hold(item):
            # Long enough for the interruption.
            time.sleep(0.2)
        return item


class HoldsOnLoop(Holds):
    async def process(self, item):
        if self.hold(item):
            await asyncio.Event().wait()
        return item


@pytest.mark.parametrize("kind_of_items", [list, iter])
@pytest.mark.parametrize("holds", [HoldsOnThread, HoldsOnLoop])
def test_a_stream_continues_after_an_interruption(holds, kind_of_items):
    """It raised the error of an interrupted call."""
    node = holds()
    with Pipeline([node, PassThroughNode()]).open() as session, ThreadPoolExecutor() as others:
        stream = session.map(kind_of_items(range(60)))
        taking = others.submit(lambda: [*stream])
        assert node.is_there.wait(10)
        dropped = session.interrupt()

        assert taking.result(10) == [item for item in range(60) if item != 20]
        assert dropped == 1
        assert session.call(1) == 1


def test_no_item_is_processed_twice_after_an_interruption():
    """A chunk goes on item by item after a generator that a node returned."""

    class HoldsAfterAGenerator(HoldsOnLoop):
        def __init__(self):
            super().__init__()
            self.seen = []

        async def process(self, item):
            self.seen.append(item)
            result = await super().process(item)
            return (value for value in [result]) if item == 17 else result

    node = HoldsAfterAGenerator()
    with Pipeline([node]).open() as session, ThreadPoolExecutor() as others:
        stream = session.map(list(range(60)))
        taking = others.submit(lambda: [*stream])
        assert node.is_there.wait(10)
        session.interrupt()
        outputs = taking.result(10)

    assert node.seen == sorted({*node.seen})
    assert outputs == [item for item in node.seen if item != 20]
    assert outputs[-1] == 59
