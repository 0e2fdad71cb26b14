"""Metrics advise `placement="inline"` in asyncio where a way to a thread costs more than the node."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Any

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop import advice
from remotemedia._loop.advice import CALL_HOP_US, ITEM_HOP_US, advise
from remotemedia.nodes import FilterNode, PassThroughNode


class Gain:
    def process(self, level: Any) -> Any:
        return level


class Meter(Gain):
    pass


class Speak:
    async def process(self, level: Any) -> Any:
        return level


class Split:
    def process(self, level: Any) -> Any:
        yield level
        yield level


class Connect(Gain):
    async def initialize(self) -> None:
        pass


class Report(Gain):
    async def flush(self) -> Any:
        return None


class Numbers:
    def process(self) -> Any:
        yield from range(3)


def inline(node: object) -> object:
    return with_options(node, placement="inline")


def measured(
    node_id: str,
    each: float = 1.0,
    *,
    items: int = 1000,
    longest: float = 10.0,
    initialize: int = 0,
) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "items_in": items,
        "total_duration_us": int(each * items),
        "avg_duration_us": each,
        "max_duration_us": longest,
        "initialize_duration_us": initialize,
    }


def advice_about(
    pipeline: Any, *nodes: dict[str, Any], is_run: bool = False, hop_us: float = CALL_HOP_US
) -> list[str]:
    """Return the advice of a pipeline with these times; the other nodes take a microsecond."""
    graph = resolve(pipeline)
    known = {entry.id: measured(entry.id) for entry in graph.entries}
    known |= {node["node_id"]: node for node in nodes}
    return advise(graph, {"node_metrics": [*known.values()]}, is_run=is_run, hop_us=hop_us)


def test_a_node_that_takes_less_than_its_way_should_be_inline() -> None:
    [text] = advice_about([Gain(), Speak()], measured("Gain_0", 1.25))

    assert text == (
        "Node 'Gain_0' takes 1.2 µs, but in asyncio a call spends longer on the way to its thread and back; "
        'write placement="inline" on it'
    )


def test_neighbours_share_one_way() -> None:
    texts = advice_about([Gain(), Meter(), Speak(), Gain()], measured("Gain_0", 3), measured("Gain_3", 5))

    assert [text.partition(",")[0] for text in texts] == ["Nodes 'Gain_0'", "Node 'Gain_3' takes 5.0 µs"]
    assert texts[0].startswith(
        "Nodes 'Gain_0', 'Meter_1' together take 4.0 µs, but in asyncio a call spends "
    )
    assert texts[0].endswith('the way to their thread and back; write placement="inline" on each of them')


def test_a_slow_neighbour_keeps_the_way_necessary() -> None:
    """A node on the loop between two on the thread would add a way."""
    assert advice_about([Gain(), Meter(), Gain()], measured("Meter_1", 500)) == []
    assert advice_about([Gain(), Meter(), Gain()], measured("Gain_2", 500)) == []


def test_an_item_crosses_with_others_and_pays_less() -> None:
    pipeline = [Gain(), Speak()]

    assert advice_about(pipeline, measured("Gain_0", 1), hop_us=ITEM_HOP_US) == []
    assert advice_about(pipeline, measured("Gain_0", 1), is_run=True, hop_us=ITEM_HOP_US) == []
    [text] = advice_about(pipeline, measured("Gain_0", 0.5), is_run=True, hop_us=ITEM_HOP_US)
    assert text.startswith("Node 'Gain_0' takes 0.5 µs, but in asyncio an item spends longer")


@pytest.mark.parametrize(
    "node",
    [
        measured("Gain_0", 10),
        measured("Gain_0", items=99),
        measured("Gain_0", longest=5001),
        measured("Gain_0", initialize=5001),
    ],
    ids=["as long as the way", "few items", "one long call", "long initialize"],
)
def test_no_advice_where_the_gain_is_not_certain(node: dict[str, Any]) -> None:
    assert advice_about([Gain(), Speak()], node) == []


@pytest.mark.parametrize(
    "pipeline",
    [
        [Speak()],
        [inline(Gain()), Speak()],
        [with_options(Gain(), placement="thread"), Speak()],
        [with_options(Gain(), placement="process"), Speak()],
        [with_options(Gain(), retries=2), Speak()],
        [Gain(), with_options(Speak(), queue_size=4)],
        [Gain(), with_options(functools.partial(Gain), placement="thread", replicas=2)],
        [Numbers(), Gain()],
        [FilterNode(threshold=3), PassThroughNode()],
        [with_options(Gain(), placement="thread"), FilterNode(threshold=3)],
    ],
    ids=lambda pipeline: " ".join(type(getattr(node, "node", node)).__name__ for node in pipeline),
)
def test_no_advice_for_nodes_that_it_would_not_change(pipeline: Any) -> None:
    assert advice_about(pipeline) == []


@pytest.mark.parametrize(("options", "advised"), [({}, 1), ({"placement": "thread"}, 0)])
def test_branches_have_advice_if_no_node_needs_a_thread(options: dict[str, Any], advised: int) -> None:
    pipeline = Pipeline().add_node(Gain(), id="a").add_node(Speak(), id="b", after="a")
    pipeline.add_node(Speak(), id="c", after="a", **options)

    assert len(advice_about(pipeline)) == advised


def test_no_advice_for_a_run_that_crosses_once() -> None:
    """All items of a run of `def` nodes are on its thread from the beginning to the end."""
    short = measured("Gain_0", 0.5)

    assert advice_about([Gain()], short, is_run=True, hop_us=ITEM_HOP_US) == []
    assert len(advice_about([Gain()], short, hop_us=ITEM_HOP_US)) == 1


def test_a_node_with_its_own_thread_shares_no_way() -> None:
    placed = with_options(Meter(), placement="thread")

    [text] = advice_about([Gain(), placed, FilterNode(threshold=3)])
    [against] = advice_about([placed, FilterNode(predicate=bool)], measured("FilterNode_1", longest=6000))

    assert text.startswith("Node 'Gain_0' takes 1.0 µs")
    assert against.startswith("Node 'FilterNode_1' runs on the event loop")


def test_a_generator_keeps_its_chain_from_the_loop() -> None:
    assert [text.split()[1] for text in advice_about([Split(), Speak()])] == ["'Split_0'"]
    # A second one that is slow keeps it from there, too.
    assert advice_about([Gain(), Speak(), Split()], measured("Split_2", 500)) == []


def test_a_built_in_node_follows_its_neighbour() -> None:
    [text] = advice_about([Gain(), FilterNode(threshold=3), Speak()])
    late = advice_about([Gain(), FilterNode(threshold=3), Speak()], measured("FilterNode_1", 50))

    assert text.startswith("Node 'Gain_0' takes 2.0 µs")
    assert late == []


def test_an_inline_node_that_holds_the_loop_should_not_be_inline() -> None:
    [text] = advice_about([inline(Gain()), Speak()], measured("Gain_0", 7000, longest=8210))

    assert text == (
        "Node 'Gain_0' runs on the event loop in asyncio, and its longest call took 8.2 ms "
        "(7.0 ms on average), for which all other tasks wait; remove its placement"
    )


def test_a_single_long_call_may_be_the_fault_of_the_machine() -> None:
    [text] = advice_about([inline(Gain()), Speak()], measured("Gain_0", longest=5001))

    assert text.endswith("wait; if the machine was not busy with other work, remove its placement")


def test_an_inline_node_that_initializes_long_holds_the_loop() -> None:
    slow = measured("Gain_0", initialize=2_100_000)

    [text] = advice_about([inline(Gain()), Speak()], slow)

    assert "and its initialize() took 2.1 s, for which all other tasks wait; remove its placement" in text


def test_an_async_initialize_does_not_hold_the_loop() -> None:
    slow = measured("Connect_0", initialize=2_100_000)

    assert advice_about([inline(Connect()), Speak()], slow) == []
    assert len(advice_about([Connect(), Speak()], slow)) == 1


def test_an_async_flush_does_not_hold_the_loop() -> None:
    assert advice_about([inline(Report()), Speak()], measured("Report_0", longest=6000)) == []


def test_five_milliseconds_are_not_too_long() -> None:
    assert advice_about([inline(Gain()), Speak()], measured("Gain_0", longest=5000)) == []
    assert len(advice_about([Gain(), Speak()], measured("Gain_0", longest=5000))) == 1


def test_placements_that_are_not_written_are_overridden() -> None:
    slow = measured("FilterNode_0", 8000, longest=9000)

    built_in = advice_about([FilterNode(predicate=bool), Speak()], slow)
    inherited = advise(
        resolve([Gain(), Speak()]).with_defaults({"placement": "inline"}),
        {"node_metrics": [measured("Gain_0", 8000, longest=9000), measured("Speak_1")]},
        is_run=False,
        hop_us=CALL_HOP_US,
    )

    assert [text.partition("; ")[2] for text in built_in + inherited] == [
        'write placement="thread" on it'
    ] * 2


@pytest.mark.parametrize(
    "pipeline",
    [
        [Gain(), Speak()],
        [inline(Speak()), Gain()],
        [inline(Gain()), with_options(Speak(), queue_size=4)],
        [with_options(Gain(), placement="thread"), FilterNode(predicate=bool)],
    ],
    ids=["beside the loop", "a coroutine", "no chain", "behind a thread"],
)
def test_no_advice_against_nodes_that_hold_no_loop(pipeline: Any) -> None:
    slow = [
        measured(entry.id, 8000, longest=9000)
        for entry in resolve(pipeline).entries
        if type(entry.node) is not FilterNode
    ]

    assert advice_about(pipeline, *slow) == []


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let real times decide nothing: all ways are long."""
    monkeypatch.setattr(advice, "CALL_HOP_US", 1e9)
    monkeypatch.setattr(advice, "ITEM_HOP_US", 1e8)
    monkeypatch.setattr(advice, "LONGEST_HOLD_US", 1e9)


async def advice_of_session(count: int, **options: Any) -> list[str]:
    async with Pipeline([Gain(), Speak()]).open(enable_metrics=True, **options) as session:
        for item in range(count):
            await session.call(item)
        return session.metrics()["advice"]  # type: ignore[index,no-any-return]


@pytest.mark.usefixtures("decided")
def test_sessions_give_advice_about_their_calls() -> None:
    [text] = asyncio.run(advice_of_session(100))

    assert text.startswith("Node 'Gain_0' takes ")
    assert " a call spends longer " in text
    assert asyncio.run(advice_of_session(99)) == []
    assert asyncio.run(advice_of_session(100, placement="thread")) == []


@pytest.mark.usefixtures("decided")
def test_sessions_give_advice_about_their_streams() -> None:
    async def stream() -> list[str]:
        async with Pipeline([Gain(), Speak()]).open(enable_metrics=True) as session:
            async for _ in session.map(range(100)):
                pass
            return session.metrics()["advice"]  # type: ignore[index,no-any-return]

    [text] = asyncio.run(stream())

    assert " an item spends longer " in text


@pytest.mark.usefixtures("decided")
def test_runs_give_advice_if_the_loop_could_be_their_engine(run: Any, use_rust: bool) -> None:
    def advice_of(items: Any) -> list[str]:
        return run([Gain(), Speak()], items, enable_metrics=True)["metrics"]["advice"]  # type: ignore[no-any-return]

    assert [text.split()[1] for text in advice_of([1] * 100)] == ["'Gain_0'"] * use_rust
    assert advice_of(iter([1] * 100)) == []
    assert advice_of([1] * 99) == []


def test_the_time_of_a_blocking_inline_node_is_named() -> None:
    class Read(Gain):
        def process(self, level: Any) -> Any:
            time.sleep(0.006)
            return level

    pipeline = [inline(Read()), Speak()]

    result = asyncio.run(execute_pipeline_with_input(pipeline, [1], enable_metrics=True))

    [text] = result["metrics"]["advice"]
    assert text.startswith("Node 'Read_0' runs on the event loop in asyncio, and its longest call took ")
    assert text.endswith("for which all other tasks wait; remove its placement")


@pytest.mark.usefixtures("decided")
def test_plain_python_has_no_loop() -> None:
    with Pipeline([Gain(), Speak()]).open(enable_metrics=True) as session:
        for item in range(100):
            session.call(item)

        assert session.metrics()["advice"] == []  # type: ignore[index]
