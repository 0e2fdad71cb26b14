"""Nodes with `concurrency` in asyncio: on the caller's event loop, and the same claims on threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia._session.loop_session import LoopSession
from remotemedia.exceptions import (
    NodeError,
    NodeTimeoutError,
    PipelineError,
    SessionClosedError,
    SessionInterruptedError,
)

pytestmark = pytest.mark.timeout(TIMEOUT_SECS)

ENGINES = pytest.mark.parametrize("options", [{}, {"queue_size": 64}], ids=["loop", "threads"])
"""An option that needs a queue lets all nodes run on threads."""


class Gate:
    """Returns each item when it is released; items of the same number are released together."""

    def __init__(self):
        self.inside = []
        self.most = 0
        self.threads = set()
        self.cancelled = []
        self.events = {}
        self.changed = asyncio.Event()

    def event(self, item):
        return self.events.setdefault(item, asyncio.Event())

    def release(self, *items):
        for item in items:
            self.event(item).set()

    async def process(self, item):
        self.inside.append(item)
        self.most = max(self.most, len(self.inside))
        self.threads.add(threading.active_count())
        self.changed.set()
        try:
            await self.event(item).wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.inside.remove(item)
            self.changed.set()
        return item

    async def until(self, *items):
        """Wait until exactly these items are inside."""
        while sorted(self.inside) != [*items]:
            self.changed.clear()
            await self.changed.wait()


class Later:
    """Suspends once for each item; some fail."""

    def __init__(self, fails_on=()):
        self.fails_on = fails_on
        self.inside = self.most = 0

    async def process(self, item):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(0.001 * (item % 3))
            if item in self.fails_on:
                raise ValueError(item)
            return item
        finally:
            self.inside -= 1


class Notes:
    """A coroutine that notes its items."""

    def __init__(self):
        self.items = []
        self.is_inside = False

    async def process(self, item):
        assert not self.is_inside
        self.is_inside = True
        await asyncio.sleep(0)
        self.items.append(item)
        self.is_inside = False
        return item


class Def:
    def process(self, item):
        return item


class LaterTwice:
    async def process(self, item):
        yield item
        yield item


class Flushed(Later):
    def flush(self):
        assert self.inside == 0
        return "end"


def start(work):
    return asyncio.get_running_loop().create_task(work)


def opened(*nodes, **settings):
    return Pipeline(list(nodes)).open(**settings)


async def all_of(outputs):
    return [output async for output in outputs]


async def later(items):
    for item in items:
        yield item
        await asyncio.sleep(0)


# Where it runs.


@pytest.mark.parametrize("is_run", [False, True])
@pytest.mark.parametrize(
    ("nodes", "is_there"),
    [
        ([with_options(Later(), concurrency=3)], True),
        ([with_options(Later(), concurrency=1)], True),
        ([with_options(Later(), concurrency=3, ordered=False)], True),
        ([with_options(Later(), concurrency=3, timeout=5, retries=1, dead_letter=print)], True),
        ([with_options(Later(), concurrency=3, placement="inline")], True),
        ([Def(), with_options(Later(), concurrency=3), Later()], True),
        ([with_options(Later(), concurrency=3), with_options(Later(), concurrency=2)], True),
        ([with_options(Later(), concurrency=3, placement="thread")], False),
        ([with_options(Later(), concurrency=3, placement="process")], False),
        ([with_options(Later(), concurrency=3, queue_size=8)], False),
        ([with_options(Later(), concurrency=3, when_full="drop_oldest")], False),
        ([with_options(LaterTwice(), concurrency=3)], False),
        ([LaterTwice(), with_options(Later(), concurrency=3)], False),
    ],
)
def test_coroutines_with_concurrency_are_on_the_loop(nodes, is_there, is_run):
    assert (on_loop(resolve(nodes), is_run=is_run) is not None) is is_there


def test_a_placed_neighbour_is_only_in_sessions():
    nodes = resolve([with_options(Def(), placement="thread"), with_options(Later(), concurrency=3)])

    assert on_loop(nodes, is_run=False) is not None
    assert on_loop(nodes, is_run=True) is None


async def by_call(nodes, items):
    async with opened(*nodes) as session:
        assert isinstance(session, LoopSession)
        return await asyncio.gather(*map(session.call, items))


async def by_map(nodes, items):
    async with opened(*nodes) as session:
        return await all_of(session.map(items))


async def by_put(nodes, items):
    async with opened(*nodes) as session:
        for item in items:
            await session.put(item)
        session.end()
        return await all_of(session)


async def by_run(nodes, items):
    return await execute_pipeline_with_input(nodes, [*items])


async def by_run_of_later_items(nodes, items):
    return await execute_pipeline_with_input(nodes, later(items))


async def by_run_of_a_source(nodes, items):
    class Source:
        async def process(self):
            for item in items:
                yield item

    pipeline = Pipeline([Source(), *nodes])
    return await pipeline.run()


WAYS = [by_call, by_map, by_put, by_run, by_run_of_later_items, by_run_of_a_source]


@pytest.mark.parametrize("way", WAYS)
def test_no_thread_exists_while_16_are_inside(way):
    node = Gate()

    async def main():
        result = start(way([with_options(node, concurrency=16)], range(20)))
        await node.until(*range(16))
        node.release(*range(20))
        return await result

    assert asyncio.run(main()) == [*range(20)]
    assert node.most == 16
    assert node.threads == {threading.active_count()}


@pytest.mark.parametrize("way", WAYS)
def test_neighbours_receive_one_item_at_a_time_in_order(way):
    before, node, behind = Notes(), Later(), Notes()

    outputs = asyncio.run(way([before, with_options(node, concurrency=4), behind], range(30)))

    assert outputs == before.items == behind.items == [*range(30)]
    assert node.most == 4


# Order, and what waits.


@ENGINES
def test_a_slow_item_delays_only_the_outputs_after_it(options):
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2, **options)) as session:
            outputs = start(all_of(session.map(range(5))))
            await node.until(0, 1)
            node.release(1, 2, 3)
            await node.until(0, 4)
            assert not outputs.done()
            node.release(4, 0)
            return await outputs

    assert asyncio.run(main()) == [*range(5)]


@ENGINES
@pytest.mark.parametrize("behind", [[], [Notes]])
def test_without_order_each_output_comes_when_it_is_made(options, behind):
    async def main():
        node = Gate()
        nodes = [with_options(node, concurrency=3, ordered=False, **options), *(kind() for kind in behind)]
        outputs = []
        async with opened(*nodes) as session:
            mapped = session.map(range(3))
            for item in (2, 1, 0):
                taken = start(anext(mapped))
                await node.until(*range(item + 1))
                node.release(item)
                outputs.append(await taken)
        return outputs

    assert asyncio.run(main()) == [2, 1, 0]


def test_calls_do_not_wait_for_slower_ones_before_them():
    async def main():
        node = Gate()
        async with opened(with_options(node, concurrency=2)) as session:
            slow, fast = start(session.call(0)), start(session.call(1))
            await node.until(0, 1)
            node.release(1)
            assert await fast == 1
            assert not slow.done()
            node.release(0)
            return await slow

    assert asyncio.run(main()) == 0


def test_calls_pass_on_to_the_next_node_in_order():
    async def main():
        node, behind = Gate(), Notes()
        async with opened(with_options(node, concurrency=3), behind) as session:
            calls = [start(session.call(item)) for item in range(3)]
            await node.until(0, 1, 2)
            node.release(2, 1)
            await node.until(0)
            # Turns of the loop change nothing.
            for _ in range(5):
                await asyncio.sleep(0)
            assert behind.items == []
            calls[0].cancel()
            return await asyncio.gather(*calls, return_exceptions=True), behind.items

    results, items = asyncio.run(main())

    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == items == [1, 2]


@pytest.mark.parametrize("queue_size", [1, 5])
def test_no_more_items_are_read_than_are_inside_and_in_the_queue(queue_size):
    async def main():
        node, read = Gate(), []

        def items():
            for item in range(100):
                read.append(item)
                yield item

        async with opened(with_options(node, concurrency=3), queue_size=queue_size) as session:
            mapped = session.map(items())
            first = start(anext(mapped))
            await node.until(0, 1, 2)
            await asyncio.sleep(0.01)
            assert len(read) <= 3 + queue_size
            node.release(*range(100))
            assert [await first, *await all_of(mapped)] == [*range(100)]

    asyncio.run(main())


def test_outputs_that_nobody_takes_hold_up_the_input():
    async def main():
        node = Later()
        async with opened(with_options(node, concurrency=3), queue_size=2) as session:
            for item in range(5):
                await session.put(item)
            last = start(session.put(5))
            await session.drain()
            await asyncio.sleep(0.01)
            assert not last.done()
            session_outputs = aiter(session)
            taken = [await anext(session_outputs) for _ in range(5)]
            await last
            return [*taken, await anext(session_outputs)]

    assert asyncio.run(main()) == [*range(6)]


@ENGINES
def test_a_node_is_flushed_when_nothing_is_inside(options):
    async def main():
        async with opened(with_options(Flushed(), concurrency=4, **options)) as session:
            streams = (session.map(range(10)), session.map(range(20)))
            return await asyncio.gather(*map(all_of, streams))

    assert asyncio.run(main()) == [[*range(10), "end"], [*range(20), "end"]]


def test_outputs_of_a_flush_are_inside_the_next_node_together():
    class Collects:
        def __init__(self):
            self.items = []

        async def process(self, item):
            self.items.append(item)

        def flush(self):
            yield from self.items

    node = Later()

    outputs = asyncio.run(by_run([Collects(), with_options(node, concurrency=4)], range(10)))

    assert outputs == [*range(10)]
    assert node.most == 4


# Failures.


@ENGINES
@pytest.mark.parametrize("nodes", [[], [Notes]])
def test_an_item_that_fails_is_the_error_of_its_call_alone(options, nodes):
    async def main():
        node = with_options(Later(fails_on={1, 5}), concurrency=4, **options)
        async with opened(*(kind() for kind in nodes), node, *(kind() for kind in nodes)) as session:
            return await asyncio.gather(*map(session.call, range(8)), return_exceptions=True)

    results = asyncio.run(main())

    failed = [result for result in results if isinstance(result, NodeError)]
    assert [(error.item_index, error.phase, error.node_id[:5]) for error in failed] == [
        (1, "process", "Later"),
        (5, "process", "Later"),
    ]
    assert [result for result in results if result not in failed] == [0, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("way", [by_map, by_run, by_run_of_later_items, by_run_of_a_source])
def test_a_stream_ends_with_the_first_error_in_order(way):
    node = Later(fails_on={2, 3})

    with pytest.raises(NodeError) as error:
        asyncio.run(way([with_options(node, concurrency=4)], range(10)))

    assert (error.value.item_index, error.value.__cause__.args) == (2, (2,))
    assert node.inside == 0


def test_a_run_is_not_flushed_after_an_error():
    class Counts(Later):
        flushes = 0

        def flush(self):
            self.flushes += 1

    node, behind = Counts(fails_on={3}), Counts()

    with pytest.raises(NodeError):
        asyncio.run(by_run([with_options(node, concurrency=4), behind], range(4)))

    assert (node.flushes, behind.flushes) == (0, 0)


def test_items_after_an_error_go_on_in_the_stream_of_put():
    async def main():
        taken = []
        async with opened(with_options(Later(fails_on={2}), concurrency=4)) as session:
            for item in range(6):
                await session.put(item)
            session.end()
            while len(taken) < 6:
                try:
                    async for output in session:
                        taken.append(output)  # noqa: PERF401 - Those before the error count.
                except NodeError as error:
                    taken.append(error.item_index)
        return taken

    assert asyncio.run(main()) == [*range(6)]


@ENGINES
class TestPolicies:
    def test_a_timeout_is_that_of_its_item(self, options):
        async def main():
            node = Gate()
            policy = {"timeout": 0.05, "on_error": "skip"}
            async with opened(with_options(node, concurrency=3, **policy, **options)) as session:
                calls = asyncio.gather(*map(session.call, range(3)))
                await node.until(0, 1, 2)
                node.release(0, 2)
                return await calls, node.cancelled

        assert asyncio.run(main()) == ([0, None, 2], [1])

    def test_items_are_tried_again_beside_each_other(self, options):
        class Flaky(Later):
            tried = ()

            async def process(self, item):
                await super().process(item)
                if item not in self.tried:
                    self.tried = (*self.tried, item)
                    raise ValueError(item)
                return item

        async def main():
            node = Flaky()
            policy = {"retries": 1, "retry_delay": 0.001}
            async with opened(with_options(node, concurrency=3, **policy, **options)) as session:
                return await all_of(session.map(range(9))), node.most

        assert asyncio.run(main()) == ([*range(9)], 3)

    def test_failed_items_go_to_the_dead_letter_function(self, options):
        async def main():
            letters = []

            async def take(item, error):
                await asyncio.sleep(0)
                letters.append((item, error.item_index))

            node = with_options(Later(fails_on={1, 4}), concurrency=3, dead_letter=take, **options)
            async with opened(node) as session:
                return await all_of(session.map(range(6))), await session.call(1), sorted(letters)

        assert asyncio.run(main()) == ([0, 2, 3, 5], None, [(1, 1), (1, 6), (4, 4)])


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


class Late:
    """Returns something that is not a plain value yet."""

    def __init__(self, how):
        self.how = how

    async def twice(self, item):
        for _ in range(2):
            await asyncio.sleep(0)
            yield item

    async def once(self, item):
        return item

    async def process(self, item):
        await asyncio.sleep(0)
        return getattr(self, self.how)(item)


@pytest.mark.parametrize(("how", "count"), [("twice", 2), ("once", 1)])
def test_late_results_are_awaited(how, count):
    async def main():
        async with opened(with_options(Late(how), concurrency=3)) as session:
            return await all_of(session.map(range(3))), await session.call(3)

    stream, result = asyncio.run(main())

    assert stream == [item for item in range(3) for _ in range(count)]
    assert result == ([3, 3] if count == 2 else 3)


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


async def tens_of(item):
    await asyncio.sleep(0)
    return item * 10


async def tens_later(item):
    return tens_of(item)


class ReturnsCoroutines:
    def __init__(self, make):
        self.make = make

    async def process(self, item):
        return self.make(item)


@pytest.mark.parametrize("make", [tens_of, tens_later])
@ENGINES
def test_a_coroutine_that_a_node_returns_is_awaited(options, make):
    """The event loop waited for itself."""

    async def main():
        node = with_options(ReturnsCoroutines(make), concurrency=2, **options)
        async with Pipeline([node]).open() as session:
            return [output async for output in session.map([1, 2, 3])], await session.call(4)

    assert asyncio.run(main()) == ([10, 20, 30], 40)


@pytest.mark.parametrize("make", [tens_of, tens_later])
def test_in_plain_python_a_coroutine_that_a_node_returns_is_awaited(make):
    with Pipeline([with_options(ReturnsCoroutines(make), concurrency=2)]).open() as session:
        assert (list(session.map([1, 2, 3])), session.call(4)) == ([10, 20, 30], 40)
