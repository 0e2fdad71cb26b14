"""Runs programs and measures their time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Usage", "run_measured"]

# A process inherits the peak of its parent. So a launcher starts it that is smaller than every measured
# program.
_LAUNCHER = """
import json, os, sys, time
started = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
took = time.perf_counter() - started
exit_code = os.waitstatus_to_exitcode(status)
measured = {"exit_code": exit_code, "took_ms": took * 1e3, "peak_mib": usage.ru_maxrss / 1024}
print(json.dumps(measured), file=sys.stderr)
"""


@dataclass(frozen=True)
class Usage:
    """The time and memory of a program, from its start to its end."""

    took_ms: float
    peak_mib: float
    output: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a program to its end.

    Args:
        command: The path of the program, and its arguments.
        environment: What to add to the environment.

    Raises:
        NotMeasuredError: If the program fails.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    *errors, last = done.stderr.splitlines()
    usage = json.loads(last)
    if usage["exit_code"] != 0:
        name = Path(command[0]).name
        raise NotMeasuredError(f"{name} ended with exit code {usage['exit_code']}: {' '.join(errors)}")
    return Usage(took_ms=usage["took_ms"], peak_mib=usage["peak_mib"], output=done.stdout)
