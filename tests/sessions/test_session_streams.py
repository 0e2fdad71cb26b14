"""The order of the outputs of streams, and how streams report failures, interruptions and counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, SessionClosedError, SessionInterruptedError


class Picky:
    def process(self, item):
        if item == "bad":
            raise ValueError(item)
        return item


@pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
def test_a_failure_takes_the_position_of_its_outputs(options):
    """Outputs of later items were returned before it."""
    outputs = []
    with Pipeline([Picky()]).open(**options) as session:
        for item in (1, "bad", 3):
            session.put(item)
        session.end()
        session.drain()

        with pytest.raises(NodeError, match="on item 1"):
            outputs.extend(iter(session))
        outputs.append("failure")
        outputs.extend(session)

    assert outputs == [1, "failure", 3]


def test_outputs_of_a_closed_session_are_an_error_each_time():
    """The second iteration waited for ever."""
    with Pipeline([Picky()]).open() as session:
        session.put(1)
        session.close()

        for _ in range(2):
            with pytest.raises(SessionClosedError):
                list(session)


def test_an_interrupted_call_on_its_callers_thread_is_counted():
    """It was dropped without being counted."""
    is_inside, may_continue = threading.Event(), threading.Event()

    class Held:
        def process(self, item):
            is_inside.set()
            yield item
            may_continue.wait(10)
            yield item

    with Pipeline([Held()]).open(enable_metrics=True) as session:
        dropped = []
        interrupter = threading.Thread(
            target=lambda: is_inside.wait(10) and dropped.append(session.interrupt())
        )
        interrupter.start()
        threading.Timer(0.1, may_continue.set).start()

        with pytest.raises(SessionInterruptedError):
            session.call("x")
        interrupter.join()

        assert dropped == [1]
        assert session.metrics()["interrupted"] == 1


def test_the_end_of_input_is_not_counted_as_an_item():
    """It was counted as an item."""
    with Pipeline([Picky()]).open(placement="thread", enable_metrics=True) as session:
        assert list(session.map([1, 2])) == [1, 2]

        assert session.metrics()["items_in"] == 2


@pytest.mark.parametrize(("when_full", "kept"), [("drop_oldest", [0, 8, 9]), ("drop_newest", [0, 1, 2])])
def test_put_never_waits_for_a_stage_that_drops(when_full, kept):
    """It waited for inputs that had already been dropped."""
    is_inside, may_continue = threading.Event(), threading.Event()

    class Held:
        def process(self, item):
            is_inside.set()
            may_continue.wait(10)
            return item

    with Pipeline([Held()]).open(queue_size=2, when_full=when_full, enable_metrics=True) as session:
        session.put(0)
        is_inside.wait(10)
        for item in range(1, 10):
            session.put(item)
        may_continue.set()
        session.end()

        assert list(session) == kept
        assert session.metrics()["node_metrics"][0]["dropped"] == 7


def test_an_abandoned_thread_may_return_while_the_interpreter_exits():
    """It was unwound, released an interpreter that it did not hold, and aborted the process."""
    code = """
import threading
from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeTimeoutError

has_begun, may_return = threading.Event(), threading.Event()

class Stuck:
    def process(self, item):
        has_begun.set()
        may_return.wait()

with Pipeline([Stuck()]).open(placement="thread") as session:
    session.put("a frame")
    has_begun.wait()
    try:
        session.close(timeout=0.01)
    except NodeTimeoutError:
        pass
may_return.set()
"""

    exit_codes = [subprocess.run([sys.executable, "-c", code], check=False).returncode for _ in range(5)]

    assert exit_codes == [0] * 5


class Doubling:
    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield 2 * item


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_a_streaming_node_restarts_after_the_end_of_a_stream(placement):
    """It had ended with the first stream, and lost all items of the second."""
    with Pipeline([Doubling()]).open(placement=placement) as session:
        outputs = [list(session.map([1, 2])), session.call(3), list(session.map([4]))]

    assert outputs == [[2, 4], 6, [8]]


def test_an_interrupted_streaming_node_has_no_output_of_the_old_stream():
    """The output of its current item was returned with the next item."""
    is_inside = threading.Event()

    class Slow:
        is_streaming = True

        async def process(self, items):
            async for item in items:
                is_inside.set()
                if item == "old":
                    await asyncio.sleep(0.05)
                yield item

    with Pipeline([Slow()]).open(placement="thread") as session:
        session.put("old")
        is_inside.wait(10)

        assert session.interrupt() == 1
        assert list(session.map(["new"])) == ["new"]


def test_a_streaming_node_restarts_in_asyncio():
    async def two_streams():
        async with Pipeline([Doubling()]).open() as session:
            return [output async for output in session.map([1, 2])], await session.call(3)

    assert asyncio.run(two_streams()) == ([2, 4], 6)


def test_map_takes_outputs_while_an_item_waits_for_room():
    """Generators with many outputs filled all queues up to the thread that should have taken them."""
    many = [with_options(Repeat(30), placement="thread", queue_size=2) for _ in range(2)]

    with Pipeline(many).open() as session:
        outputs = list(session.map(range(40)))

    assert outputs == [number for number in range(40) for _ in range(900)]


class Repeat:
    def __init__(self, times):
        self.times = times

    def process(self, item):
        for _ in range(self.times):
            yield item


def test_a_stream_of_plain_python_is_taken_one_output_at_a_time():
    """A generator runs only as far as its outputs are taken, and calls use the same node in between."""

    class Endless:
        made = 0

        def process(self, item):
            if item < 0:
                yield item
                return
            while True:
                self.made += 1
                yield self.made

    node = Endless()
    with Pipeline([node]).open() as session:
        outputs = session.map([1, 2])
        taken = [next(outputs) for _ in range(3)]
        result = session.call(-1)
        taken.append(next(outputs))

    assert (taken, result) == ([1, 2, 3, 4], -1)
    assert node.made == 4


def test_a_put_of_plain_python_continues_beside_a_stream():
    """Items that were put in are processed after those that a stream has begun."""
    with Pipeline([Repeat(3)]).open(queue_size=4) as session:
        outputs = session.map(range(3))
        first = next(outputs)
        session.put(7)
        rest = list(outputs)
        session.end()
        put = list(session)

    assert [first, *rest] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert put == [7, 7, 7]
