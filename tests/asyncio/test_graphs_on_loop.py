"""Branches on the event loop: outputs, errors and ends of generators are those of the reference executor."""

from __future__ import annotations

import asyncio

import pytest
from branch_nodes import INPUTS, LATE, AsyncGenerator, Coroutine, Generator, Source, Unusual, counts
from hypothesis import given
from hypothesis import strategies as st

from remotemedia import Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import can_measure, on_loop
from remotemedia.exceptions import NodeError, SessionInterruptedError

CLASSES = [Unusual, Unusual, Coroutine, Generator, AsyncGenerator]


@st.composite
def graphs(draw, *, sources=True):
    """Draw for each node its class, the kind of its results, the nodes before it, and whether it joins."""
    has_source = sources and draw(st.booleans())
    nodes = [(Source, "plain", [], False)] if has_source else []
    for index in range(len(nodes), draw(st.integers(2, 6))):
        ids = [f"n{one}" for one in range(index)]
        after = draw(st.lists(st.sampled_from(ids), max_size=3, unique=True)) if ids else []
        after = after or ids[:has_source]
        kind = draw(st.sampled_from(["plain", "drops", "fails", *LATE]))
        nodes.append((draw(st.sampled_from(CLASSES)), kind, after, bool(after) and draw(st.booleans())))
    return nodes


def pipeline_of(graph, log):
    pipeline = Pipeline("generated")
    for index, (node_class, kind, after, join) in enumerate(graph):
        node = node_class(kind, f"n{index}", log)
        node = node if node_class is Source else with_options(node, placement="inline")
        pipeline.add_node(node, id=f"n{index}", after=after, join=join)
    return pipeline


async def seen(graph, inputs=INPUTS, *, use_rust, enable_metrics=False):
    """Run a graph; return its outputs or its error, and the calls."""
    log = []
    pipeline = pipeline_of(graph, log)
    options = {"use_rust": use_rust, "enable_metrics": enable_metrics}
    try:
        if graph[0][0] is Source:
            outputs = await execute_pipeline(pipeline, **options)
        else:
            outputs = await execute_pipeline_with_input(pipeline, inputs, **options)
        if enable_metrics:
            outputs = outputs["outputs"], *counts(outputs["metrics"])
    except NodeError as error:
        outputs = error.node_id, error.item_index, error.phase, str(error)
    return outputs, log


@given(graphs())
def test_a_run_is_as_in_the_reference(graph):
    engine = asyncio.run(seen(graph, use_rust=True))
    reference = asyncio.run(seen(graph, use_rust=False))

    assert engine == reference


@pytest.mark.parametrize("inputs", [[1, 2], INPUTS])
@pytest.mark.parametrize("first", ["plain", "generator"])
def test_a_join_is_reached_by_what_its_branches_receive(first, inputs):
    """At the end of the input, only outputs count."""
    graph = [
        (Unusual, first, [], False),
        (Unusual, "drops", ["n0"], False),
        (Unusual, "drops", ["n1"], False),
        (Unusual, "plain", ["n2"], False),
        (Unusual, "plain", ["n1"], True),
        (Unusual, "plain", ["n3"], True),
    ]

    engine = asyncio.run(seen(graph, inputs, use_rust=True))
    reference = asyncio.run(seen(graph, inputs, use_rust=False))

    assert engine == reference


@given(graphs())
def test_the_counts_of_a_run_are_those_of_the_reference(graph):
    here = on_loop(resolve(pipeline_of(graph, [])), is_run=True)
    assert graph[0][0] is Source or (here is not None and can_measure(here, is_run=True))

    engine = asyncio.run(seen(graph, use_rust=True, enable_metrics=True))
    reference = asyncio.run(seen(graph, use_rust=False, enable_metrics=True))

    assert engine == reference


def test_a_session_measures_its_calls_on_the_loop():
    class Fails:
        async def process(self, item):
            await asyncio.sleep(0)
            if item == 1:
                raise ValueError
            return item

    async def main():
        here = Fails()
        pipeline = Pipeline("measured").add_node(here, id="a").add_node(Fails(), id="b", after="a")
        async with pipeline.open(enable_metrics=True) as session:
            for item in (0, 1, 2):
                await asyncio.gather(session.call(item), return_exceptions=True)
            await asyncio.gather(*map(session.call, range(4)), return_exceptions=True)
            return session.metrics()

    metrics = asyncio.run(main())

    (items_in, items_out, *_), nodes = counts(metrics)
    assert (items_in, items_out) == (7, 5)
    assert [(node["items_in"], node["items_out"], node["failures"]) for node in nodes] == [
        (7, 5, 2),
        (5, 5, 0),
    ]
    first = metrics["node_metrics"][0]
    # The first one waits, too, if other tasks are due.
    assert first["peak_queue_len"] in {3, 4}
    assert 0 < first["min_duration_us"] <= first["max_duration_us"]
    assert first["queue_wait_us"] > 0


@given(graphs(sources=False))
def test_a_session_gives_to_each_item_what_a_run_does(graph):
    log = []

    async def outputs_of_calls():
        results = []
        async with pipeline_of(graph, log).open() as session:
            for item in INPUTS:
                try:
                    result = await session.call(item)
                except NodeError as error:
                    return [*results, error.node_id]
                results += result if type(result) is list else [] if result is None else [result]
        return results

    results = asyncio.run(outputs_of_calls())

    outputs, calls = asyncio.run(seen(graph, use_rust=False))
    if type(outputs) is tuple:
        # The run has no outputs; an error in `flush` is none of a call.
        assert outputs[2] == "flush" or results[-1] == outputs[0]
    else:
        assert results == outputs[: len(results)]
    assert log == calls[: len(log)]


@pytest.mark.parametrize("join", [False, True])
def test_branches_of_coroutines_run_in_the_task_of_the_caller(join):
    tasks = []

    class Notes:
        async def process(self, item):
            tasks.append(asyncio.current_task())
            return item

    async def main():
        pipeline = Pipeline("diamond").add_node(Notes(), id="in")
        for branch in ("a", "b"):
            pipeline.add_node(Notes(), id=branch, after="in")
        pipeline.add_node(Notes(), id="out", after=["a", "b"], join=join)
        await execute_pipeline_with_input(pipeline, [1])
        async with pipeline.open() as session:
            await session.call(1)
        return asyncio.current_task()

    task = asyncio.run(main())

    assert len(tasks) == 8 if join else 10
    assert {*tasks} == {task}


@pytest.mark.parametrize("enable_metrics", [False, True])
def test_an_interrupted_input_leaves_nothing_where_branches_meet(enable_metrics):
    """Metrics are collected without a kernel, whose variables are those of one input."""

    class Waits:
        def __init__(self):
            self.is_waiting = asyncio.Event()

        async def process(self, item):
            if item == 1:
                self.is_waiting.set()
                await asyncio.sleep(60)
            return item

    class Same:
        def process(self, item):
            return item

    async def main():
        waits = Waits()
        pipeline = (
            Pipeline("late")
            .add_node(Same(), id="first", placement="inline")
            .add_node(waits, id="waits", after=[])
        )
        pipeline.add_node(Same(), id="out", after=["first", "waits"], join=True, placement="inline")
        async with pipeline.open(enable_metrics=enable_metrics) as session:
            call = asyncio.create_task(session.call(1))
            await waits.is_waiting.wait()
            assert await session.interrupt() == 1
            with pytest.raises(SessionInterruptedError):
                await call
            return await session.call(2)

    assert asyncio.run(main()) == {"first": 2, "waits": 2}


def test_nodes_that_are_described_in_another_order_run_in_plan_order():
    order = []

    class Notes:
        def __init__(self, name):
            self.name = name

        async def initialize(self):
            order.append(self.name)

        async def process(self, item):
            return [*item, self.name]

    pipeline = (
        Pipeline("turned")
        .add_node(Notes("last"), id="last", after="first")
        .add_node(Notes("first"), id="first", after=[])
    )

    assert on_loop(resolve(pipeline), is_run=True) is not None
    assert asyncio.run(execute_pipeline_with_input(pipeline, [[]])) == [["first", "last"]]
    assert order == ["first", "last"]


@pytest.mark.parametrize(
    ("node_class", "other_class", "options", "is_there"),
    [
        (Coroutine, Unusual, {}, True),
        (Coroutine, Unusual, {"on_error": "skip"}, True),
        (Coroutine, Unusual, {"placement": "thread"}, False),
        (Coroutine, Unusual, {"placement": "inline", "timeout": 1}, False),
        (AsyncGenerator, Unusual, {}, False),
        (AsyncGenerator, Unusual, {"placement": "inline"}, True),
        (Unusual, Unusual, {}, False),
    ],
)
def test_branches_are_on_the_loop_with_a_thread_if_that_needs_no_queue(
    node_class, other_class, options, is_there
):
    pipeline = Pipeline("mixed").add_node(node_class("plain", "a", []), id="a")
    pipeline.add_node(other_class("plain", "b", []), id="b", after=[], **options)

    assert [on_loop(resolve(pipeline), is_run=is_run) is not None for is_run in (True, False)] == 2 * [
        is_there
    ]
