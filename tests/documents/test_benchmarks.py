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
def test_a_figure_stands_beside_its_baseline(tmp_path, name):
    """Each kind of figure: one call, a stream, coroutines, an interrupt, audio, a worker."""
    file = tmp_path / "figures.json"

    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", name, "--json", file],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )

    (figure,) = json.loads(file.read_text())["figures"]
    assert figure["name"] == name
    assert figure["ours"]["median"] > 0
    assert figure["baseline"]["median"] > 0
