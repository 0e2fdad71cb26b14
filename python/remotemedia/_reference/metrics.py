"""The metrics of a run of the reference executor, in the same form as those of the engine."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from remotemedia._errors import is_interrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotemedia._graph.graph import Entry
    from remotemedia._reference.places import Place

__all__ = ["Recorder", "report"]

_COUNTS = ("errors", "failures", "retries", "skipped", "dead_lettered", "interrupted")


class Recorder:
    """Collects the metrics of one node."""

    def __init__(self) -> None:
        self.items_in = 0
        self.items_out = 0
        # As in `NodeMetrics` of the engine: items that failed after all retries, and calls that raised.
        self.errors = 0
        self.failures = 0
        self.retries = 0
        self.skipped = 0
        self.dead_lettered = 0
        self.interrupted = 0
        self.initialize_secs = 0.0
        self.call_secs: list[float] = []

    def failed(self, error: BaseException) -> None:
        """Count a call that raised."""
        if is_interrupt(error):
            self.interrupted += 1
        else:
            self.failures += 1
            self.errors += 1

    def retried(self) -> None:
        """Count a retry: the item of the last failed call has not failed."""
        self.errors -= 1
        self.retries += 1

    def report(self, entry: Entry) -> dict[str, Any]:
        """Return the entry of `node_metrics`."""
        micros = sorted(secs * 1e6 for secs in self.call_secs)
        inside = sum(micros)
        durations = {
            "avg": inside / len(micros) if micros else 0.0,
            "min": micros[0] if micros else 0.0,
            "max": micros[-1] if micros else 0.0,
            "p50": _quantile(micros, 0.50),
            "p95": _quantile(micros, 0.95),
            "p99": _quantile(micros, 0.99),
        }
        return {
            "node_id": entry.id,
            "node_type": entry.node_type,
            "placement": entry.options.get("placement", "inline"),
            "items_in": self.items_in,
            "items_out": self.items_out,
            **{name: getattr(self, name) for name in _COUNTS},
            "restarts": 0,
            "total_duration_us": int(inside),
            **{f"{name}_duration_us": round(value, 3) for name, value in durations.items()},
            "initialize_duration_us": int(self.initialize_secs * 1e6),
            "queue_wait_us": 0,
            "peak_queue_len": 0,
            "dropped": 0,
        }


def report(name: str, places: Sequence[Place], counts: tuple[int, int], started: float) -> dict[str, Any]:
    """Return the metrics of a run that started at `started`, with the numbers of items in and out."""
    nodes = [place.recorder.report(place.entry) for place in places]
    total = int((time.perf_counter() - started) * 1e6)
    items_in, items_out = counts
    return {
        "pipeline": name,
        "total_duration_us": total,
        "overhead_us": max(
            0, total - sum(node["total_duration_us"] + node["initialize_duration_us"] for node in nodes)
        ),
        "items_in": items_in,
        "items_out": items_out,
        **{
            name: sum(getattr(place.recorder, name) for place in places)
            for name in _COUNTS
            if name != "interrupted"
        },
        "dropped": 0,
        "interrupted": 0,
        "node_metrics": nodes,
        # It never runs nodes on the event loop.
        "advice": [],
    }


def _quantile(micros: list[float], quantile: float) -> float:
    return micros[max(0, math.ceil(quantile * len(micros)) - 1)] if micros else 0.0
