"""Nodes with `placement="thread"` in asyncio sessions: stages that work at the same time."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from leftovers import wait_until
from loop_nodes import Same
from stream_nodes import TIMEOUT_SECS, Hold, arrived

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionInterruptedError


class Where:
    """Records the threads of its methods."""

    def __init__(self):
        self.threads = set()

    def initialize(self):
        self.threads.add(threading.get_ident())

    def process(self, item):
        self.threads.add(threading.get_ident())
        return item

    flush = cleanup = initialize


class Pass:
    def process(self, item):
        return item


class Odd:
    def process(self, item):
        return item if item % 2 else None


class Fails:
    def process(self, item):
        if item == 7:
            raise ValueError("seven")
        return item


class Twice:
    """A generator by its result, not by its code."""

    def process(self, item):
        return (item for _ in range(2))


class Last:
    def process(self, item):
        return item

    def flush(self):
        return "last"


def placed(node, **options):
    return with_options(node, placement="thread", **options)


async def outputs_of(session, items):
    return [output async for output in session.map(items)]


def test_each_placed_node_has_a_thread_and_the_others_share_one():
    nodes = [Where() for _ in range(5)]
    first, second, third, fourth, fifth = nodes

    async def main():
        chain = [first, placed(second), Same(), third, placed(fourth, group="g"), placed(fifth, group="g")]
        async with Pipeline(chain).open() as session:
            assert await session.call(1) == 1
            assert await outputs_of(session, range(20)) == [*range(20)]

    asyncio.run(main())

    assert [len(node.threads) for node in nodes] == [1] * 5
    assert first.threads == third.threads
    assert fourth.threads == fifth.threads
    assert len(set().union(*(node.threads for node in nodes), {threading.get_ident()})) == 4


def test_nodes_that_inherit_their_placement_share_a_thread():
    first, second = Where(), Where()

    async def main():
        async with Pipeline([first, Same(), second]).open(placement="thread") as session:
            return await outputs_of(session, range(20))

    assert asyncio.run(main()) == [*range(20)]
    assert first.threads == second.threads != {threading.get_ident()}


async def both_work(first, second):
    """Wait until the second node has the first item, and the first one the second item."""
    await arrived(first.is_there)
    first.go.set()
    await arrived(second.is_there)
    await asyncio.to_thread(wait_until, lambda: len(first.seen) >= 2)
    assert second.seen == [0]
    second.go.set()


@pytest.mark.parametrize("queue_size", [1, 2, 64])
def test_neighbours_work_at_the_same_time_on_a_stream(queue_size):
    async def main():
        first, second = Hold(), Hold()
        async with Pipeline([placed(first), placed(second)]).open(queue_size=queue_size) as session:
            streaming = asyncio.create_task(outputs_of(session, range(100)))
            await both_work(first, second)
            return await streaming

    assert asyncio.run(main()) == [*range(100)]


def test_neighbours_work_at_the_same_time_on_calls():
    async def main():
        first, second = Hold(), Hold()
        async with Pipeline([placed(first), placed(second)]).open() as session:
            calls = [asyncio.create_task(session.call(number)) for number in range(2)]
            await both_work(first, second)
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [0, 1]


@pytest.mark.parametrize("queue_size", [1, 64])
def test_filters_and_results_of_several_outputs_keep_the_order(queue_size):
    async def main():
        nodes = [placed(Odd()), Same(), placed(Twice()), Same(), placed(Last()), placed(Last())]
        async with Pipeline(nodes).open(queue_size=queue_size) as session:
            outputs = await outputs_of(session, range(100))
            return outputs, await session.call(1), await session.call(2)

    outputs, result, nothing = asyncio.run(main())

    assert outputs == [*(number for number in range(1, 100, 2) for _ in range(2)), "last", "last"]
    assert (result, nothing) == ([1, 1], None)


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_has_its_node_and_item_and_follows_earlier_outputs(failing):
    async def main():
        nodes = [placed(Pass()) for _ in range(4)]
        nodes.insert(failing, placed(Fails()))
        async with Pipeline(nodes).open() as session:
            with pytest.raises(NodeError) as of_call:
                await session.call(7)
            stream = session.map(range(20))
            outputs = [await anext(stream) for _ in range(7)]
            with pytest.raises(NodeError) as of_stream:
                await anext(stream)
            return outputs, of_call.value, of_stream.value, await session.call(1)

    outputs, of_call, of_stream, result = asyncio.run(main())

    assert (outputs, result) == ([*range(7)], 1)
    for error, index in ((of_call, 0), (of_stream, 8)):
        assert (error.node_id, error.phase, error.item_index) == (f"Fails_{failing}", "process", index)
        assert isinstance(error.__cause__, ValueError)


def test_put_continues_after_an_error():
    async def main():
        async with Pipeline([placed(Fails()), Same(), placed(Pass())]).open() as session:
            for number in range(6, 9):
                await session.put(number)
            session.end()
            outputs = aiter(session)
            assert await anext(outputs) == 6
            with pytest.raises(NodeError):
                await anext(outputs)
            return [output async for output in outputs]

    assert asyncio.run(main()) == [8]


@pytest.mark.parametrize("holding", [0, 1, 2])
def test_an_interruption_drops_what_is_in_all_stages_and_between_them(holding):
    async def main():
        hold = Hold(3)
        nodes = [placed(Pass()) for _ in range(3)]
        nodes[holding] = placed(hold)
        async with Pipeline(nodes).open(queue_size=8) as session:
            for number in range(3, 8):
                await session.put(number)
            await arrived(hold.is_there)
            call = asyncio.create_task(session.call("call"))
            await asyncio.sleep(0.01)
            interrupting = asyncio.create_task(session.interrupt())
            await asyncio.sleep(0.01)
            hold.go.set()
            dropped = await interrupting
            with pytest.raises(SessionInterruptedError):
                await call
            await session.put("new")
            session.end()
            return dropped, [output async for output in session], await session.call("newer")

    assert asyncio.run(main()) == (6, ["new"], "newer")


def test_dropped_items_are_counted_once():
    async def main():
        hold = Hold("old")
        async with Pipeline([placed(hold), placed(Pass())]).open(queue_size=8) as session:
            for _ in range(5):
                await session.put("old")
            await arrived(hold.is_there)
            interrupting = asyncio.create_task(session.interrupt())
            await asyncio.sleep(0.01)
            hold.go.set()
            return await interrupting, await session.interrupt(), await session.call("new")

    assert asyncio.run(main()) == (5, 0, "new")


def test_closing_names_the_node_that_does_not_return():
    hold = Hold()

    async def main():
        nodes = [placed(Pass()), placed(hold), placed(Pass())]
        async with Pipeline(nodes).open() as session:
            call = asyncio.create_task(session.call(1))
            await arrived(hold.is_there)
            with pytest.raises(NodeTimeoutError) as raised:
                await session.close(timeout=0.1)
            hold.go.set()
            call.cancel()
            return raised.value.node_id

    assert asyncio.run(main()) == "Hold_1"


def test_drain_waits_for_all_stages():
    async def main():
        hold = Hold()
        async with Pipeline([placed(Pass()), placed(Pass()), placed(hold)]).open() as session:
            call = asyncio.create_task(session.call(1))
            await session.put(2)
            await arrived(hold.is_there)
            draining = asyncio.create_task(session.drain())
            await asyncio.sleep(0.1)
            is_waiting = not draining.done()
            hold.go.set()
            await draining
            return is_waiting, call.done(), hold.seen

    assert asyncio.run(main()) == (True, True, [1, 2])


def test_a_node_cannot_call_its_own_session_from_a_later_stage():
    class Calls:
        async def process(self, item):
            return await session.call(item)

    async def main():
        nonlocal session
        async with Pipeline([placed(Pass()), placed(Calls())]).open() as session:
            with pytest.raises(NodeError, match="would wait for itself"):
                await asyncio.wait_for(session.call(1), TIMEOUT_SECS)

    session = None
    asyncio.run(main())


CALLER = contextvars.ContextVar("caller", default=None)


class SeesCaller:
    """Returns the variable with each item, and sets it for later items of the same task."""

    async def process(self, item):
        caller = CALLER.get()
        CALLER.set("node")
        return item, caller


def test_items_of_a_source_have_its_variables_in_all_stages():
    class Source:
        async def process(self):
            for item in range(4):
                CALLER.set(item)
                yield item
                await asyncio.sleep(0)

    async def main():
        async with Pipeline([Source(), placed(Pass()), SeesCaller()]).open() as session:
            return [output async for output in session]

    assert asyncio.run(main()) == [(item, item) for item in range(4)]


def test_items_of_callers_with_different_variables_keep_their_order():
    async def put_two(session, item):
        token = CALLER.set("other")
        await session.put(item)
        CALLER.reset(token)
        await session.put(item + 1)

    async def main():
        async with Pipeline([placed(Pass()), SeesCaller(), placed(Pass())]).open() as session:
            outputs, found = aiter(session), []
            await session.put("first")
            await anext(outputs)
            for item in range(0, 20, 2):
                # The first stage is free.
                await put_two(session, item)
                found += [await anext(outputs) for _ in range(2)]
            return found

    assert asyncio.run(main()) == [(item, None if item % 2 else "other") for item in range(20)]
