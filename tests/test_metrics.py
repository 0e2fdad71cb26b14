"""What the metrics say, in the same words on both executors."""

from __future__ import annotations

import time
from typing import Any

import pytest

from remotemedia import Node


class Slow(Node):
    """Takes a known time in `initialize` and in `process`."""

    def initialize(self) -> None:
        super().initialize()
        time.sleep(0.005)

    def process(self, item: float) -> None:
        time.sleep(item)


def test_time_of_a_node_is_that_of_its_calls(run: Any) -> None:
    """The reference executor used to add the time of `initialize` to it."""
    metrics = run([Slow()], [0.0, 0.001], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    assert abs(node["total_duration_us"] - 2 * node["avg_duration_us"]) <= 1
    assert node["initialize_duration_us"] >= 5000


def test_overhead_is_the_total_less_the_time_inside_the_nodes(run: Any) -> None:
    metrics = run([Slow(), Slow()], [0.0], enable_metrics=True)["metrics"]

    inside = sum(
        node["total_duration_us"] + node["initialize_duration_us"] for node in metrics["node_metrics"]
    )
    # Each figure is cut to whole microseconds.
    assert abs(metrics["total_duration_us"] - metrics["overhead_us"] - inside) <= 5


def test_half_of_two_calls_took_no_longer_than_the_shorter(run: Any) -> None:
    metrics = run([Slow()], [0.0, 0.01], enable_metrics=True)["metrics"]

    node = metrics["node_metrics"][0]
    assert node["p50_duration_us"] == pytest.approx(node["min_duration_us"], rel=0.01)
    assert node["p99_duration_us"] == pytest.approx(node["max_duration_us"], rel=0.01)
