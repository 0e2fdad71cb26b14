"""Streams through stages on threads: what waits goes on together, and nothing else changes."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from chunk_nodes import (
    KERNEL,
    SOURCES,
    TIMEOUT_SECS,
    Add,
    Block,
    Fail,
    Filter,
    Pass,
    a_generator,
    a_list,
    language,
    on_thread,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia import Node, Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError


@SOURCES
@pytest.mark.parametrize("stages", [1, 3])
def test_most_items_go_together(source, stages):
    nodes = [Add() for _ in range(stages)]

    with on_thread(*nodes).open() as session:
        assert list(session.map(source(5_000))) == list(range(stages, 5_000 + stages))

    if source is not a_generator:
        assert all(node.together > 100 for node in nodes)


def test_items_that_come_while_a_stage_is_busy_go_together():
    node, block = Add(), Block(0)

    def live():
        yield 0
        assert block.is_there.wait(TIMEOUT_SECS)
        yield from range(1, 50)
        block.go.set()
        yield from range(50, 500)

    with Pipeline([block, node]).open(placement="thread") as session:
        # How fast the nodes are is known from now on.
        assert list(session.map(range(1, 2_001))) == list(range(2, 2_002))
        node.together = 0
        assert list(session.map(live())) == list(range(1, 501))

    assert node.together >= 8


@SOURCES
def test_neighbours_of_one_stage_go_together(source):
    nodes = [Add(), Filter(3), Add()]

    with Pipeline(nodes).open(placement="thread") as session:
        assert list(session.map(source(3_000))) == [item + 2 for item in range(3_000) if (item + 1) % 3]

    if source is not a_generator:
        assert nodes[0].together > 100


@SOURCES
def test_most_items_of_a_run_go_together(source):
    nodes = [Add(), Add()]
    placed = [with_options(node, placement="thread") for node in nodes]

    outputs = asyncio.run(execute_pipeline_with_input(placed, source(5_000)))

    assert outputs == list(range(2, 5_002))
    if source is not a_generator:
        assert nodes[0].together > 100


@SOURCES
def test_a_run_that_fails_names_the_item(source):
    nodes = [with_options(node, placement="thread") for node in (Filter(3), Fail({700}), Add())]

    with pytest.raises(NodeError) as info:
        asyncio.run(execute_pipeline_with_input(nodes, source(5_000)))

    assert (info.value.node_id, info.value.item_index) == ("Fail_1", 700)


@pytest.mark.parametrize("options", [{"enable_metrics": True}, {"queue_size": 1}, {"queue_size": 5}])
@SOURCES
def test_options_change_no_output(source, options):
    with on_thread(Add(), Filter(7), Add()).open(**options) as session:
        assert list(session.map(source(2_000))) == [item + 2 for item in range(2_000) if (item + 1) % 7]
        metrics = session.metrics()

    if metrics is not None:
        first, second, third = metrics["node_metrics"]
        assert [first["items_in"], first["items_out"], second["items_in"]] == [2_000] * 3
        assert second["items_out"] == third["items_in"] == third["items_out"] == 1_715
        assert (metrics["items_in"], metrics["items_out"]) == (2_000, 1_715)


def test_nothing_comes_out_of_a_filter_that_drops_all(monkeypatch):
    # A stream that is not woken at the end of a chunk without outputs would wait so long for each of them.
    monkeypatch.setattr("remotemedia.sessions._WAIT_SECS", 30.0)

    with on_thread(Add(), Filter(1)).open() as session:
        assert list(session.map(range(5_000))) == []


class TestFailures:
    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.tuples(st.integers(1, 600), st.integers(0, 599)),
        factor=st.integers(2, 5),
        place=st.integers(0, 3),
        source=st.sampled_from([a_list, a_generator]),
        before=st.integers(0, 100),
    )
    def test_the_error_names_the_item_and_follows_all_outputs_before_it(
        self, sizes, factor, place, source, before
    ):
        count, at = sizes
        nodes = [Filter(factor), Add(), Filter(factor)]
        nodes.insert(place, Fail({at + 1 if place >= 2 else at}))
        expected = [item + 1 for item in range(count) if item % factor and (item + 1) % factor]
        reaches_it = at < count and (place == 0 or at % factor) and (place < 3 or (at + 1) % factor)

        with on_thread(*nodes).open() as session:
            assert list(session.map(range(10_000, 10_000 + before))) is not None
            outputs, index = [], None
            try:
                outputs.extend(session.map(source(count)))
            except NodeError as error:
                index = error.item_index
            again = list(session.map([10_001]))

        if reaches_it:
            assert index == before + at
            assert outputs == [output for output in expected if output <= at]
        else:
            assert (index, outputs) == (None, expected)
        assert len(again) <= 1

    def test_lazy_results_continue_in_the_middle(self):
        class Sometimes(Node):
            def process(self, item):
                return (item for _ in range(3)) if item % 100 == 50 else item

        with on_thread(Add(), Sometimes(), Add()).open() as session:
            outputs = list(session.map(range(1_000)))

        expected = [item + 2 for item in range(1_000) for _ in range(3 if (item + 1) % 100 == 50 else 1)]
        assert outputs == expected

    def test_items_that_are_coroutines_are_passed_on(self):
        class Make(Node):
            def process(self, item):
                async def later():
                    return item

                return [later()] if item % 50 == 7 else [item]

        class Open(Node):
            def process(self, item):
                return item[0]

        with on_thread(Make(), Open(), Add()).open() as session:
            assert list(session.map(range(500))) == list(range(1, 501))


class TestOneItem:
    def test_a_lone_item_goes_at_once(self):
        is_there = threading.Event()

        class See(Node):
            def process(self, item):
                is_there.set()
                return item

        def live():
            for number in range(500):
                is_there.clear()
                yield number
                # The stream waits here, while the item goes through.
                assert is_there.wait(TIMEOUT_SECS)

        with on_thread(Add(), See()).open() as session:
            assert list(session.map(live())) == list(range(1, 501))

    @pytest.mark.parametrize("queue_size", [1, 4, 64])
    def test_no_more_is_read_in_advance_than_the_queues_hold(self, queue_size):
        read = []

        def source():
            for number in range(10_000):
                read.append(number)
                yield number

        with on_thread(Add()).open(queue_size=queue_size) as session:
            for output in session.map(source()):
                assert len(read) - output <= 2 * (queue_size + 2)

    def test_a_slow_node_is_given_one_after_the_other(self):
        class Slow(Add):
            def process(self, item):
                time.sleep(0.002)
                caller = sys._getframe().f_back
                self.together += caller is not None and caller.f_code.co_filename == KERNEL
                return item

        node = Slow()

        with on_thread(node).open() as session:
            assert list(session.map(range(100))) == list(range(100))

        assert node.together == 0

    @pytest.mark.parametrize("as_run", [False, True])
    def test_a_chunk_that_becomes_slow_is_given_back(self, as_run):
        """Otherwise the first slow item of a chunk would wait for all others."""
        seen, ahead = [], []

        class Slow(Node):
            def process(self, item):
                seen.append(item)
                if item >= 3_000:
                    time.sleep(0.02)
                return item

        class Note(Node):
            def process(self, item):
                ahead.append(len(seen) - len(ahead))
                return item

        nodes = [Slow(), Note()]
        if as_run:
            placed = [with_options(node, placement="thread") for node in nodes]
            outputs = asyncio.run(execute_pipeline_with_input(placed, range(3_100)))
        else:
            with on_thread(*nodes).open() as session:
                outputs = list(session.map(range(3_100)))

        assert outputs == list(range(3_100))
        assert max(ahead[3_000:]) < 40


class TestContexts:
    def test_variables_that_a_node_sets_are_not_seen_with_the_next_item(self):
        class Set(Node):
            def process(self, item):
                before = language.get()
                language.set(f"set by {item}")
                return before

        language.set("caller")
        with on_thread(Set()).open() as session:
            assert set(session.map(range(1_000))) == {"caller"}
        assert language.get() == "caller"

    def test_each_stream_has_the_variables_of_its_caller(self):
        class Get(Node):
            def process(self, item):
                return language.get()

        def read(name):
            language.set(name)
            return set(session.map(range(2_000)))

        with on_thread(Get(), Pass()).open() as session, ThreadPoolExecutor(4) as pool:
            names = [f"caller {number}" for number in range(8)]
            assert list(pool.map(read, names)) == [{name} for name in names]


class TestSharing:
    def test_streams_and_calls_of_several_threads_keep_their_outputs_apart(self):
        def stream(number):
            items = range(number * 100_000, number * 100_000 + 3_000)
            return list(session.map(iter(items) if number % 2 else items)) == [item + 2 for item in items]

        def calls(number):
            return all(
                session.call(number * 100_000 + item) == number * 100_000 + item + 2 for item in range(200)
            )

        with on_thread(Add(), Add()).open() as session, ThreadPoolExecutor(8) as pool:
            done = [pool.submit(stream if number % 4 else calls, number) for number in range(16)]
            assert all(each.result(TIMEOUT_SECS * 3) for each in done)


class TestBatches:
    """Batches have the sizes that they have without chunks."""

    class Collect(Node):
        """Adds one to each item of a batch, drops the multiples of a number, and fails at some items."""

        def __init__(self, factor=10_000, failing=()):
            super().__init__()
            self.factor, self.failing = factor, set(failing)
            self.sizes = []

        def process(self, batch):
            self.sizes.append(len(batch))
            if self.failing & set(batch):
                raise ValueError(batch)
            return [None if item % self.factor == 0 else item + 1 for item in batch]

    @SOURCES
    @pytest.mark.parametrize("size", [2, 32, 50, 100])
    def test_batches_are_full_but_the_last(self, source, size):
        node = self.Collect()

        with Pipeline([with_options(node, batch=size)]).open() as session:
            assert list(session.map(source(1_234))) == [item + 1 for item in range(1_234) if item]

        assert node.sizes == [size] * (1_234 // size) + [1_234 % size] * bool(1_234 % size)

    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(1, 400),
        at=st.integers(0, 399),
        size=st.sampled_from([2, 3, 16, 32, 64]),
        factor=st.integers(2, 5),
        source=st.sampled_from([a_list, a_generator]),
    )
    def test_all_before_a_batch_that_fails_come_out(self, count, at, size, factor, source):
        nodes = [
            with_options(self.Collect(factor, [at]), batch=size),
            with_options(Add(), placement="thread"),
        ]
        outputs, index = [], None

        with Pipeline(nodes).open() as session:
            try:
                outputs.extend(session.map(source(count)))
            except NodeError as error:
                index = error.item_index

        first = at // size * size if at < count else count
        assert outputs == [item + 2 for item in range(first) if item % factor]
        assert index == (first if at < count else None)

    def test_a_batch_that_waits_is_full_after_the_next_items(self):
        node = self.Collect()

        with Pipeline([with_options(node, batch=8)]).open() as session:
            for _ in range(3):
                assert list(session.map(list(range(1, 21)))) == list(range(2, 22))

        assert node.sizes == [8, 8, 4] * 3
