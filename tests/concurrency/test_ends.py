"""Nodes with `concurrency` that are interrupted, cancelled, closed, or shared with another session."""

from __future__ import annotations

import asyncio
import time

import pytest
from concurrent_nodes import ENGINES, Gate, Notes, all_of, by_run, opened, start
from stream_nodes import TIMEOUT_SECS

from remotemedia import execute_pipeline_with_input, with_options
from remotemedia.exceptions import (
    NodeError,
    NodeTimeoutError,
    PipelineError,
    SessionClosedError,
    SessionInterruptedError,
)

pytestmark = pytest.mark.timeout(TIMEOUT_SECS)

# Stops.


@ENGINES
@pytest.mark.parametrize("behind", [[], [Notes]])
def test_an_interruption_ends_all_that_is_inside(options, behind):
    async def main():
        node = Gate()
        nodes = [with_options(node, concurrency=4, **options), *(kind() for kind in behind)]
        async with opened(*nodes) as session:
            calls = [start(session.call(item)) for item in range(6)]
            await node.until(0, 1, 2, 3)
            dropped = await session.interrupt()
            results = await asyncio.gather(*calls, return_exceptions=True)
            node.release(7)
            return dropped, results, sorted(node.cancelled), await session.call(7)

    dropped, results, cancelled, after = asyncio.run(main())

    assert (dropped, cancelled, after) == (6, [0, 1, 2, 3], 7)
    assert {type(result) for result in results} == {SessionInterruptedError}


def test_an_interruption_drops_what_waits_for_its_order():
    async def main():
        node, behind = Gate(), Notes()
        async with opened(with_options(node, concurrency=3), behind) as session:
            calls = [start(session.call(item)) for item in range(2)]
            await session.put(2)
            await node.until(0, 1, 2)
            node.release(1, 2)
            await node.until(0)
            dropped = await session.interrupt()
            results = await asyncio.gather(*calls, return_exceptions=True)
            node.release(3)
            await session.put(3)
            session.end()
            return dropped, {type(result) for result in results}, await all_of(session), behind.items

    assert asyncio.run(main()) == (3, {SessionInterruptedError}, [3], [3])


@ENGINES
def test_cancelling_a_call_cancels_its_item_alone(options):
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2, **options)) as session:
            calls = [start(session.call(item)) for item in range(4)]
            await node.until(0, 1)
            calls[0].cancel()
            calls[2].cancel()
            await node.until(1, 3)
            node.release(1, 3)
            return await asyncio.gather(*calls, return_exceptions=True), node.cancelled

    results, cancelled = asyncio.run(main())

    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False, True, False]
    assert (results[1], results[3], cancelled) == (1, 3, [0])


@ENGINES
def test_closing_ends_calls_and_streams(options):
    async def main():
        node = Gate()
        session = await opened(with_options(node, concurrency=2, **options)).__aenter__()
        calls = [start(session.call(item)) for item in range(4)]
        mapped = start(all_of(session.map([5])))
        await node.until(0, 1)
        await session.close()
        return await asyncio.gather(*calls, mapped, return_exceptions=True), sorted(node.cancelled)

    results, cancelled = asyncio.run(main())

    assert {type(result) for result in results} == {SessionClosedError}
    assert cancelled == [0, 1]


def test_a_node_that_does_not_return_is_named_with_its_oldest_item():
    class Stays:
        async def process(self, item):
            if item == 1:
                are_inside.set()
            while not is_over.is_set():
                try:
                    await is_over.wait()
                except asyncio.CancelledError:
                    continue

    async def main():
        session = await opened(with_options(Stays(), concurrency=3)).__aenter__()
        calls = [start(session.call(item)) for item in range(2)]
        await are_inside.wait()
        with pytest.raises(NodeTimeoutError) as error:
            await session.close(timeout=0.05)
        is_over.set()
        await asyncio.gather(*calls, return_exceptions=True)
        return error.value

    are_inside, is_over = asyncio.Event(), asyncio.Event()

    error = asyncio.run(main())

    assert (error.node_id, error.item_index, error.phase) == ("Stays_0", 0, "process")
    assert "in process" in str(error)


@ENGINES
def test_a_drain_waits_for_earlier_calls_and_not_for_later_ones(options):
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2, **options)) as session:
            calls = [start(session.call(item)) for item in range(3)]
            await node.until(0, 1)
            drained = start(session.drain())
            await asyncio.sleep(0.01)
            node.release(0, 1)
            await node.until(2)
            calls.append(start(session.call(3)))
            await node.until(2, 3)
            assert not drained.done()
            node.release(2)
            await drained
            node.release(3)
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [*range(4)]


def test_a_cancelled_run_cancels_all_that_is_inside_before_it_cleans_up():
    class Cleans(Gate):
        def cleanup(self):
            assert self.inside == []
            self.is_clean = True

    async def main():
        node = Cleans()
        run = start(by_run([with_options(node, concurrency=3)], range(5)))
        await node.until(0, 1, 2)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return sorted(node.cancelled), node.is_clean

    assert asyncio.run(main()) == ([0, 1, 2], True)


@pytest.mark.parametrize("word", ["call", "drain", "interrupt"])
def test_a_node_with_room_for_another_item_may_not_use_its_session(word):
    class Asks:
        async def process(self, item):
            return await (session.call(1) if word == "call" else getattr(session, word)())

    async def main():
        nonlocal session
        async with opened(with_options(Asks(), concurrency=5)) as session:
            await session.call(0)

    session = None

    with pytest.raises(NodeError) as error:
        asyncio.run(main())

    assert isinstance(error.value.__cause__, PipelineError)


@ENGINES
def test_an_interruption_counts_items_and_calls_once(options):
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=3, **options)) as session:
            for item in range(2):
                await session.put(item)
            await node.until(0, 1)
            call = start(session.call(2))
            await node.until(0, 1, 2)
            # It has left, but its output waits for that of the first.
            node.release(1)
            await node.until(0, 2)
            dropped = await session.interrupt()
            await asyncio.gather(call, return_exceptions=True)
            node.release(3)
            await session.put(3)
            session.end()
            return dropped, await all_of(session)

    dropped, outputs = asyncio.run(main())

    assert (dropped, outputs) == (3, [3])


def test_the_stream_keeps_its_room_after_an_interruption():
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2), queue_size=1) as session:
            for _ in range(5):
                for item in range(3):
                    await session.put(item)
                await node.until(0, 1)
                node.release(1)
                await node.until(0, 2)
                assert await session.interrupt() == 3
                node.events.clear()
            for item in range(3):
                await session.put(item)
            waiting = start(session.put(3))
            await node.until(0, 1)
            assert not waiting.done()
            node.release(0, 1, 2, 3)
            outputs = aiter(session)
            taken = [await anext(outputs) for _ in range(3)]
            await waiting
            session.end()
            return taken + await all_of(outputs)

    assert asyncio.run(main()) == [*range(4)]


@pytest.mark.parametrize("behind", [[], [Notes]])
def test_items_that_have_not_begun_are_dropped_too(behind):
    """One that entered after the interruption, and left at once, held up all that came behind it."""

    async def main():
        node = Gate()
        nodes = [with_options(node, concurrency=3), *(kind() for kind in behind)]
        async with opened(*nodes) as session:
            await session.put(0)
            await node.until(0)
            # The stream has begun with these, but their tasks have not run.
            await session.put(1)
            await asyncio.sleep(0)
            await session.interrupt()
            node.release(2)
            await session.put(2)
            session.end()
            return await all_of(session), node.cancelled

    assert asyncio.run(main()) == ([2], [0])


def test_a_drain_waits_for_a_call_that_is_inside():
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2)) as session:
            call = start(session.call(0))
            await node.until(0)
            drained = start(session.drain())
            await asyncio.sleep(0.01)
            assert not drained.done()
            node.release(0)
            await drained
            return call.done()

    assert asyncio.run(main())


def test_a_flush_waits_until_another_session_has_left_the_object():
    class Flushes(Gate):
        def flush(self):
            return [*self.inside]

    async def main():
        node = Flushes()
        async with opened(with_options(node, concurrency=4)) as session, opened(node) as other:
            alone = start(other.call(0))
            await node.until(0)
            flushed = start(all_of(session.map([])))
            await asyncio.sleep(0.01)
            assert not flushed.done()
            node.release(0)
            return await alone, await flushed

    assert asyncio.run(main()) == (0, [[]])


# An object in two sessions.


def test_a_call_waits_until_another_session_has_left_the_object():
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=4)) as session, opened(node) as other:
            alone = start(other.call(0))
            await node.until(0)
            calls = [start(session.call(item)) for item in (1, 2)]
            await asyncio.sleep(0.01)
            assert node.inside == [0]
            node.release(0)
            await node.until(1, 2)
            node.release(1, 2)
            return await asyncio.gather(alone, *calls)

    assert asyncio.run(main()) == [0, 1, 2]


def test_the_watchdog_names_the_item_that_stays_inside(caplog):
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=4), stall_warning=0.1) as session:
            stuck = start(session.call("stuck"))
            await node.until("stuck")
            until = time.monotonic() + TIMEOUT_SECS / 2
            node.release("next")
            while not caplog.records and time.monotonic() < until:
                await session.call("next")
                await asyncio.sleep(0.01)
            node.release("stuck")
            await stuck

    asyncio.run(main())

    assert "node 'Gate_0'" in caplog.text
    assert "item 0 " in caplog.text


def test_a_run_raises_what_asks_to_close_it():
    class Closes:
        async def process(self, item):
            raise GeneratorExit

    async def main():
        with pytest.raises(GeneratorExit):
            await execute_pipeline_with_input([with_options(Closes(), concurrency=2)], [1, 2])

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_SECS))
