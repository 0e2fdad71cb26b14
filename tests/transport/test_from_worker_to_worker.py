"""Items on their way to a worker, from there to the next one, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from worker_nodes import in_workers

from remotemedia import Pipeline, with_options


class Same:
    """Returns its item."""

    def process(self, item):
        return item


class Refuses:
    """Refuses every item."""

    def process(self, item):
        raise ValueError("refused")


KINDS = [
    0,
    -(2**70),
    2.5,
    "text",
    "",
    b"bytes",
    b"x" * 100_000,
    None,
    True,
    {"a": [1, {"b": None}], "c": (1.5, b"")},
    [],
    {},
    (),
    {1: "a", False: "b", 2.5: {}},
    {"deep": [[[[[[]]]]]]},
    Path("a", "b"),
    frozenset([1, 2]),
]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_items_of_every_kind_arrive_as_they_were(workers):
    items = [item for item in KINDS for _ in range(20)]

    with in_workers(*[Same() for _ in range(workers)]).open() as session:
        outputs = list(session.map(items))
        arrays = list(session.map([np.full(shape, 7) for shape in (3, 50_000, (200, 300))] * 10))
        single = [session.call(item) for item in KINDS if item is not None]

    assert [(type(output), output) for output in outputs] == [
        (type(item), item) for item in items if item is not None
    ]
    assert [array.shape for array in arrays] == [(3,), (50_000,), (200, 300)] * 10
    assert all((array == 7).all() for array in arrays)
    assert single == [item for item in KINDS if item is not None]


@pytest.mark.parametrize("size", [1, 50_000])
def test_a_container_that_occurs_twice_in_an_item_stays_one(size):
    inner = ["x"] * size
    item = {"one": inner, "two": inner}

    with in_workers(Same(), Same()).open() as session:
        [output] = session.map([item])

    assert output == item
    assert output["one"] is output["two"]


def test_what_handles_failures_behind_a_worker_receives_the_items_themselves():
    failed = []
    refuses = with_options(Refuses(), placement="process", dead_letter=lambda item, *_: failed.append(item))
    items = [{"index": index} for index in range(100)]

    with Pipeline([with_options(Same(), placement="process"), refuses]).open() as session:
        assert list(session.map(items)) == []

    assert failed == items
