"""The latency of calls beside clients that vanish, or that send a byte a second."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, NotMeasuredError, alternate
from benchmarks.serving.servers import load, loading, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.measuring import Effort, Samples
    from benchmarks.serving.servers import Server

__all__ = ["BENCHMARKS"]

SECS = 10
QUICK_SECS = 2
CALLS_PER_SEC = 500
CALLERS = 8
VANISHING_PER_SEC = 1000
SLOW = 500


def beside_vanishing(effort: Effort) -> Samples:
    """10,000 clients that send a part of a request, and go."""
    secs = _secs(effort)
    return _compared(effort, "vanish", clients=VANISHING_PER_SEC * secs, secs=secs)


def beside_slow(effort: Effort) -> Samples:
    """500 connections on which a byte a second arrives."""
    return _compared(effort, "drip", connections=SLOW, secs=_secs(effort) + 1)


def _compared(effort: Effort, kind: str, **options: int) -> Samples:
    secs = _secs(effort)

    def disturbed() -> float:
        with loading(kind, server, **options) as program:
            p99 = _p99_ms(server, secs)
            _, errors = program.communicate()
        if program.returncode != 0:
            raise NotMeasuredError(f"load {kind}: {errors.strip()}")
        return p99

    with serve() as server:
        return alternate(disturbed, lambda: _p99_ms(server, secs), effort.rounds(6))


def _p99_ms(server: Server, secs: int) -> float:
    result = load("http", server, connections=CALLERS, rate=CALLS_PER_SEC, secs=secs)
    if result["failed"]:
        raise NotMeasuredError(f"{result['failed']} of {result['requests']} calls failed")
    return float(result["us"]["p99"]) / 1e3


def _secs(effort: Effort) -> int:
    return QUICK_SECS if effort.is_quick else SECS


_row: Callable[..., Benchmark] = functools.partial(
    Benchmark, against="the same alone", bar=2.0, unit="ms", compared_by="ratio"
)

BENCHMARKS = [
    _row("serve-vanishing", "calls beside 10,000 clients that vanish, p99", measure=beside_vanishing),
    _row("serve-slow", "calls beside 500 that send 1 byte/s, p99", measure=beside_slow),
]
