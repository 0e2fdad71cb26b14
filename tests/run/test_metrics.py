"""The metrics, with the same names on both executors."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from remotemedia import Node, Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia.nodes import FilterNode, PassThroughNode


@pytest.fixture(params=["reference", "threads", "loop"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run a pipeline to its end in one of the ways that measure."""

    def run(pipeline: Any, inputs: Any, **options: Any) -> Any:
        if request.param == "loop":
            nodes = pipeline if isinstance(pipeline, list) else None
            pipeline = inline(pipeline) if nodes is None else [with_options(node, **INLINE) for node in nodes]
            assert on_loop(resolve(pipeline), is_run=True) is not None
        # Another iterable is not read on the event loop.
        feed = [*inputs] if request.param == "loop" else iter(inputs)
        use_rust = request.param != "reference"
        return asyncio.run(execute_pipeline_with_input(pipeline, feed, use_rust=use_rust, **options))

    return run


INLINE = {"placement": "inline"}


def inline(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline whose nodes run on the event loop."""
    found = Pipeline(pipeline.name)
    for entry in resolve(pipeline).entries:
        found.add_node(entry.node, id=entry.id, after=entry.after, join=entry.join, **INLINE)
    return found


class Slow(Node):
    """Takes a known time in `initialize` and in `process`."""

    def initialize(self) -> None:
        super().initialize()
        time.sleep(0.005)

    def process(self, item: float) -> None:
        time.sleep(item)


def test_time_of_a_node_is_that_of_its_calls(run: Any) -> None:
    """The reference executor used to add the time of `initialize` to it."""
    metrics = run([Slow()], [0.0, 0.001], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    assert abs(node["total_duration_us"] - 2 * node["avg_duration_us"]) <= 1
    assert node["initialize_duration_us"] >= 4900


def test_overhead_is_the_total_less_the_time_inside_the_nodes(run: Any) -> None:
    metrics = run([Slow(), Slow()], [0.0], enable_metrics=True)["metrics"]

    inside = sum(
        node["total_duration_us"] + node["initialize_duration_us"] for node in metrics["node_metrics"]
    )
    # Each duration is truncated to whole microseconds.
    assert abs(metrics["total_duration_us"] - metrics["overhead_us"] - inside) <= 5


def test_half_of_two_calls_took_no_longer_than_the_shorter(run: Any) -> None:
    metrics = run([Slow()], [0.0, 0.01], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    assert node["p50_duration_us"] == pytest.approx(node["min_duration_us"], rel=0.01)
    assert node["p99_duration_us"] == pytest.approx(node["max_duration_us"], rel=0.01)


class Splitting:
    def process(self, item: Any) -> Any:
        yield from (item, item)

    def flush(self) -> Any:
        return "rest"


class Streaming:
    is_streaming = True

    async def process(self, items: Any) -> Any:
        async for item in items:
            if item != "rest":
                yield item
        yield "end"


class Source:
    def process(self) -> Any:
        yield from (1, 2, 3)


def counts(metrics: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the counts of inputs and outputs of each node."""
    return [(node["items_in"], node["items_out"]) for node in metrics["node_metrics"]]


def test_items_of_filters_generators_and_streams_are_counted(run: Any) -> None:
    metrics = run([FilterNode(2), Splitting(), Streaming()], [1, 2, 3], enable_metrics=True)["metrics"]

    # The generator yields two outputs per item and one at the end; the stream replaces that one by its own.
    assert counts(metrics) == [(3, 2), (2, 5), (5, 5)]
    assert (metrics["items_in"], metrics["items_out"], metrics["errors"]) == (3, 5, 0)


def test_items_of_branches_are_counted(run: Any) -> None:
    pipeline = Pipeline("p").add_node(PassThroughNode(), id="in")
    pipeline.add_node(FilterNode(2), id="some", after="in").add_node(PassThroughNode(), id="all", after="in")
    pipeline.add_node(PassThroughNode(), id="merge", after=["some", "all"])
    pipeline.add_node(PassThroughNode(), id="join", after=["some", "all"], join=True)

    metrics = run(pipeline, [1, 2], enable_metrics=True)["metrics"]

    assert counts(metrics) == [(2, 2), (2, 1), (2, 2), (3, 3), (2, 2)]
    assert (metrics["items_in"], metrics["items_out"]) == (2, 5)


def test_items_of_a_source_are_the_input(use_rust: bool) -> None:
    call = execute_pipeline([Source(), FilterNode(2)], enable_metrics=True, use_rust=use_rust)

    metrics = asyncio.run(call)["metrics"]

    assert counts(metrics) == [(0, 3), (3, 2)]
    assert (metrics["items_in"], metrics["items_out"]) == (3, 2)


def test_an_object_in_two_places_is_counted_in_each(run: Any) -> None:
    node = Splitting()

    metrics = run([node, node], [1], enable_metrics=True)["metrics"]

    assert [node["node_id"] for node in metrics["node_metrics"]] == ["Splitting_0", "Splitting_1"]
    assert counts(metrics) == [(1, 3), (3, 7)]


def test_they_are_json(run: Any) -> None:
    metrics = run([Slow(), PassThroughNode()], [0.0], enable_metrics=True)["metrics"]

    assert json.loads(json.dumps(metrics)) == metrics


def test_both_executors_use_the_same_words_and_types() -> None:
    def shape(*, use_rust: bool) -> Any:
        nodes = [Splitting(), Streaming()]
        metrics = asyncio.run(execute_pipeline(nodes, enable_metrics=True, use_rust=use_rust))["metrics"]
        nodes_shape = [
            [(key, type(value)) for key, value in node.items()] for node in metrics["node_metrics"]
        ]
        return [(key, type(value)) for key, value in metrics.items()], nodes_shape

    assert shape(use_rust=True) == shape(use_rust=False)


@pytest.mark.parametrize("count", [1, 2, 500])
def test_durations_are_in_order(run: Any, count: int) -> None:
    metrics = run([Splitting()], range(count), enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    durations = [node[f"{name}_duration_us"] for name in ("min", "p50", "p95", "p99", "max")]
    assert durations == sorted(durations)
    assert durations[0] <= node["avg_duration_us"] <= durations[-1]
    assert node["total_duration_us"] <= metrics["total_duration_us"]


def test_a_node_without_items_has_zeros(run: Any) -> None:
    metrics = run([FilterNode(2), Slow()], [1], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][1]
    durations = ["total", "avg", "min", "max", "p50", "p95", "p99"]
    assert [node[f"{duration}_duration_us"] for duration in durations] == [0] * 7
    assert node["initialize_duration_us"] >= 4900


def test_metrics_that_an_inline_pipeline_lacks_are_zero(run: Any) -> None:
    metrics = run([PassThroughNode()], [1], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    assert (node["placement"], node["restarts"], node["queue_wait_us"], node["peak_queue_len"]) == (
        "inline",
        0,
        0,
        0,
    )


def test_names_are_those_of_the_pipeline(run: Any) -> None:
    pipeline = Pipeline("voice").add_node(Slow(), id="slow")

    metrics = run(pipeline, [0.0], enable_metrics=True)["metrics"]

    assert metrics["pipeline"] == "voice"
    assert [(node["node_id"], node["node_type"]) for node in metrics["node_metrics"]] == [("slow", "Slow")]


def test_outputs_do_not_depend_on_metrics(run: Any) -> None:
    items = [None, *range(300)]
    nodes = [PassThroughNode(), Splitting()]

    assert run(nodes, items, enable_metrics=True)["outputs"] == run(nodes, items)
