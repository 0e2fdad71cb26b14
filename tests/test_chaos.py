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

TWO = {"replicas": 2}
FEW = [20, pytest.param(200, marks=LONG)]


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
@pytest.mark.parametrize("ways", [[crash], [stop], [kill, crash, stop]], ids=["crash", "stop", "mixed"])
def test_all_items_come_out_in_order_however_workers_end(ways, kills, tmp_path):
    nodes = [(Add(tmp_path, operand), TWO | {"timeout": 0.5}) for operand in (1, 10, 100)]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills, ways))

    assert outputs == [number + 111 for number in range(count)]


@pytest.mark.parametrize("kills", FEW)
def test_all_items_come_out_in_order_when_nodes_leave_of_themselves(kills, tmp_path):
    nodes = [(Leaves(tmp_path), TWO), (Leaves(tmp_path), {}), (Add(tmp_path), TWO)]

    count, outputs, metrics = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 1 for number in range(count)]
    assert all(node["restarts"] for node in metrics["node_metrics"])


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("options", [{}, TWO], ids=["one", "two"])
def test_outputs_of_generators_come_once(options, kills, tmp_path):
    nodes = [(Spread(tmp_path), options), (Spread(tmp_path, depth=1), options)]

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
@pytest.mark.parametrize("ways", [[kill], [kill, crash, stop]], ids=["kill", "mixed"])
@pytest.mark.parametrize("snapshot_every", [1, 7, 100])
def test_sums_are_right(snapshot_every, ways, kills, tmp_path):
    options = {"snapshot_every": snapshot_every, "timeout": 0.5}
    nodes = [(Add(tmp_path), TWO), (Sum(tmp_path), options)]

    count, outputs, _ = survive(nodes, Killer(tmp_path, kills, ways))

    numbers = range(1, count + 1)
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
