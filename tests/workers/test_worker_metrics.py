"""Metrics of workers."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from chaos import TIRELESS
from leftovers import children, fields_of
from worker_nodes import in_worker, metrics_of

from remotemedia import Node, Pipeline
from remotemedia.exceptions import NodeTimeoutError
from remotemedia.testing import faults

CALL_SECS = 0.02
CALL_US = CALL_SECS * 1e6


class Busy(Node):
    """Works for a while on each item."""

    def process(self, item):
        until = time.process_time() + 0.03
        while time.process_time() < until:
            pass
        return item


class Sleeps(Node):
    def process(self, item):
        time.sleep(CALL_SECS)
        return item


class SleepsOnALoop(Node):
    async def process(self, item):
        await asyncio.sleep(CALL_SECS)
        return item


class Streams(Node):
    def process(self, item):
        time.sleep(CALL_SECS)
        yield item
        yield item


class StreamsOnALoop(Node):
    async def process(self, item):
        yield item
        await asyncio.sleep(CALL_SECS)
        yield item


def test_restarts_and_redeliveries_are_counted(tmp_path):
    with in_worker(faults.Kill(once=tmp_path / "struck")).open(enable_metrics=True) as session:
        assert list(session.map(range(6))) == [0, 1, 2, 3, 4, 5]
        node = metrics_of(session)

    assert node["restarts"] == 1
    assert 1 <= node["worker"]["redeliveries"] <= 6
    assert node["worker"]["processes"] == 1


@pytest.mark.parametrize(
    ("node", "options", "items", "calls"),
    [
        (Sleeps(), {}, 6, 6),
        (Sleeps, {"replicas": 2}, 6, 6),
        (Sleeps(), {"batch": 3}, 6, 2),
        (SleepsOnALoop(), {}, 6, 6),
        (SleepsOnALoop(), {"concurrency": 3}, 6, 6),
        (Streams(), {}, 6, 6),
        (StreamsOnALoop(), {"concurrency": 3}, 6, 6),
    ],
)
@pytest.mark.parametrize("placement", ["thread", "process"])
def test_calls_are_measured_in_every_kind_of_stage(placement, node, options, items, calls):
    """With `concurrency` or `batch`, calls in a worker took no time."""
    pipeline = Pipeline("p").add_node(node, id="node", placement=placement, **options)

    with pipeline.open(enable_metrics=True) as session:
        list(session.map(range(items)))
        measured = metrics_of(session)

    assert measured["total_duration_us"] >= 0.98 * calls * CALL_US
    # The clock of metrics and the histogram are exact to a few per cent.
    assert measured["min_duration_us"] >= 0.98 * CALL_US
    assert measured["avg_duration_us"] == pytest.approx(measured["total_duration_us"] / calls, rel=0.01)


def test_a_call_does_not_count_as_transport():
    with in_worker(SleepsOnALoop(), concurrency=3).open(enable_metrics=True) as session:
        # None of them waits in the worker.
        list(session.map(range(3)))
        measured = metrics_of(session)

    assert 0 < measured["worker"]["transport_us"] < measured["total_duration_us"]


def test_an_item_that_timed_out_was_not_transported():
    """The time until its timeout counted as transport."""
    with in_worker(faults.Hang(on=2), timeout=0.3).open(enable_metrics=True) as session:
        session.call(1)
        before = metrics_of(session)["worker"]
        with pytest.raises(NodeTimeoutError):
            session.call(2)
        after = metrics_of(session)["worker"]

    assert after["transport_us"] == before["transport_us"]


def test_processor_time_of_workers_that_died_counts():
    with in_worker(Busy(), **TIRELESS).open(enable_metrics=True) as session:
        for item in range(4):
            session.call(item)
            os.kill(children()[0], 9)
        session.call(4)
        worker = metrics_of(session)["worker"]

    assert worker["cpu_us"] >= 5 * 20_000
    assert metrics_of(session)["worker"]["cpu_us"] >= worker["cpu_us"]


def test_metrics_grow_with_the_transported_items():
    with in_worker(Busy()).open(enable_metrics=True) as session:
        session.call(bytes(10_000))
        before = metrics_of(session)["worker"]
        session.call(bytes(10_000))
        after = metrics_of(session)["worker"]

    assert 10_000 <= after["sent_bytes"] - before["sent_bytes"] <= 11_000
    assert 10_000 <= after["received_bytes"] - before["received_bytes"] <= 11_000
    assert after["transport_us"] > before["transport_us"]
    assert after["resident_bytes"] > 1_000_000


def test_bytes_are_counted_once():
    with in_worker(Busy()).open(enable_metrics=True) as session:
        assert session.call("x" * 10_000) == "x" * 10_000
        before = metrics_of(session)["worker"]
    after = metrics_of(session)["worker"]

    # Messages at the end of the worker are small.
    assert before["sent_bytes"] <= after["sent_bytes"] < before["sent_bytes"] + 1000
    assert before["received_bytes"] <= after["received_bytes"] < before["received_bytes"] + 1000


def test_an_idle_worker_costs_no_processor_time():
    def used(process):
        user, system = fields_of(process)[11:13]
        return int(user) + int(system)

    with in_worker(Busy()).open() as session:
        assert list(session.map(range(3))) == [0, 1, 2]
        [worker] = children()
        processes = [os.getpid(), worker]
        before = [used(process) for process in processes]
        time.sleep(1.0)
        after = [used(process) for process in processes]

    # In ticks of the system, usually 10 ms.
    assert [now - then for then, now in zip(before, after, strict=True)] in ([0, 0], [1, 0], [0, 1], [1, 1])
