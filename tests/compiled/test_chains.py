"""Long inputs through compiled chains of plain nodes: the outputs are the same as one by one."""

from __future__ import annotations

import pytest

from remotemedia._compiled import bytecode
from remotemedia._compiled.bytecode import may_return_item, may_return_lazily, returns_its_item, returns_none
from remotemedia.nodes import FilterNode, PassThroughNode

READ = pytest.mark.skipif(
    bytecode.MAGIC_NUMBER not in bytecode.TESTED_VERSIONS, reason="the code of this Python is not read"
)

MANY = 1000  # More than the engine takes one by one.


class Same:
    def process(self, item):
        return item


class FromTable:
    def __init__(self, table):
        self.table = table

    def process(self, item):
        return self.table[item]


class FromTableAtLast(FromTable):
    def process(self, item):
        try:
            return self.table[item]
        finally:
            self.last = item


class EvenOnly:
    def process(self, item):
        return item if item % 2 == 0 else None


class Tap:
    def __init__(self):
        self.seen = []

    def process(self, item):
        self.seen.append(item)
        return item


class Ways:
    """Methods that return their item in some branches, or something similar."""

    def choose(self, item):
        return None if item % 2 else item

    def fall_back(self, item):
        return self.other or item

    def replace(self, item):
        item = self.other
        return item  # noqa: RET504 - The case to distinguish.

    def share(self, item):
        def change():
            nonlocal item
            item = None

        change()
        return item

    def guard(self, item):
        try:
            return item
        finally:
            self.other = None

    def fail(self, item):
        raise ValueError(item)

    def return_nothing(self, item):
        self.other = item


def two(item):
    yield item
    yield item


def test_items_that_are_generators_are_drained_by_the_node_that_returns_them(run):
    outputs = run([Same(), PassThroughNode()], [two(index) for index in range(MANY)])

    assert outputs == [index // 2 for index in range(2 * MANY)]


def test_a_single_generator_among_many_items_is_drained(run):
    outputs = run([PassThroughNode()], [*range(MANY), two("late"), "last"])

    assert outputs == [*range(MANY), "late", "late", "last"]


@pytest.mark.parametrize("kind", [FromTable, FromTableAtLast])
def test_a_generator_out_of_a_table_is_drained(run, kind):
    table = {index: two(index) for index in range(MANY)}

    outputs = run([kind(table), Same()], range(MANY))

    assert outputs == [index // 2 for index in range(2 * MANY)]


def test_items_that_the_last_node_drops_are_not_outputs(run):
    outputs = run([Same(), EvenOnly()], range(MANY))

    assert outputs == list(range(0, MANY, 2))


def test_items_that_a_middle_node_drops_reach_no_further_node(run):
    outputs = run([EvenOnly(), FilterNode(threshold=MANY // 2), Same()], range(MANY))

    assert outputs == list(range(MANY // 2, MANY, 2))


def test_none_is_passed_to_a_node_but_not_out_of_it(run):
    first, second = Tap(), Tap()
    items = [index if index % 3 else None for index in range(MANY)]

    outputs = run([first, second], items)

    assert first.seen == items
    assert second.seen == outputs == [item for item in items if item is not None]


@READ
def test_a_method_without_branches_returns_its_item():
    assert returns_its_item(Tap.process.__code__)
    assert returns_its_item(Same.process.__code__)


@READ
def test_methods_that_cannot_return_their_item_are_detected():
    class Others:
        def calculate(self, item):
            return item + 1

        def wrap(self, item):
            return [item]

        def read(self, item):
            return item.text

    assert [may_return_item(getattr(Others, name).__code__) for name in ("calculate", "wrap", "read")] == [
        False,
        False,
        False,
    ]
    assert all(may_return_item(kind.process.__code__) for kind in (Same, Tap, EvenOnly))
    assert all(may_return_item(getattr(Ways, name).__code__) for name in ("choose", "fall_back", "guard"))


@READ
def test_methods_that_may_return_nothing_are_detected():
    assert returns_none(EvenOnly.process.__code__)
    assert returns_none(Ways.return_nothing.__code__)
    assert not returns_none(Same.process.__code__)


@pytest.mark.parametrize("name", [name for name in vars(Ways) if not name.startswith("_")])
def test_a_method_that_may_return_another_object_is_detected(name):
    assert not returns_its_item(getattr(Ways, name).__code__)


def test_the_code_of_an_untested_version_is_not_read(monkeypatch):
    monkeypatch.setattr(bytecode, "MAGIC_NUMBER", b"\0\x0f\r\n")
    code = Same.process.__code__

    assert may_return_lazily(code)
    assert may_return_item(code)
    assert returns_none(code)
    assert not returns_its_item(code)
