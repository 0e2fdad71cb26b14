"""Limits of threads and memory: an error that says what to do, and nothing remains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from thread_limits import USES

PROGRAM = Path(__file__).parents[1] / "support/thread_limits.py"


@pytest.fixture(scope="module")
def outcomes():
    """The outcomes of each use with no further thread, with one, and so on. Nothing may remain."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("use", USES)
def test_a_refused_thread_is_an_error_that_says_what_to_do(outcomes, use):
    *refused, last = outcomes[use]

    assert refused
    # A worker is another user's program here, which may not be started.
    assert last == "works" or use == "worker"
    for error in refused:
        assert error.startswith(("RuntimeError: ", "NodeError: ", "ManifestError: ", "WorkerError: ")), error
        assert "start" in error


ADDRESS_SPACE = """
import resource
from remotemedia import Pipeline
from remotemedia.exceptions import RemoteMediaError

class Pass:
    def process(self, item):
        return item

with Pipeline([Pass()]).open() as session:
    session.call(1)
limits = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), limits[1]))
try:
    Pipeline([Pass()]).open(placement="thread").__enter__()
except RuntimeError as error:
    print("ulimit -v" in str(error))
resource.setrlimit(resource.RLIMIT_AS, limits)
with Pipeline([Pass()]).open(placement="thread") as session:
    print(session.call(2))
"""


def test_a_session_opens_after_memory_for_its_threads_is_available_again():
    ended = subprocess.run(
        [sys.executable, "-c", ADDRESS_SPACE], capture_output=True, text=True, timeout=30, check=False
    )

    assert (ended.stdout, ended.stderr) == ("True\n2\n", "")


def test_no_memory_for_the_runtime_is_a_memory_error(monkeypatch):
    from remotemedia import _availability

    refused = ImportError("_core.so: failed to map segment from shared object")
    monkeypatch.setattr(_availability, "try_load_rust_runtime", lambda: (False, None, refused))

    with pytest.raises(MemoryError, match="ulimit -v"):
        _availability.get_rust_runtime()
