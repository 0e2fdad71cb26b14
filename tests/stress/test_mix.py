"""All operations of a session at the same time, in one process; see `mix.py`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from stream_nodes import LONG

MIX = Path(__file__).parents[1] / "support/mix.py"


@pytest.mark.parametrize(
    ("seconds", "seed"), [(10, 1), pytest.param(300, random.randrange(10**6), marks=LONG, id="long")]
)
def test_nothing_is_lost_mixed_up_or_leaked(seconds, seed):
    mixed = subprocess.run(
        [sys.executable, MIX, str(seconds), str(seed)], capture_output=True, text=True, check=False
    )

    assert (mixed.returncode, mixed.stderr) == (0, ""), f"seed {seed}: {mixed.stderr}"
