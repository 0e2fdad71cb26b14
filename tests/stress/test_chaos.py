"""Workers that are killed at random times: no item is lost or duplicated, and the order is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, count, takewhile

import pytest
from chaos import (
    TIRELESS,
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
from stream_nodes import LONG, shortly_and_long

from remotemedia import Pipeline
from remotemedia.exceptions import NodeTimeoutError

TWO = {"replicas": 2}
# For a worker that is stopped.
LIMITS = {"timeout": 0.3, "initialize_timeout": 3.0}
FEW = [10, pytest.param(200, marks=LONG)]


class Late:
    """Records the items that took too long."""

    def __init__(self):
        self.items = []
        self.errors = []

    def __call__(self, item, error):
        self.items.append(item)
        self.errors.append(error)


@pytest.mark.parametrize("kills", shortly_and_long(100, 1_000))
def test_all_outputs_are_in_order_whichever_worker_is_killed(kills, tmp_path):
    nodes = [(Add(tmp_path, operand), TWO) for operand in (1, 10, 100)]
    killer = Killer(tmp_path, kills)

    total, outputs, metrics = survive(nodes, killer)

    assert killer.done == kills
    assert outputs == [number + 111 for number in range(total)]
    assert sum(node["restarts"] for node in metrics["node_metrics"]) > kills / 2


@pytest.mark.parametrize("kills", FEW)
def test_all_outputs_are_in_order_even_if_workers_crash(kills, tmp_path):
    nodes = [(Add(tmp_path, operand), TWO) for operand in (1, 10, 100)]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills, [crash]))

    assert outputs == [number + 111 for number in range(total)]


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("ways", [[stop], [kill, crash, stop]], ids=["stop", "mixed"])
def test_only_items_that_take_too_long_are_dead_lettered(ways, kills, tmp_path):
    late = Late()
    nodes = [(Add(tmp_path, 0), TWO | LIMITS | {"on_error": late}) for _ in range(3)]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills, ways))

    assert outputs == [number for number in range(total) if number not in late.items]
    assert len(late.items) <= kills
    assert {type(error) for error in late.errors} <= {NodeTimeoutError}


@pytest.mark.parametrize("kills", FEW)
def test_all_outputs_are_in_order_when_nodes_exit_by_themselves(kills, tmp_path):
    nodes = [(Leaves(tmp_path), TWO), (Leaves(tmp_path), {}), (Add(tmp_path), TWO)]

    total, outputs, metrics = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 1 for number in range(total)]
    assert all(node["restarts"] for node in metrics["node_metrics"])


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("options", [{}, TWO], ids=["one", "two"])
def test_outputs_of_generators_are_returned_once(options, kills, tmp_path):
    nodes = [(Spread(tmp_path), options), (Spread(tmp_path), options)]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    numbers = [number for number in range(total) if number % 10]
    assert outputs == [
        (number, first, second) for number in numbers for first in range(3) for second in range(3)
    ]


@pytest.mark.parametrize("kills", FEW)
def test_only_items_that_fail_are_skipped(kills, tmp_path):
    nodes = [(Add(tmp_path, 0), TWO), (Fails(tmp_path), TWO | {"on_error": "skip"}), (Add(tmp_path, 0), {})]

    total, outputs, metrics = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number for number in range(total) if number % 7]
    assert [node["errors"] for node in metrics["node_metrics"]] == [0, total - len(outputs), 0]


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("snapshot_every", [1, 7, 100])
def test_sums_are_right(snapshot_every, kills, tmp_path):
    nodes = [(Add(tmp_path), TWO), (Sum(tmp_path), {"snapshot_every": snapshot_every})]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    numbers = range(1, total + 1)
    assert outputs == list(zip(numbers, accumulate(numbers), strict=True))


@pytest.mark.parametrize("kills", FEW)
def test_items_that_are_set_aside_are_in_no_sum(kills, tmp_path):
    late = Late()
    nodes = [(Sum(tmp_path), LIMITS | {"snapshot_every": 7, "on_error": late})]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills, [stop, kill]))

    numbers = [number for number in range(total) if number not in late.items]
    assert outputs == list(zip(numbers, accumulate(numbers), strict=True))


@pytest.mark.parametrize("kills", FEW)
def test_sums_of_nodes_that_share_a_worker_are_right(kills, tmp_path):
    nodes = [(Sum(tmp_path), {}), (SumOfSums(tmp_path), {})]

    total, outputs, metrics = survive(nodes, Killer(tmp_path, kills), is_shared=True, snapshot_every=20)

    assert outputs == list(accumulate(accumulate(range(total))))
    assert metrics["node_metrics"][0]["worker"]["processes"] == 1


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize(("kind", "options"), [(AddAll, TWO | {"batch": 8}), (AddLater, {"concurrency": 8})])
def test_items_of_a_batch_and_items_in_flight_are_returned_once(kind, options, kills, tmp_path):
    nodes = [(kind(tmp_path), options), (Add(tmp_path), {})]

    total, outputs, _ = survive(nodes, Killer(tmp_path, kills))

    assert outputs == [number + 2 for number in range(total)]


@pytest.mark.parametrize("kills", FEW)
@pytest.mark.parametrize("callers", [1, 4])
def test_each_call_returns_its_result(callers, kills, tmp_path):
    """A single call reads its reply itself."""
    pipeline = Pipeline("p").add_node(Add(tmp_path), placement="process", **TIRELESS)
    killer = Killer(tmp_path, kills)

    with pipeline.open() as session, killer.running(), ThreadPoolExecutor(callers) as pool:

        def call_until_over(start):
            numbers = takewhile(lambda _: not killer.is_over.is_set(), count(start, callers))
            return all(session.call(number) == number + 1 for number in numbers)

        assert all(pool.map(call_until_over, range(callers)))


def test_kills_during_an_interruption_do_not_prolong_it(tmp_path):
    killer = Killer(tmp_path, 20)
    pipeline = Pipeline("p").add_node(Add(tmp_path), placement="process", replicas=2, **TIRELESS)

    with pipeline.open() as session, killer.running():
        while not killer.is_over.is_set():
            for number in range(20):
                session.put(number)
            session.interrupt()
            assert session.call(-1) == 0
