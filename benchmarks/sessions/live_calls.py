"""Many live calls in one process: processor time, lateness, threads and memory, against queues by hand."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Literal

from benchmarks.harness.measuring import Benchmark
from benchmarks.harness.processes import run_measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.measuring import Effort, Samples

    Usage = dict[str, float]

__all__ = ["BENCHMARKS"]

SECS = 5
QUICK_SECS = 1
OTHER_THREADS = 4
"""The threads of the process that belong to no call."""


def sampled(kind: str, count: int, what: str) -> Callable[[Effort], Samples]:
    """Return a function that takes one of the measurements of such calls."""

    def take(effort: Effort) -> Samples:
        secs = QUICK_SECS if effort.is_quick else SECS
        rounds = _rounds(kind, count, secs, effort.rounds(6))
        return [(ours[what], by_hand[what]) for ours, by_hand in rounds]

    return take


@functools.cache
def _rounds(kind: str, count: int, secs: int, rounds: int) -> list[tuple[Usage, Usage]]:
    """Run the programs in turn, once for all rows of the table that describe the same calls."""
    samples = []
    before = _run("queues", kind, count, secs)
    for _ in range(rounds):
        ours = _run("session", kind, count, secs)
        after = _run("queues", kind, count, secs)
        samples.append((ours, {what: (before[what] + after[what]) / 2 for what in before}))
        before = after
    return samples


def _run(side: str, kind: str, count: int, secs: int) -> Usage:
    program = [sys.executable, "-m", "benchmarks.sessions.live_programs", side, kind, str(count), str(secs)]
    usage: Usage = json.loads(run_measured(program).output)
    return usage


def _rows(kind: Literal["placed", "async"], count: int, title: str) -> list[Benchmark]:
    """Return the rows that all kinds of calls have."""
    name = f"live-{count}"
    against = "asyncio queues by hand"
    threads = count if kind == "placed" else 0
    return [
        Benchmark(
            f"{name}-cpu",
            title,
            against,
            1.3,
            sampled(kind, count, "cpu_ms"),
            unit="ms",
            compared_by="ratio",
        ),
        Benchmark(
            f"{name}-late",
            "the same: lateness, 99th percentile",
            against,
            2.0,
            sampled(kind, count, "late_ms"),
            unit="ms",
            compared_by="ratio",
        ),
        Benchmark(
            f"{name}-threads",
            "the same: threads of the process",
            against,
            threads + OTHER_THREADS,
            sampled(kind, count, "threads"),
            unit="threads",
            compared_by="ours",
        ),
    ]


BENCHMARKS = [
    *_rows("placed", 100, "100 calls of 50 frames/s, a thread each: CPU of 5 s"),
    *_rows("placed", 300, "300 calls of 50 frames/s, a thread each: CPU of 5 s"),
    *_rows("async", 1000, "1,000 calls of 10 frames/s, async: CPU of 5 s"),
    Benchmark(
        "live-1000-memory",
        "the same: memory of a call",
        "asyncio queues by hand",
        64.0,
        sampled("async", 1000, "kib"),
        unit="KiB",
        compared_by="ours",
    ),
]
