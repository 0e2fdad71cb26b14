"""`python -m benchmarks`: that it measures, not what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["call", "session-map", "concurrency", "interrupt", "audio-call", "round-trip"]
)
def test_a_result_is_reported_with_its_baseline(tmp_path, name):
    """Each kind of benchmark: one call, a stream, coroutines, an interrupt, audio, a worker."""
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
