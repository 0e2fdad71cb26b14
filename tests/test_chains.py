"""Long inputs through chains of plain nodes, which the engine compiles: what comes out is as one by one."""

from __future__ import annotations

from remotemedia.nodes import FilterNode, PassThroughNode

MANY = 1000  # More than the engine takes one by one.


class Same:
    def process(self, item):
        return item


class FromTable:
    def __init__(self, table):
        self.table = table

    def process(self, item):
        return self.table[item]


class EvenOnly:
    def process(self, item):
        return item if item % 2 == 0 else None


def two(item):
    yield item
    yield item


def test_items_that_are_generators_are_drained_by_whoever_passes_them_on(run):
    outputs = run([Same(), PassThroughNode()], [two(index) for index in range(MANY)])

    assert outputs == [index // 2 for index in range(2 * MANY)]


def test_a_single_generator_among_many_items_is_drained(run):
    outputs = run([PassThroughNode()], [*range(MANY), two("late"), "last"])

    assert outputs == [*range(MANY), "late", "late", "last"]


def test_a_generator_out_of_a_table_is_drained(run):
    table = {index: two(index) for index in range(MANY)}

    outputs = run([FromTable(table), Same()], range(MANY))

    assert outputs == [index // 2 for index in range(2 * MANY)]


def test_what_the_last_node_drops_is_no_output(run):
    outputs = run([Same(), EvenOnly()], range(MANY))

    assert outputs == list(range(0, MANY, 2))


def test_what_a_node_in_the_middle_drops_goes_no_further(run):
    outputs = run([EvenOnly(), FilterNode(threshold=MANY // 2), Same()], range(MANY))

    assert outputs == list(range(MANY // 2, MANY, 2))
