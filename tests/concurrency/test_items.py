"""Nodes with `concurrency` in asyncio: where they run, in which order items leave, and what fails."""

from __future__ import annotations

import asyncio
import threading

import pytest
from concurrent_nodes import (
    ENGINES,
    WAYS,
    Def,
    Flushed,
    Gate,
    Later,
    LaterTwice,
    Notes,
    all_of,
    by_map,
    by_run,
    by_run_of_a_source,
    by_run_of_later_items,
    opened,
    start,
)
from stream_nodes import TIMEOUT_SECS

from remotemedia import with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia.exceptions import NodeError

pytestmark = pytest.mark.timeout(TIMEOUT_SECS)

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
