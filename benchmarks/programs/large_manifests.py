"""The time and memory for a manifest of 100,000 nodes, in a fresh process."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.processes import run_measured

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

NODES = 100_000
IMPORT = [sys.executable, "-c", "import remotemedia"]
CHECK = [sys.executable, "-m", "remotemedia", "check"]


def manifest_file(directory: str) -> str:
    """A chain of the simplest nodes, each with an id and a connection."""
    nodes = [{"id": f"node_{index}", "node_type": "PassThroughNode"} for index in range(NODES)]
    connections = [{"from": f"node_{index}", "to": f"node_{index + 1}"} for index in range(NODES - 1)]
    file = Path(directory, "large.json")
    file.write_text(json.dumps({"version": "v1", "nodes": nodes, "connections": connections}))
    return str(file)


def check_time(effort: Effort) -> Samples:
    """Whole lives of interpreters, from start to exit."""
    with tempfile.TemporaryDirectory() as directory:
        check = [*CHECK, manifest_file(directory)]
        return alternate(
            lambda: run_measured(check).took_ms, lambda: run_measured(IMPORT).took_ms, effort.rounds(6)
        )


def check_memory(effort: Effort) -> Samples:
    """The peaks of interpreters."""
    with tempfile.TemporaryDirectory() as directory:
        check = [*CHECK, manifest_file(directory)]
        return alternate(
            lambda: run_measured(check).peak_mib, lambda: run_measured(IMPORT).peak_mib, effort.rounds(6)
        )


_row = functools.partial(Benchmark, against="import remotemedia", compared_by="difference")

BENCHMARKS = [
    _row("manifest-time", "check of a manifest of 100,000 nodes", bar=1000.0, measure=check_time, unit="ms"),
    _row("manifest-memory", "peak memory of the same", bar=150.0, measure=check_memory, unit="MiB"),
]
