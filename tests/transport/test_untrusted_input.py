"""Input from outside is never unpickled: not where it is read, and not in workers."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys

import pytest

# Every unpickler looks up the names in a pickle, and Python raises an audit event for each look-up.
PROGRAM = """
import sys

def watch(event, arguments):
    if event == "pickle.find_class":
        print("unpickled", *arguments[:2], file=sys.stderr, flush=True)

sys.addaudithook(watch)
from remotemedia._core import main
sys.exit(main(sys.argv[1:]))
"""

NODES = """
import sys
from remotemedia.core.node import Node

class Echo(Node):
    def process(self, item):
        return item
"""


class Opens:
    """Creates a directory if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def mark(tmp_path):
    """Return the path that exists if something was unpickled."""
    return tmp_path / "unpickled"


@pytest.fixture
def items(mark):
    """Return what an attacker might send: pickles, as they are and disguised as other formats."""
    pickled = [pickle.dumps(Opens(mark), protocol=protocol) for protocol in (0, 2, 5)]
    yaml = f"!!python/object/apply:os.mkdir ['{mark}']"
    texts = [yaml, *[data.decode("latin-1") for data in pickled]]
    coded = [base64.b64encode(data).decode() for data in pickled]
    dressed = [{"py/reduce": [{"py/type": "os.mkdir"}, {"py/tuple": [str(mark)]}]}, {"__reduce__": coded}]
    return [*texts, *coded, *dressed, [list(data) for data in pickled]]


@pytest.fixture
def run(tmp_path, mark):
    """Run a command on a pipeline, and check that nothing was unpickled in its process."""
    (tmp_path / "app.py").write_text(NODES)

    def run(manifest, *words, given):
        (tmp_path / "manifest.yaml").write_text(
            manifest if isinstance(manifest, str) else json.dumps(manifest)
        )
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "run", "manifest.yaml", *words],
            cwd=tmp_path,
            input=given,
            capture_output=True,
            check=False,
            timeout=50,
        )
        assert not mark.exists()
        assert b"unpickled" not in done.stderr
        return done

    return run


def manifest(placement, **params):
    node = {"id": "echo", "node_type": "app:Echo", "params": params, "options": {"placement": placement}}
    return {"version": "v1", "metadata": {"name": "p"}, "nodes": [node]}


PLACEMENTS = ["inline", "process"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_items_of_the_command_line_are_not_unpickled(placement, run, items):
    lines = "".join(json.dumps(item) + "\n" for item in items).encode()

    done = run(manifest(placement), "--input", "-", "--format", "jsonl", given=lines)

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == items


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_bytes_of_the_command_line_are_not_unpickled(placement, run, mark):
    for protocol in (0, 2, 5):
        pickled = pickle.dumps(Opens(mark), protocol=protocol)
        for words in (["--format", "text"], ["--format", "jsonl"]):
            run(manifest(placement), "--input", "-", *words, given=pickled)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_manifests_are_not_unpickled(placement, run, items):
    params = {"name": "echo", "given": items}

    done = run(manifest(placement, **params), "--input", "-", "--format", "jsonl", given=b"1\n")

    assert (done.returncode, done.stdout) == (0, b"1\n"), done.stderr


def test_tags_of_a_manifest_create_no_objects(run, mark):
    text = f"version: v1\nmetadata: !!python/object/apply:os.mkdir ['{mark}']\nnodes: []\n"

    assert run(text, given=b"").returncode == 1


def test_the_watch_sees_an_unpickled_item(tmp_path, mark):
    """The other tests would detect that something was unpickled."""
    program = PROGRAM.rpartition("from")[0] + "import pickle; pickle.loads(sys.stdin.buffer.read())"

    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(Opens(mark)),
        capture_output=True,
        check=True,
        timeout=50,
    )

    assert done.stderr == b"unpickled posix mkdir\n"
    assert mark.exists()
