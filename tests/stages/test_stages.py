"""Stages in parallel: threads, replicas, concurrent coroutines, batches."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Add, Hold, Noting, Odd, Twice, thread_count

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, PipelineError


class Where:
    """Records its thread."""

    def __init__(self):
        self.threads = set()

    def process(self, item):
        self.threads.add(threading.get_ident())
        return item


def map_all(nodes, items, **options):
    with Pipeline(nodes).open(**options) as session:
        return list(session.map(items))


class TestThreads:
    def test_two_placed_neighbours_work_at_the_same_time(self):
        """They shared a thread unless one of them had a queue of its own."""
        barrier = threading.Barrier(2, timeout=TIMEOUT_SECS)

        class First:
            def process(self, item):
                if item > 0:
                    barrier.wait()
                return item

        class Second:
            def process(self, item):
                if item < 9:
                    barrier.wait()
                return item

        first, second = (with_options(node, placement="thread") for node in (First(), Second()))

        # The second stage processes an item exactly while the first one processes the next item.
        assert map_all([first, second], range(10)) == list(range(10))

    def test_neighbours_that_inherit_their_placement_share_a_thread(self):
        nodes = [Where(), Where(), Where()]

        with Pipeline([*nodes[:2], with_options(nodes[2], queue_size=2)]).open(placement="thread") as session:
            list(session.map(range(3)))

        assert nodes[0].threads == nodes[1].threads
        assert nodes[0].threads.isdisjoint(nodes[2].threads)
        assert threading.get_ident() not in nodes[0].threads | nodes[2].threads

    @pytest.mark.parametrize("placements", [*itertools.product(["inline", "thread"], repeat=4)])
    def test_outputs_are_those_of_an_inline_pipeline(self, placements):
        pipeline = Pipeline("fork")
        nodes = {
            "in": (Twice(), []),
            "odd": (Odd(), "in"),
            "add": (Add(), "in"),
            "out": (Noting(), ["odd", "add"]),
        }
        for (name, (node, after)), placement in zip(nodes.items(), placements, strict=True):
            pipeline.add_node(node, id=name, after=after, placement=placement, join=name == "out")

        with pipeline.open() as session:
            outputs = list(session.map(range(4)))

        assert outputs == [
            {"odd": None, "add": [1, 1]},
            {"odd": [1, 1], "add": [2, 2]},
            {"odd": None, "add": [3, 3]},
            {"odd": [3, 3], "add": [4, 4]},
        ]


class TestReplicas:
    def test_they_work_at_the_same_time(self):
        barrier = threading.Barrier(4, timeout=TIMEOUT_SECS)

        class Meet:
            thread_safe = True

            def process(self, item):
                barrier.wait()
                return item

        assert map_all([with_options(Meet(), placement="thread", replicas=4)], range(16)) == list(range(16))

    def test_order_is_restored(self):
        hold = Hold(0)

        class Lets(Hold):
            def process(self, item):
                if item == 20:
                    hold.go.set()
                return hold.process(item)

        node = with_options(Lets(), placement="thread", replicas=2)

        assert map_all([node], range(30)) == list(range(30))

    def test_unordered_ones_overtake(self):
        hold = Hold(0)
        outputs = []

        with Pipeline([with_options(hold, placement="thread", replicas=2, ordered=False)]).open() as session:
            for output in session.map(range(5)):
                outputs.append(output)
                if output == 4:
                    hold.go.set()

        assert outputs == [1, 2, 3, 4, 0]

    def test_a_factory_makes_one_object_for_each(self):
        made = []

        class Made(Noting):
            def __init__(self):
                super().__init__()
                made.append(self)

        with Pipeline([with_options(Made, placement="thread", replicas=3)]).open() as session:
            outputs = list(session.map(range(30)))

        assert outputs == list(range(30))
        assert len(made) == 3
        assert sorted(item for node in made for item in node.log if isinstance(item, int)) == outputs
        assert all((node.log[0], node.log[-1]) == ("initialize node", "cleanup node") for node in made)

    def test_a_shared_object_is_initialized_flushed_and_cleaned_up_once(self):
        class Shared(Noting):
            thread_safe = True

            def flush(self):
                self.log.append("flush")
                return "rest"

        node = Shared()

        outputs = map_all([with_options(node, placement="thread", replicas=3)], range(3))

        assert outputs == [0, 1, 2, "rest"]
        assert sorted(node.log, key=str) == [0, 1, 2, "cleanup node", "flush", "initialize node"]

    @pytest.mark.parametrize(
        ("node", "options", "text"),
        [
            (Add(), {"placement": "thread", "replicas": 2}, "requires an object with thread_safe = True"),
            (Hold(), {"replicas": 2}, "replicas requires placement='thread'"),
            (Hold(), {"placement": "thread", "replicas": 2, "concurrency": 2}, "cannot be combined"),
        ],
    )
    def test_replicas_of_a_node_that_cannot_be_copied_are_refused(self, node, options, text):
        with pytest.raises(PipelineError, match=text):
            Pipeline("replicas").add_node(node, **options)


class TestConcurrency:
    def test_a_thousand_items_are_in_flight_without_a_thread_for_each(self):
        all_there = asyncio.Event()
        inside = 0
        threads = []

        class Meets:
            async def process(self, item):
                nonlocal inside
                inside += 1
                if inside == 1000:
                    threads.append(thread_count())
                    all_there.set()
                await all_there.wait()
                return item

        async def main():
            before = thread_count()
            async with Pipeline([with_options(Meets(), concurrency=1000)]).open() as session:
                outputs = [output async for output in session.map(range(1000))]
            return before, outputs

        before, outputs = asyncio.run(main())

        assert outputs == list(range(1000))
        assert threads[0] - before < 10

    def test_order_is_kept_and_only_later_items_wait(self):
        async def main():
            second_is_done = asyncio.Event()
            log = []

            class Waits:
                async def process(self, item):
                    if item == 0:
                        await second_is_done.wait()
                    log.append(item)
                    if item == 3:
                        second_is_done.set()
                    return item

            async with Pipeline([with_options(Waits(), concurrency=4)]).open() as session:
                return log, [output async for output in session.map(range(4))]

        assert asyncio.run(main()) == ([1, 2, 3, 0], [0, 1, 2, 3])

    def test_not_more_than_allowed_are_in_flight(self):
        class Counts:
            inside = most = 0

            async def process(self, item):
                self.inside += 1
                self.most = max(self.most, self.inside)
                await asyncio.sleep(0)
                self.inside -= 1
                return item

        node = Counts()

        outputs = map_all([with_options(node, concurrency=5)], range(100))

        assert outputs == list(range(100))
        assert 1 < node.most <= 5

    def test_one_that_fails_is_the_error_of_its_item_alone(self):
        class Fails:
            async def process(self, item):
                await asyncio.sleep(0)
                if item == 2:
                    raise ValueError("bad 2")
                return item

        async def main():
            async with Pipeline([with_options(Fails(), concurrency=8)]).open() as session:
                return await asyncio.gather(*map(session.call, range(5)), return_exceptions=True)

        results = asyncio.run(main())

        assert [result for result in results if not isinstance(result, NodeError)] == [0, 1, 3, 4]
        assert isinstance(results[2].__cause__, ValueError)

    def test_async_generators_are_in_flight_at_once(self):
        class Spells:
            under_way = most = 0

            async def process(self, word):
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                for letter in word:
                    await asyncio.sleep(0.002)
                    yield letter
                self.under_way -= 1

        node = Spells()

        outputs = map_all([with_options(node, concurrency=4)], ["stop", "", "go"] * 4)

        assert "".join(outputs) == "stopgo" * 4
        assert 1 < node.most <= 4

    def test_it_is_for_coroutines(self):
        with pytest.raises(PipelineError, match="concurrency requires an async process"):
            Pipeline([with_options(Add(), concurrency=2)])


class TestBranches:
    @pytest.mark.parametrize(
        "options", [{"batch": 2}, {"concurrency": 2}, {"placement": "thread", "replicas": 2}]
    )
    def test_every_branch_after_a_parallel_stage_gets_every_item(self, options):
        class Passes:
            thread_safe = True

            def process(self, item):
                return item

        class Awaits:
            async def process(self, item):
                return item

        pipeline = Pipeline("fork")
        pipeline.add_node(Awaits() if "concurrency" in options else Passes(), id="in", **options)
        pipeline.add_node(Noting(), id="a", after="in").add_node(
            Noting(), id="b", after="in", placement="thread"
        )
        pipeline.add_node(Noting(), id="c", after=["a", "b"], join=True).add_node(
            Noting(), id="d", after="in"
        )

        with pipeline.open() as session:
            outputs = list(session.map([1, 2]))

        assert outputs == [{"a": 1, "b": 1}, 1, {"a": 2, "b": 2}, 2]
