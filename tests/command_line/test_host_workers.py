"""Under `remotemedia-host`, the host itself is the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))

APP = """
import os, sys
from pathlib import Path

import helper

class Report:
    def process(self, item):
        import remotemedia
        print("working")
        return {
            "item": helper.double(item),
            "program": os.readlink("/proc/self/exe"),
            "parent": os.getppid(),
            "executable": sys.executable,
            "prefix": sys.prefix,
            "package": remotemedia.__file__,
            "directory": str(Path.cwd()),
        }

from remotemedia import with_options
pipeline = [with_options(Report(), placement="process")]
"""

pytestmark = [
    pytest.mark.skipif(not HOST.exists(), reason="build it with: cargo build --package remotemedia-host"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the program"),
]


@pytest.fixture
def run_host(tmp_path):
    """Run the host in an empty directory, on standard input."""

    def run_host(*words, written=""):
        return subprocess.run(
            [HOST, *words],
            cwd=tmp_path,
            input=written,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    return run_host


@pytest.fixture
def app(tmp_path):
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "app.py").write_text(APP)
    (directory / "helper.py").write_text("def double(item):\n    return item * 2\n")
    return directory / "app.py"


def test_a_worker_is_the_host_in_the_same_environment(run_host, app, tmp_path):
    words = ("--python", sys.prefix, "run", f"{app}:pipeline", "--input", "-", "--format", "json")

    completed = run_host(*words, written="1\n2\n")

    assert completed.returncode == 0, completed.stderr
    first, second = (json.loads(line) for line in completed.stdout.splitlines())
    assert (first["item"], second["item"]) == (2, 4)
    assert first["program"] == str(HOST.resolve())
    assert Path(first["prefix"]) == Path(sys.prefix)
    assert first["package"] == "<remotemedia-host>/remotemedia/__init__.py"
    assert first["directory"] == str(tmp_path)


def test_prints_of_a_node_are_not_outputs(run_host, app):
    words = ("--python", sys.prefix, "run", f"{app}:pipeline", "--input", "-", "--format", "json")

    completed = run_host(*words, written="1\n")

    assert len(completed.stdout.splitlines()) == 1
    assert "[Report_0] working\n" in completed.stderr


def test_the_help_does_not_mention_the_command_for_workers(run_host):
    completed = run_host("--help")

    assert "worker" not in completed.stdout.lower()


def test_the_command_for_workers_alone_is_wrong_use(run_host):
    completed = run_host("worker")

    assert completed.returncode == 2
    assert "unrecognized subcommand 'worker'" in completed.stderr


def test_a_worker_without_a_parent_reports_it(run_host):
    completed = run_host("worker", sys.executable)

    assert completed.returncode == 2
    assert "the worker lost the connection to its parent" in completed.stderr
