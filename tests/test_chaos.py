"""Workers that are ended at random moments: no item is lost, none comes twice, and all come in order."""

from __future__ import annotations

from itertools import accumulate

import pytest
from chaos import (
    Add,
    AddAll,
    AddLater,
    Fails,
    Killer,
    Leaves,
    Spread,
    Sum,
    SumOfSums,
    crash,
    kill,
    stop,
    survive,
)
from leftovers import nothing_left_behind
from stream_nodes import LONG, shortly_and_long

from remotemedia.exceptions import NodeTimeoutError

TWO = {"replicas": 2}
# Of a worker that is stopped.
LIMITS = {"timeout": 0.3, "initialize_timeout": 3.0}
FEW = [10, pytest.param(200, marks=LONG)]


class Late:
    """Keeps what took too long."""

    def __init__(self):
        self.items = []
        self.errors = []

    def __call__(self, item, error):
        self.items.append(item)
        self.errors.append(error)


@pytest.fixture(autouse=True)
def tidy():
    with nothing_left_behind():
        yield


@pytest.mark.parametrize("kills", shortly_and_long(100, 1_000))
def test_all_items_come_out_in_order_whatever_is_killed(kills, tmp_path):
    nodes = [(Add(tmp_path, operand), TWO) for operand in (1, 10, 100)]
    killer = Killer(tmp_path, kills)

    count, outputs, metrics = survive(nodes, killer)

    assert killer.done == kills
    assert outputs == [number + 111 for number in range(count)]
    assert sum(node["restarts"] for node in metrics["node_metrics"]) > kills / 2


@pytest.mark.parametrize("kills", FEW)
def test_all_items_come_out_in_order_though_workers_crash(kills, tmp_path):
    nodes = [(Add(tmp_path, operand), TWO) for operand in (1, 10, 100)]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills, [crash]))

    assert outputs == [number + 111 for number in range(count)]


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("ways", [[stop], [kill, crash, stop]], ids=["stop", "mixed"])
def test_only_items_that_take_too_long_are_set_aside(ways, kills, tmp_path):
    late = Late()
    nodes = [(Add(tmp_path, 0), TWO | LIMITS | {"on_error": late}) for _ in range(3)]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills, ways))

    assert outputs == [number for number in range(count) if number not in late.items]
    assert len(late.items) <= kills
    assert {type(error) for error in late.errors} <= {NodeTimeoutError}


@pytest.mark.parametrize("kills", FEW)
def test_all_items_come_out_in_order_when_nodes_leave_of_themselves(kills, tmp_path):
    nodes = [(Leaves(tmp_path), TWO), (Leaves(tmp_path), {}), (Add(tmp_path), TWO)]

    count, outputs, metrics = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 1 for number in range(count)]
    assert all(node["restarts"] for node in metrics["node_metrics"])


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("options", [{}, TWO], ids=["one", "two"])
def test_outputs_of_generators_come_once(options, kills, tmp_path):
    nodes = [(Spread(tmp_path), options), (Spread(tmp_path), options)]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    numbers = [number for number in range(count) if number % 10]
    assert outputs == [
        (number, first, second) for number in numbers for first in range(3) for second in range(3)
    ]


@pytest.mark.parametrize("kills", FEW)
def test_only_items_that_fail_are_skipped(kills, tmp_path):
    nodes = [(Add(tmp_path, 0), TWO), (Fails(tmp_path), TWO | {"on_error": "skip"}), (Add(tmp_path, 0), {})]

    count, outputs, metrics = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number for number in range(count) if number % 7]
    assert [node["errors"] for node in metrics["node_metrics"]] == [0, count - len(outputs), 0]


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("snapshot_every", [1, 7, 100])
def test_sums_are_right(snapshot_every, kills, tmp_path):
    nodes = [(Add(tmp_path), TWO), (Sum(tmp_path), {"snapshot_every": snapshot_every})]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    numbers = range(1, count + 1)
    assert outputs == list(zip(numbers, accumulate(numbers), strict=True))


@pytest.mark.parametrize("kills", FEW)
def test_items_that_are_set_aside_are_in_no_sum(kills, tmp_path):
    late = Late()
    nodes = [(Sum(tmp_path), LIMITS | {"snapshot_every": 7, "on_error": late})]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills, [stop, kill]))

    numbers = [number for number in range(count) if number not in late.items]
    assert outputs == list(zip(numbers, accumulate(numbers), strict=True))


@pytest.mark.parametrize("kills", FEW)
def test_sums_of_nodes_that_share_a_worker_are_right(kills, tmp_path):
    nodes = [(Sum(tmp_path), {}), (SumOfSums(tmp_path), {})]

    count, outputs, metrics = survive(nodes, Killer(tmp_path, kills), is_shared=True, snapshot_every=20)

    assert outputs == list(accumulate(accumulate(range(count))))
    assert metrics["node_metrics"][0]["worker"]["processes"] == 1


@pytest.mark.parametrize("kills", FEW)
def test_items_of_a_batch_come_out_once(kills, tmp_path):
    nodes = [(AddAll(tmp_path), TWO | {"batch": 8}), (Add(tmp_path), {})]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 2 for number in range(count)]


@pytest.mark.parametrize("kills", FEW)
def test_items_in_flight_at_the_same_time_come_out_once(kills, tmp_path):
    nodes = [(AddLater(tmp_path), {"concurrency": 8}), (Add(tmp_path), {})]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 2 for number in range(count)]
