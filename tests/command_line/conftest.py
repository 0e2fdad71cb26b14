"""The same arguments for `remotemedia-host` and `python -m remotemedia`: each test runs with both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))
PROGRAMS = {"host": [str(HOST)], "wheel": [sys.executable, "-m", "remotemedia"]}
APP = Path(__file__).with_name("app.py")


@pytest.fixture(params=PROGRAMS)
def program(request, tmp_path, monkeypatch):
    """Return the command that starts a program, in a directory with `app.py`."""
    if request.param == "host" and not HOST.exists():
        pytest.skip("build it with: cargo build --package remotemedia-host")
    shutil.copy(APP, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    return PROGRAMS[request.param]


@pytest.fixture
def add(tmp_path):
    """Add lines to `app.py`."""

    def add(lines: str) -> None:
        with (tmp_path / "app.py").open("a") as app:
            app.write(f"\n{lines}\n")

    return add


@pytest.fixture
def run(program):
    """Run a command to its end."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *words], input=stdin, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def start(program):
    """Start an interactive command."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*program, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
