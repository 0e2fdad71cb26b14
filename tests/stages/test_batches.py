"""Batches: several items in one call of `process`."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Count, Hold, Noting, Twice, Worker

from remotemedia import Batch, Pipeline, with_options
from remotemedia.exceptions import NodeError, PipelineError


class Batched:
    """Takes lists, and records them."""

    def __init__(self):
        self.batches = []
        self.has_received = threading.Event()

    def process(self, items):
        self.batches.append(list(items))
        self.has_received.set()
        return [item * 10 for item in items]


def map_all(nodes, items, **options):
    with Pipeline(nodes).open(**options) as session:
        return list(session.map(items))


class TestBatch:
    def test_full_batches_are_processed_immediately_and_the_rest_at_the_end(self):
        node = Batched()

        outputs = map_all([with_options(node, batch=4), Count()], range(10))

        assert outputs == [*range(0, 100, 10), "10 items"]
        assert node.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_no_batch_is_larger_than_allowed_after_any_node(self):
        node = Batched()
        pipeline = Pipeline("merge")
        pipeline.add_node(Noting(), id="a").add_node(Noting(), id="b", after=[]).add_node(
            Twice(), id="c", after=[]
        )
        pipeline.add_node(node, after=["a", "b", "c"], batch=3)

        with pipeline.open() as session:
            outputs = list(session.map([1, 2]))

        assert outputs == [10] * 4 + [20] * 4
        assert max(map(len, node.batches)) == 3

    def test_a_partial_batch_is_processed_after_max_wait(self):
        node = Batched()

        with Pipeline([with_options(node, batch=Batch(100, max_wait=0.01))]).open() as session:
            session.put(1)
            session.put(2)
            assert node.has_received.wait(TIMEOUT_SECS)
            session.end()
            outputs = list(session)

        assert outputs == [10, 20]
        assert max(map(len, node.batches)) <= 2

    def test_a_partial_batch_is_processed_when_the_session_drains(self):
        node = Batched()

        with Pipeline([with_options(node, batch=100)]).open() as session:
            session.put(1)
            session.put(2)
            session.drain()
            batches = [item for batch in node.batches for item in batch]

        assert batches == [1, 2]

    def test_a_call_does_not_wait_for_company(self):
        with Pipeline([with_options(Batched(), batch=100)]).open() as session:
            assert session.call(1) == 10

    def test_calls_at_once_share_batches(self):
        hold = Hold("first")

        class Node(Batched):
            def process(self, items):
                hold.process(items[0])
                super().process(items)
                return items

        node = Node()
        with Pipeline([with_options(node, batch=100)]).open() as session:
            first = Worker(lambda: session.call("first"))
            assert hold.is_there.wait(TIMEOUT_SECS)
            others = [Worker(lambda number=number: session.call(number)) for number in range(5)]
            hold.go.set()
            results = [first.result(), *(worker.result() for worker in others)]

        assert results == ["first", 0, 1, 2, 3, 4]
        assert node.batches[0] == ["first"]

    def test_a_coroutine_takes_batches_too(self):
        class Node:
            async def process(self, items):
                await asyncio.sleep(0)
                return [len(items)] * len(items)

        assert map_all([with_options(Node(), batch=2)], range(3)) == [2, 2, 1]

    def test_none_in_a_result_is_not_an_output(self):
        class Node:
            def process(self, items):
                return [item if item % 2 else None for item in items]

        assert map_all([with_options(Node(), batch=3)], range(6)) == [1, 3, 5]

    @pytest.mark.parametrize(
        ("result", "text"),
        [
            ([1], "process() received a batch of 2 items and returned 1"),
            (7, "process() received a batch of 2 items and returned int; return a list of the same length"),
        ],
    )
    def test_a_result_of_another_length_is_an_error_with_both_lengths(self, result, text):
        class Node:
            def process(self, items):
                return result

        with pytest.raises(NodeError) as caught:
            map_all([with_options(Node(), batch=2)], range(2))

        assert str(caught.value.__cause__) == text

    def test_replicas_take_batches_in_order(self):
        class Node(Batched):
            thread_safe = True

        node = Node()

        outputs = map_all([with_options(node, placement="thread", replicas=2, batch=3)], range(50))

        assert outputs == list(range(0, 500, 10))
        assert max(map(len, node.batches)) <= 3

    def test_it_is_for_nodes_that_take_lists(self):
        with pytest.raises(PipelineError, match="batch requires a process\\(\\) that takes a list"):
            Pipeline([with_options(Twice(), batch=2)])
