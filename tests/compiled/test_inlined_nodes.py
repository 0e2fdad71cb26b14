"""Built-in nodes on long inputs: the inlined arithmetic has the results of their methods."""

from __future__ import annotations

from unittest import mock

import pytest

from remotemedia.exceptions import NodeError
from remotemedia.nodes import CalculatorNode, FilterNode, PassThroughNode

MANY = 1000  # More than the engine takes one by one.
LATE = 700  # In the middle of a chunk.


class At:
    """Runs an action before one of the items."""

    def __init__(self, item, act):
        self.item = item
        self.act = act

    def process(self, item):
        if item == self.item:
            self.act()
        return item


class NoSum:
    """An operand whose sums are not numbers."""

    def __radd__(self, other):
        return None if other % 2 else other


class Doubles(CalculatorNode):
    """Has a computed operand."""

    @property
    def operand(self):
        return 2

    @operand.setter
    def operand(self, value):
        pass


@pytest.mark.parametrize("item", [1.5, True, 2**70, -3])
def test_numbers_of_all_kinds_are_calculated(run, item):
    assert run([CalculatorNode("multiply", 3)], [item] * MANY) == [item * 3] * MANY


def test_numbers_and_dicts_may_alternate(run):
    outputs = run([CalculatorNode("add", 1)], [1, {"args": [2, 3]}] * MANY)

    assert outputs == [2, {"result": 5}] * MANY


def test_an_operand_that_is_not_a_number_defines_the_sum(run):
    assert run([CalculatorNode("add", NoSum())], range(MANY)) == list(range(0, MANY, 2))


def test_an_operand_of_the_wrong_type_fails_as_the_method_does(run):
    with pytest.raises(NodeError, match="on item 0: TypeError: unsupported operand type") as caught:
        run([CalculatorNode("add", "1")], range(MANY))

    with pytest.raises(TypeError) as expected:
        CalculatorNode("add", "1").process(0)
    assert str(caught.value.__cause__) == str(expected.value)


def test_an_item_of_the_wrong_type_fails_as_the_method_does(run):
    with pytest.raises(NodeError, match=f"Node 'CalculatorNode_1' failed in process\\(\\) on item {MANY}: "):
        run([PassThroughNode(), CalculatorNode()], [*range(MANY), "text"])


@pytest.mark.parametrize(
    ("operation", "message"),
    [(None, "Unknown operation None; the"), ("ad", "Unknown operation 'ad'; did you mean 'add'")],
)
def test_an_operation_that_is_none_is_an_error(run, operation, message):
    node = CalculatorNode()
    node.operation = operation

    with pytest.raises(NodeError, match=f"on item 0: PipelineError: {message}"):
        run([node], range(MANY))


def test_operand_and_operation_may_change_between_two_items(run):
    node = CalculatorNode("add", 1)
    operand = At(LATE, lambda: setattr(node, "operand", 2))
    operation = At(LATE + 2, lambda: setattr(node, "operation", "multiply"))

    outputs = run([operand, operation, node], range(MANY))

    assert outputs[LATE - 1 : LATE + 3] == [LATE, LATE + 2, LATE + 3, 2 * LATE + 4]


def test_threshold_and_predicate_may_change_between_two_items(run):
    node = FilterNode(threshold=0)
    threshold = At(LATE, lambda: setattr(node, "threshold", MANY))
    predicate = At(LATE + 10, lambda: setattr(node, "predicate", lambda item: item % 2))

    outputs = run([threshold, predicate, node], range(MANY))

    assert outputs == [*range(LATE), *range(LATE + 11, MANY, 2)]


def test_a_subclass_may_compute_its_operand(run):
    assert run([Doubles("multiply")], range(MANY)) == list(range(0, 2 * MANY, 2))


@pytest.mark.parametrize("kind", [PassThroughNode, CalculatorNode, FilterNode])
def test_a_method_that_a_program_replaces_is_replaced(run, kind):
    with mock.patch.object(kind, "process", lambda _node, item: -item):
        assert run([kind()], range(MANY)) == list(range(0, -MANY, -1))
