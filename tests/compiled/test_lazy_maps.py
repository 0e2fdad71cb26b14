"""`session.map` of an iterator, whose items go one by one through compiled nodes."""

from __future__ import annotations

import itertools
import threading
import weakref

import pytest
from stream_nodes import TIMEOUT_SECS, Worker, logged

from remotemedia import Pipeline
from remotemedia.exceptions import NodeError, SessionClosedError
from remotemedia.nodes import FilterNode, PassThroughNode

MANY = 300  # More than the engine takes before it compiles the nodes.


class Add:
    def __init__(self, amount=1):
        self.amount = amount

    def process(self, item):
        return item + self.amount


class Sum:
    def process(self, item):
        return sum(item.values())


class TwiceAt:
    """Returns a generator for one of its items."""

    def __init__(self, number):
        self.number = number

    def process(self, item):
        return (item for _ in "ab") if item == self.number else item


def outputs_of(nodes, items):
    with Pipeline(nodes).open() as session:
        return list(session.map(items))


def test_an_item_is_read_when_its_output_is_requested():
    read = []

    def items():
        for index in range(MANY):
            read.append(index)
            yield index

    with Pipeline([Add(), Add()]).open() as session:
        for count, output in enumerate(session.map(items()), 1):
            assert output == count + 1
            assert len(read) == count


def test_dropped_items_have_no_output():
    outputs = outputs_of([FilterNode(threshold=0), PassThroughNode()], iter(range(-MANY, MANY)))

    assert outputs == list(range(MANY))


def test_a_graph_has_the_outputs_that_it_has_for_a_list():
    pipeline = Pipeline("diamond")
    pipeline.add_node(Add(), id="first")
    pipeline.add_node(Add(10), id="left", after="first")
    pipeline.add_node(FilterNode(threshold=100), id="right", after="first")
    pipeline.add_node(PassThroughNode(), id="joined", after=["left", "right"], join=True)

    with pipeline.open() as session:
        outputs = list(session.map(iter(range(MANY))))

    assert outputs[0] == {"left": 11, "right": None}
    assert outputs[-1] == {"left": MANY + 10, "right": MANY}
    with pipeline.open() as session:
        assert outputs == list(session.map(list(range(MANY))))


@pytest.mark.parametrize("number", [3, MANY - 20])
def test_a_generator_that_a_node_returns_is_drained(number):
    outputs = outputs_of([Add(0), TwiceAt(number), Add(0)], iter(range(MANY)))

    assert outputs == [*range(number + 1), *range(number, MANY)]


def test_a_generator_among_the_items_is_drained_by_the_node_that_returns_it():
    items = [*range(MANY), (letter for letter in "ab"), "last"]

    assert outputs_of([PassThroughNode()], iter(items)) == [*range(MANY), "a", "b", "last"]


def test_an_error_names_the_node_and_the_item():
    items = [*range(MANY), "no number", 1]
    outputs = []

    with Pipeline([PassThroughNode(), Add()]).open() as session:
        stream = session.map(iter(items))
        with pytest.raises(NodeError) as caught:
            outputs += stream
        # The iteration has ended, and the session continues.
        assert list(stream) == []
        assert session.call(1) == 2

    assert (caught.value.node_id, caught.value.item_index) == ("Add_1", MANY)
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("make", [itertools.count, lambda: range(10**9)])
def test_a_stream_ends_when_the_session_closes(make):
    with Pipeline([Add()]).open() as session:
        stream = session.map(make())
        outputs = list(itertools.islice(stream, MANY))

    assert outputs == list(range(1, MANY + 1))
    with pytest.raises(SessionClosedError):
        # Some outputs may be there already.
        list(itertools.islice(stream, MANY))


def test_the_last_output_is_not_held_after_the_end():
    class Output:
        pass

    class Make:
        def process(self, item):
            return Output()

    with Pipeline([Make()]).open() as session:
        stream = session.map(iter(range(MANY)))
        outputs = [weakref.ref(output) for output in stream]

        assert [output for output in outputs if output() is not None] == []


@pytest.mark.parametrize(("make", "task"), [(iter, f"item {MANY}"), (list, "a call without an item")])
def test_a_node_that_stalls_is_named_in_the_log(make, task):
    class Hangs(Add):
        go = threading.Event()

        def process(self, item):
            assert item < MANY + 1 or self.go.wait(TIMEOUT_SECS)
            return item + 1

    hangs = Hangs()
    pipeline = Pipeline([Add(), hangs, Add()])

    with (
        logged(f"node 'Hangs_1' has been busy with {task} ") as (is_logged, _),
        pipeline.open(stall_warning=0.1) as session,
    ):
        mapping = Worker(lambda: list(session.map(make(range(MANY + 1)))))
        assert is_logged.wait(TIMEOUT_SECS)
        hangs.go.set()
        assert len(mapping.result()) == MANY + 1


def test_an_error_of_the_items_is_raised_as_it_is():
    def items():
        yield from range(MANY)
        raise KeyError("input")

    with Pipeline([Add()]).open() as session, pytest.raises(KeyError, match="input"):
        list(session.map(items()))
