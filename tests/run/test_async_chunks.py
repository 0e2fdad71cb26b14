"""Async nodes of a run or session on a plain thread, whose items cross to the event loop in chunks."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia import Pipeline, _core, execute_pipeline_with_input
from remotemedia._asyncio.question import Question
from remotemedia._graph.graph import of_list, resolve
from remotemedia.exceptions import NodeError

VARIABLE = contextvars.ContextVar("variable", default="unset")


class Node:
    """A node that notes what it is called with, and does something unusual with one item."""

    def __init__(self, kind, special, at, log):
        self.kind, self.special, self.at, self.log = kind, special, at, log

    def value_of(self, item):
        self.log.append((self.kind, item))
        return item + 1 if isinstance(item, int) else item

    def special_value(self, value):
        match self.special:
            case "none":
                return None
            case "raise":
                raise ValueError(value)
            case "cancel":
                raise asyncio.CancelledError
            case "generator":
                return (value + more for more in range(2))
            case "coroutine":
                return asyncio.sleep(0, value)
            case "async generator":
                return self.several(value)
        return value

    async def several(self, value):
        for more in range(2):
            await asyncio.sleep(0)
            yield value + more


class Returning(Node):
    async def process(self, item):
        value = self.value_of(item)
        return self.special_value(value) if item == self.at else value


class Suspending(Node):
    async def process(self, item):
        value = self.value_of(item)
        await asyncio.sleep(0)
        return self.special_value(value) if item == self.at else value


class Yielding(Node):
    async def process(self, item):
        value = self.value_of(item)
        try:
            yield value
            if item == self.at and self.special == "raise":
                raise ValueError(value)
            if item % 3 == 0:
                await asyncio.sleep(0)
                yield value + 1
        finally:
            self.log.append(("closed", item))


def outcome_of(run, nodes, items):
    """Return the outputs, or what is known of the error, and the calls."""
    log = []
    nodes = [kind(kind.__name__, special, at, log) for kind, special, at in nodes]
    try:
        outputs = run(nodes, items)
    except NodeError as error:
        cause = error.__cause__
        outputs = (error.node_id, error.item_index, type(cause), cause.args)
    except asyncio.CancelledError:
        outputs = "cancelled"
    return outputs, log


def run_reference(nodes, items):
    return asyncio.run(execute_pipeline_with_input(nodes, items, use_rust=False))


def run_in_chunks(nodes, items):
    return _core.run(of_list(nodes), items, False)[0]


def map_in_chunks(nodes, items):
    with Pipeline(nodes).open() as session:
        return list(session.map(items))


WAYS = st.sampled_from([run_in_chunks, map_in_chunks])

SPECIALS = ["none", "raise", "generator", "coroutine", "async generator", "nothing"]

NODES = st.tuples(
    st.sampled_from([Returning, Suspending, Yielding]),
    st.sampled_from(SPECIALS),
    st.integers(min_value=0, max_value=20),
)


@given(way=WAYS, nodes=st.lists(NODES, min_size=1, max_size=4), count=st.integers(min_value=1, max_value=40))
def test_a_chain_returns_what_the_reference_returns(way, nodes, count):
    items = list(range(count))

    in_chunks = outcome_of(way, nodes, items)

    assert in_chunks == outcome_of(run_reference, nodes, items)


@given(
    nodes=st.lists(NODES, min_size=3, max_size=3),
    is_joined=st.booleans(),
    count=st.integers(min_value=1, max_value=40),
)
def test_branches_return_what_the_reference_returns(nodes, is_joined, count):
    def run_branches(run):
        def run_them(made, items):
            first, second, last = made
            branches = Pipeline()
            branches.add_node(first, id="first", after=[])
            branches.add_node(second, id="second", after=[])
            branches.add_node(last, id="last", after=["first", "second"], join=is_joined)
            return run(branches, items)

        return run_them

    items = list(range(count))
    run_chunks = run_branches(lambda branches, items: _core.run(resolve(branches), items, False)[0])

    in_chunks = outcome_of(run_chunks, nodes, items)

    assert in_chunks == outcome_of(run_branches(run_reference), nodes, items)


@pytest.mark.parametrize("way", [run_in_chunks, map_in_chunks])
def test_many_items_cross_at_once(monkeypatch, way):
    crossings = []
    ask = Question.ask
    monkeypatch.setattr(Question, "ask", lambda question: (crossings.append(question), ask(question))[1])

    outputs = way([Returning("", "", -1, []), Returning("", "", -1, [])], list(range(1000)))

    assert outputs == [item + 2 for item in range(1000)]
    assert len(crossings) < 100


def test_a_failure_ends_the_generators_around_it_in_their_own_context():
    """Variables that a generator has set can be reset only in its own task."""
    ended = []

    class Setting:
        async def process(self, item):
            token = VARIABLE.set(item)
            try:
                yield item
                yield item + 1
            finally:
                VARIABLE.reset(token)
                ended.append(item)

    with pytest.raises(NodeError) as failure:
        run_in_chunks([Setting(), Returning("", "raise", 3, [])], list(range(10)))

    assert (failure.value.node_id, failure.value.item_index) == ("Returning_1", 2)
    assert ended == [0, 1, 2]


def test_a_generator_that_fails_to_close_is_reported_with_the_failure():
    class Broken:
        async def process(self, item):
            try:
                yield item
            finally:
                raise KeyError(item)

    class Failing:
        async def process(self, item):
            raise ValueError(item)

    with pytest.raises(NodeError) as failure:
        run_in_chunks([Broken(), Failing()], [1, 2])

    error = failure.value
    assert (error.node_id, error.__cause__.args, error.__context__.node_id) == ("Broken_0", (1,), "Failing_1")


def test_other_tasks_of_the_loop_get_a_turn():
    turns = []

    class Ticking:
        async def initialize(self):
            self.task = asyncio.create_task(self.tick())

        async def tick(self):
            while True:
                turns.append(time.monotonic())
                await asyncio.sleep(0)

        async def process(self, item):
            time.sleep(0.0005)  # noqa: ASYNC251 - Nodes that do not suspend.
            return item

        async def cleanup(self):
            self.task.cancel()

    run_in_chunks([Ticking()], list(range(40)))

    assert len(turns) > 10


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_ctrl_c_ends_a_chunk(kind):
    log = []

    class Waiting:
        async def initialize(self):
            log.append("initialize")

        def stop(self):
            signal.raise_signal(signal.SIGINT)

        async def cleanup(self):
            log.append("cleanup")

    class Coroutine(Waiting):
        async def process(self, item):
            if item == 20:
                self.stop()
                await asyncio.Event().wait()
            return item

    class Generator(Waiting):
        async def process(self, item):
            yield item
            if item == 20:
                self.stop()
            while item == 20:
                yield item

    waiting = Coroutine() if kind == "coroutine" else Generator()

    with pytest.raises(KeyboardInterrupt):
        run_in_chunks([waiting], list(range(60)))

    assert log == ["initialize", "cleanup"]


def test_endless_outputs_reach_the_engine():
    """A cancelled list is the only end of such a run."""
    node = Endless()

    with pytest.raises(KeyboardInterrupt):
        run_in_chunks([node], [0])

    assert node.count > 1000


class Endless:
    def __init__(self):
        self.count = 0

    async def process(self, item):
        while True:
            self.count += 1
            if self.count == 20_000:
                signal.raise_signal(signal.SIGINT)
            yield item
