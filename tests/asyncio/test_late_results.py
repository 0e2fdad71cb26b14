"""Coroutines that `def` nodes on threads return are awaited, or closed if they are not needed.

Otherwise Python would warn that they were never awaited, which is an error here.
"""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Add

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._loop.stages import threads
from remotemedia.exceptions import NodeError


class Promises:
    """A `def` whose results are coroutines."""

    def process(self, item):
        return self.later(item)

    async def later(self, item):
        return item


class Meets(Promises):
    """Returns on its thread when `on_loop` has been called on the loop."""

    def __init__(self, on_loop):
        self.loop = asyncio.get_running_loop()
        self.on_loop = on_loop
        self.may_go = threading.Event()

    def process(self, item):
        self.loop.call_soon_threadsafe(self.on_loop)
        assert self.may_go.wait(TIMEOUT_SECS)
        return super().process(item)


@pytest.fixture
def announced(monkeypatch):
    """Return an event that is set when work of a thread has ended and the loop will be notified."""
    found, add = threading.Event(), threads._Ends.add

    def add_and_note(ends, job):
        add(ends, job)
        found.set()

    monkeypatch.setattr(threads._Ends, "add", add_and_note)
    return found


@pytest.mark.parametrize("others", [[], [with_options(Add(), placement="inline")]])
@pytest.mark.parametrize("policy", [{}, {"dead_letter": print}])
def test_a_call_is_cancelled_between_the_end_of_its_work_and_its_next_turn(announced, policy, others):
    """The coroutine that the thread had returned was dropped."""

    def cancel_between():
        node.may_go.set()
        assert announced.wait(TIMEOUT_SECS)
        asyncio.get_running_loop().call_soon(call.cancel)

    async def main():
        nonlocal node, call
        node = Meets(cancel_between)
        async with Pipeline([with_options(node, **policy), *others]).open() as session:
            call = asyncio.create_task(session.call(1))
            await asyncio.wait([call])
            return call.cancelled()

    node = call = None
    assert asyncio.run(main())


@pytest.mark.parametrize("policy", [{}, {"dead_letter": print}])
@pytest.mark.parametrize("stop", ["interrupt", "close"])
def test_a_stream_stops_between_several_results_of_its_first_stage(policy, stop):
    """The coroutines of the items behind the one that was awaited were dropped."""

    class Hangs(Promises):
        def __init__(self):
            self.is_inside = asyncio.Event()

        async def later(self, item):
            # The first items are few at a time.
            if item >= 200 and not self.is_inside.is_set():
                self.is_inside.set()
                await asyncio.Event().wait()
            return item

    async def main():
        node = Hangs()
        nodes = [
            with_options(node, placement="thread", **policy),
            with_options(Add(), placement="thread"),
        ]
        async with Pipeline(nodes).open() as session:
            taking = asyncio.create_task(take(session.map(range(1000))))
            await node.is_inside.wait()
            await getattr(session, stop)()
            await asyncio.wait([taking])
            taking.exception()

    async def take(outputs):
        async for _ in outputs:
            pass

    asyncio.run(main())


class Given:
    """Calls a function that has no Python code of its own to compile."""

    def __init__(self, function):
        self.process = functools.partial(function)


class Passes:
    async def process(self, item):
        return item


def test_each_coroutine_of_several_items_continues_behind_its_own_node():
    nodes = [Passes(), Given(Promises().process), Add()]

    assert asyncio.run(execute_pipeline_with_input(nodes, [*range(6)])) == [*range(1, 7)]


def test_an_error_has_the_node_that_raised_it_and_not_the_last_one_of_other_items():
    def fails_once(item):
        if item == 150:
            raise ValueError(item)
        return item

    nodes = [Passes(), Given(fails_once), Add()]

    with pytest.raises(NodeError, match=r"'Given_1' failed in process\(\) on item 150: ValueError: 150"):
        asyncio.run(execute_pipeline_with_input(nodes, [*range(200)]))
