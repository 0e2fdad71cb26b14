"""Compiled graphs: the calls and outputs are those of the reference executor, whatever the connections."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia._compiled.failures import find
from remotemedia._compiled.kernels import Connections, LazyResultError, build, build_async

ITEMS = 5


class Recording:
    """Records its calls, and drops or fails every so many items."""

    def __init__(self, name: str, drops: int, log: list[Any]) -> None:
        self.name = name
        self.drops = drops
        self.log = log
        self.count = 0

    def note(self, item: Any) -> Any:
        self.count += 1
        self.log.append((self.name, item))
        return None if self.drops and self.count % self.drops == 0 else (self.name, item)


class Plain(Recording):
    def process(self, item: Any) -> Any:
        return self.note(item)


class Async(Recording):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(0)
        return self.note(item)


class Twice(Recording):
    def process(self, item: Any) -> Any:
        yield self.note(item)
        yield self.note(item)


class AsyncTwice(Recording):
    async def process(self, item: Any) -> Any:
        yield self.note(item)
        yield self.note(item)


DEF_KINDS = [Plain, Twice]
ALL_KINDS = [*DEF_KINDS, Async, AsyncTwice]


@st.composite
def graphs(draw: Any, kinds: list[type[Recording]]) -> list[tuple[Any, ...]]:
    """Draw for each node its kind, how often it drops, the nodes before it, and whether it joins."""
    nodes = []
    for index in range(draw(st.integers(1, 6))):
        after = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        nodes.append(
            (draw(st.sampled_from(kinds)), draw(st.integers(0, 3)), tuple(after), draw(st.booleans()))
        )
    return nodes


def expected(graph: list[tuple[Any, ...]]) -> tuple[list[Any], list[Any]]:
    log: list[Any] = []
    pipeline = Pipeline("generated")
    for index, (kind, drops, after, join) in enumerate(graph):
        pipeline.add_node(
            kind(f"n{index}", drops, log), id=f"n{index}", after=[f"n{one}" for one in after], join=join
        )
    outputs = asyncio.run(execute_pipeline_with_input(pipeline, list(range(ITEMS)), use_rust=False))
    return log, [] if outputs is None else outputs


def described(graph: list[tuple[Any, ...]], log: list[Any]) -> tuple[list[Any], Connections, list[str]]:
    nodes = [kind(f"n{index}", drops, log) for index, (kind, drops, _, _) in enumerate(graph)]
    connections = Connections(tuple(node[2] for node in graph), tuple(node[3] for node in graph))
    return nodes, connections, [f"n{index}" for index in range(len(graph))]


@given(graphs(DEF_KINDS))
def test_a_graph_of_def_nodes_runs_as_in_the_reference(graph: list[tuple[Any, ...]]) -> None:
    log: list[Any] = []
    kernel = build(*described(graph, log))
    outputs: list[Any] = []

    kernel.function(iter(range(ITEMS)), outputs)

    if kernel.source.leaves_none:
        outputs = [output for output in outputs if output is not None]
    assert (log, outputs) == expected(graph)


@given(graphs(ALL_KINDS))
def test_a_graph_of_all_kinds_runs_as_in_the_reference(graph: list[tuple[Any, ...]]) -> None:
    log: list[Any] = []
    kernels = build_async(*described(graph, log))
    outputs: list[Any] = []

    asyncio.run(kernels.many.function(iter(range(ITEMS)), outputs))

    assert (log, outputs) == expected(graph)


@given(graphs(ALL_KINDS))
def test_a_single_item_through_a_graph_has_the_same_output(graph: list[tuple[Any, ...]]) -> None:
    logs: list[list[Any]] = [[], []]
    one = build_async(*described(graph, logs[0])).one
    many = build_async(*described(graph, logs[1])).many
    if one is None:
        return

    for item in range(ITEMS):
        outputs: list[Any] = []
        output = asyncio.run(one.function(item))
        asyncio.run(many.function(iter([item]), outputs))
        assert [output] == (outputs or [None])

    assert logs[0] == logs[1]


def test_what_is_in_progress_is_found() -> None:
    class Lazy(Recording):
        def process(self, item: Any) -> Any:
            return (item for _ in "ab")

    log: list[Any] = []
    nodes = [Twice("n0", 0, log), Plain("n1", 0, log), Lazy("n2", 0, log), Plain("n3", 0, log)]
    nodes += [Plain("n4", 0, log)]
    connections = Connections(((), (0,), (0,), (0,), (1, 2, 3)), (False, False, False, False, True))
    kernel = build(nodes, connections, ["n0", "n1", "n2", "n3", "n4"])

    try:
        kernel.function(iter([5]), [])
    except LazyResultError as error:
        found = find(error, kernel)

    item = ("n0", 5)
    assert found.node == 2
    assert found.in_progress.work[1:] == [("item", 0, 3, item)]
    assert found.in_progress.work[0][:3] == ("stream", 0, 0)
    assert found.in_progress.arrived == [(4, 1, [("n1", item)]), (4, 2, []), (4, 3, [])]
    assert found.in_progress.open_gates == 0
    assert sorted(found.in_progress.entered) == [0, 1, 2, 3]
