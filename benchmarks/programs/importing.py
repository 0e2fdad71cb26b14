"""The cost of `import remotemedia` in a fresh interpreter, and of a command for one line of text."""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.processes import run_measured
from benchmarks.programs.long_inputs import host_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

IMPORT = [sys.executable, "-c", "import remotemedia"]
NOTHING = [sys.executable, "-c", "pass"]
APP = """
class Upper:
    def process(self, line):
        return line.upper()


pipeline = [Upper()]
"""


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


def command_time(effort: Effort) -> Samples:
    """The whole life of a command of the wheel."""
    return _of_command([sys.executable, "-m", "remotemedia"], effort)


def host_time(effort: Effort) -> Samples:
    """The whole life of the host."""
    return _of_command([str(host_path())], effort)


def _of_command(program: Sequence[str], effort: Effort) -> Samples:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "app.py").write_text(APP, encoding="utf-8")
        (place / "line.txt").write_text("a line of text\n", encoding="utf-8")
        command = [*program, "run", f"{place}/app.py:pipeline", "--input", str(place / "line.txt")]
        in_this_environment = {"VIRTUAL_ENV": sys.prefix}
        return alternate(
            lambda: run_measured(command, in_this_environment).took_ms,
            lambda: run_measured(NOTHING).took_ms,
            effort.rounds(30),
        )


_row = functools.partial(Benchmark, against="bare interpreter", compared_by="difference")

BENCHMARKS = [
    _row("import-time", "import remotemedia in a fresh process", bar=15.0, measure=import_time, unit="ms"),
    _row("import-memory", "peak memory of the same", bar=8.0, measure=import_memory, unit="MiB"),
    _row("command-time", "remotemedia run of a line of text", bar=15.0, measure=command_time, unit="ms"),
    _row("host-time", "remotemedia-host run of the same", bar=20.0, measure=host_time, unit="ms"),
]
