"""`POST /call` of a trivial node, over 32 connections that stay open."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, NotMeasuredError, alternate
from benchmarks.serving.servers import fastapi, hyper_echo, load, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from benchmarks.harness.measuring import Effort, Samples
    from benchmarks.serving.servers import Server, StartServer

__all__ = ["BENCHMARKS"]

CONNECTIONS = 32
SECS = 5
QUICK_SECS = 1


def against(start_baseline: StartServer) -> Callable[[Effort], Samples]:
    """Return a function that compares the time of a request, when each connection sends the next at once."""

    def take(effort: Effort) -> Samples:
        secs = secs_of(effort)
        with serve() as ours, start_baseline() as baseline:
            return alternate(
                lambda: 1e6 / requests(ours, secs)["per_sec"],
                lambda: 1e6 / requests(baseline, secs)["per_sec"],
                effort.rounds(6),
            )

    return take


def latency(effort: Effort) -> Samples:
    """The 99th percentile at half the highest rate; of hyper at the same rate."""
    secs = secs_of(effort)
    with serve() as ours, hyper_echo() as baseline:
        rate = requests(ours, secs)["per_sec"] / 2
        return alternate(
            lambda: requests(ours, secs, rate=rate)["us"]["p99"] / 1e3,
            lambda: requests(baseline, secs, rate=rate)["us"]["p99"] / 1e3,
            effort.rounds(6),
        )


def requests(server: Server, secs: int, **options: float) -> dict[str, Any]:
    """Send requests.

    Raises:
        NotMeasuredError: If one of them fails.
    """
    result = load("http", server, connections=CONNECTIONS, secs=secs, **options)
    if result["failed"]:
        raise NotMeasuredError(f"{result['failed']} of {result['requests']} requests failed")
    return result


def secs_of(effort: Effort) -> int:
    """Return how long a round takes."""
    return QUICK_SECS if effort.is_quick else SECS


_row = functools.partial(Benchmark, unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row("serve-call", "POST /call, 32 connections, per request", "FastAPI", 1 / 3, against(fastapi)),
    _row("serve-call-hyper", "the same", "a bare hyper echo", 1 / 0.35, against(hyper_echo)),
    Benchmark(
        "serve-call-p99",
        "the same at half the highest rate, p99",
        "a bare hyper echo",
        2.0,
        latency,
        unit="ms",
        compared_by="ours",
    ),
]
