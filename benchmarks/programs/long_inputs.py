"""The memory for long inputs: a long stream in Python, and an hour of audio in the host."""

from __future__ import annotations

import functools
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, NotMeasuredError, alternate
from benchmarks.harness.processes import run_measured

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples

__all__ = ["BENCHMARKS"]

ROOT = Path(__file__).parents[2]
HOST = ROOT / "target/release/remotemedia-host"

ITEMS = 10_000_000
SUM = """
import asyncio, sys
from remotemedia import Pipeline

class Sum:
    total = 0

    def process(self, number):
        self.total += number

    def flush(self):
        return self.total

count = int(sys.argv[1])
outputs = asyncio.run(Pipeline([Sum()]).run(number for number in range(count)))
assert outputs == [count * (count - 1) // 2], outputs
"""

SAMPLE_RATE = 16_000
SECS = 3600


def stream_memory(effort: Effort) -> Samples:
    """A generator that is summed, compared with an empty one."""
    program = [sys.executable, "-c", SUM]
    return alternate(
        lambda: run_measured([*program, str(ITEMS)]).peak_mib,
        lambda: run_measured([*program, "0"]).peak_mib,
        effort.rounds(6),
    )


def host_memory(effort: Effort) -> Samples:
    """The host on an hour of audio, compared with an interpreter that has imported numpy."""
    host = host_path()
    pipeline = f"{Path(__file__).parent / 'frames.py'}:pipeline"
    with tempfile.TemporaryDirectory() as directory:
        recording = Path(directory) / "hour.wav"
        write_silence(recording, SECS)
        command = [str(host), "run", pipeline, "--input", str(recording), "--output", os.devnull]
        command += ["--output-format", "raw"]
        environment = {"VIRTUAL_ENV": sys.prefix}
        return alternate(
            lambda: run_measured(command, environment).peak_mib,
            lambda: run_measured([sys.executable, "-c", "import numpy"]).peak_mib,
            effort.rounds(6),
        )


def host_path() -> Path:
    """The release host.

    Raises:
        NotMeasuredError: If it has not been built.
    """
    host = Path(os.environ.get("REMOTEMEDIA_HOST", HOST))
    if not host.exists():
        raise NotMeasuredError(f"there is no {host.name}; build it with `make host`, or set REMOTEMEDIA_HOST")
    return host


def write_silence(path: Path, secs: int) -> None:
    """A WAV file of 16-bit mono; the zeros take no room on the disk."""
    data_bytes = secs * SAMPLE_RATE * 2
    header = struct.pack("<4sI4s", b"RIFF", 36 + data_bytes, b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16)
    header += struct.pack("<4sI", b"data", data_bytes)
    path.write_bytes(header)
    os.truncate(path, len(header) + data_bytes)


_row = functools.partial(Benchmark, unit="MiB", compared_by="difference")

BENCHMARKS = [
    _row(
        "stream-memory",
        "peak memory, 10,000,000 ints to one sum",
        "the same with no ints",
        20.0,
        stream_memory,
    ),
    _row("host-memory", "peak memory, host on an hour of WAV", "interpreter with numpy", 60.0, host_memory),
]
