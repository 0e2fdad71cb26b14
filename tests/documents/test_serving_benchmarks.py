"""The programs with which `python -m benchmarks` measures `serve`: that they work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "target/debug/examples"

PROGRAM = """
import json, sys
from benchmarks.serving import servers

with getattr(servers, sys.argv[1])() as server:
    print(json.dumps(servers.load(sys.argv[2], server, **json.loads(sys.argv[3]))))
"""


def load(server, kind, **options):
    """Return the result of the load generator on a server."""
    host = os.environ.get("REMOTEMEDIA_HOST", str(ROOT / "target/debug/remotemedia-host"))
    for program in (EXAMPLES / "load", EXAMPLES / "hyper_echo", Path(host)):
        if not program.exists():
            pytest.skip(f"{program} is not built; run: make test")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, server, kind, json.dumps(options)],
        cwd=ROOT,
        env={**os.environ, "REMOTEMEDIA_EXAMPLES": str(EXAMPLES), "REMOTEMEDIA_HOST": host},
        check=True,
        capture_output=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("server", ["serve", "fastapi", "hyper_echo"])
@pytest.mark.parametrize("rate", [{}, {"rate": 100}])
def test_calls_are_counted_and_their_outputs_checked(server, rate):
    right = load(server, "http", secs=0.3, connections=3, **rate)
    wrong = load(server, "http", secs=0.1, connections=3, path="/nowhere" if server != "hyper_echo" else "/")

    assert right["failed"] == 0
    assert right["requests"] == 30 if rate else right["requests"] >= 3
    assert 0 < right["us"]["p50"] <= right["us"]["p99"] <= right["us"]["max"]
    assert (wrong["failed"] > 0) == (server != "hyper_echo")


@pytest.mark.parametrize("server", ["serve", "fastapi"])
def test_chunks_of_audio_come_back(server):
    result = load(server, "websockets", secs=1, connections=3, path="/session?rate=16000")

    assert (result["chunks"], result["dropped"], result["wrong"], result["errors"]) == (150, 0, 0, 0)


def test_unkind_clients_come_and_go():
    assert load("serve", "vanish", clients=50, secs=0.2)["clients"] == 50
    assert load("serve", "drip", connections=5, secs=1) == {"connections": 5, "refused": 0}
