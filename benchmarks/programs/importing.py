"""The cost of `import remotemedia` in a fresh interpreter."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.processes import run_measured

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

IMPORT = [sys.executable, "-c", "import remotemedia"]
NOTHING = [sys.executable, "-c", "pass"]


def import_time(effort: Effort) -> Samples:
    """Whole lives of interpreters, from start to exit."""
    return alternate(
        lambda: run_measured(IMPORT).took_ms, lambda: run_measured(NOTHING).took_ms, effort.rounds(30)
    )


def import_memory(effort: Effort) -> Samples:
    """The peaks of interpreters."""
    return alternate(
        lambda: run_measured(IMPORT).peak_mib, lambda: run_measured(NOTHING).peak_mib, effort.rounds(12)
    )


_row = functools.partial(Benchmark, against="bare interpreter", compared_by="difference")

BENCHMARKS = [
    _row("import-time", "import remotemedia in a fresh process", bar=15.0, measure=import_time, unit="ms"),
    _row("import-memory", "peak memory of the same", bar=8.0, measure=import_memory, unit="MiB"),
]
