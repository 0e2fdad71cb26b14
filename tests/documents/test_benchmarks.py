"""`python -m benchmarks`: that it measures, not what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


NAMES = [
    "call",
    "session-map",
    "concurrency",
    "async-generator",
    "plain-async-call",
    "open-thread",
    "interrupt",
    "audio-call",
    "round-trip",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_reported_with_its_baseline(tmp_path, name):
    """Each kind of benchmark, and each kind of bar: a ratio, a difference and ours alone."""
    file = tmp_path / "results.json"

    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", name, "--json", file],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )

    (benchmark,) = json.loads(file.read_text())["benchmarks"]
    assert benchmark["name"] == name
    assert benchmark["ours"]["median"] > 0
    assert benchmark["baseline"]["median"] > 0


@pytest.mark.parametrize("kind", ["placed", "async"])
@pytest.mark.parametrize("side", ["session", "queues"])
def test_live_calls_are_measured(side, kind):
    program = [sys.executable, "-m", "benchmarks.sessions.live_programs", side, kind, "3", "0.2"]

    done = subprocess.run(program, cwd=ROOT, check=True, capture_output=True)

    usage = json.loads(done.stdout)
    assert usage.keys() == {"cpu_ms", "late_ms", "threads", "kib"}
    assert usage["cpu_ms"] > 0
    assert usage["late_ms"] > 0
    assert usage["threads"] >= (4 if kind == "placed" else 1)
