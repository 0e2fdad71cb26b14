"""Transport of items to workers: memory and sockets without a name, and what replaces them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from leftovers import children, nothing_remains

from remotemedia import Node, Pipeline

PROGRAM = Path(__file__).parents[1] / "support/worker_limits.py"
NODES = str(PROGRAM.parent / "nodes")
SUMS = [number * 2_000_000 for number in range(6)]


def run(*limits):
    words = [sys.executable, PROGRAM, *limits]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([NODES, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=50, env=environment)
    return json.loads(done.stdout), done.stderr


def test_arrays_cross_in_memory_that_has_no_name():
    found, stderr = run()

    assert found == {"sums": SUMS, "has_large": True, "is_deleted": True, "is_memfd": True, "names": []}
    assert stderr == ""


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="knows no number of the call")
def test_without_memfd_the_memory_loses_its_name_at_once():
    found, stderr = run("memfd")

    assert found == {"sums": SUMS, "has_large": True, "is_deleted": True, "is_memfd": False, "names": []}
    assert stderr == ""


def test_without_shared_memory_items_use_the_socket_and_one_warning_is_logged():
    found, stderr = run("files")

    assert (found["sums"], found["has_large"]) == (SUMS, False)
    assert stderr == (
        "[node] shared memory is not available (File too large (os error 27)); "
        "large items are sent over the socket, which is slower\n"
    )


class Echo(Node):
    def process(self, item):
        return item


def sockets(process_id):
    """Return the Unix sockets of a process, with the kernel's data about them."""
    table = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]
    rows = {row.split()[6]: row.split()[7:] for row in table}
    found = {}
    for file in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # The one that the list is read by.
            inode = str(file.readlink()).removeprefix("socket:[").rstrip("]")
            found |= {inode: rows[inode]} if inode in rows else {}
    return found


def test_sockets_have_no_name():
    before = sockets("self")

    with Pipeline("p").add_node(Echo(), placement="process", replicas=2).open() as session:
        session.call(np.zeros(1_000_000))
        ours = {inode: path for inode, path in sockets("self").items() if inode not in before}
        theirs = [sockets(worker) for worker in children()]

    assert len(ours) == 4
    assert [len(of_worker) for of_worker in theirs] == [2, 2]
    assert [path for found in (ours, *theirs) for path in found.values()] == [[]] * 8


def test_large_items_leave_no_memory_when_their_worker_is_killed():
    with nothing_remains():
        with Pipeline("p").add_node(Echo(), placement="process").open() as session:
            for _ in range(3):
                session.call(np.zeros(1_000_000))
                os.kill(children()[0], 9)
            kept = session.call(np.ones(1_000_000))
        assert kept.sum() == 1_000_000
        del kept


def test_more_buffers_than_files_cross():
    found, stderr = run("open files")

    assert (found, stderr) == ({"equal": 100, "restarts": 0}, "")


class Accumulates(Node):
    """Keeps a large array, and writes to it."""

    def __init__(self):
        super().__init__()
        self.sums = np.zeros(50_000)

    def process(self, item):
        self.sums[:] += item
        return self.sums

    def snapshot(self):
        return self.sums

    def restore(self, state):
        self.sums = state


class AccumulatesTwice(Accumulates):
    """Its state is more than an array."""

    def snapshot(self):
        return {"sums": self.sums}

    def restore(self, state):
        self.sums = state["sums"]


@pytest.mark.parametrize("kind", [Accumulates, AccumulatesTwice])
def test_a_node_can_write_to_the_arrays_that_it_holds(kind):
    pipeline = Pipeline("p").add_node(kind(), placement="process", snapshot_every=1)

    with pipeline.open() as session:
        first, second = session.call(1), session.call(2)
        os.kill(children()[0], 9)
        third = session.call(3)

    assert [float(sums[0]) for sums in (first, second, third)] == [1, 3, 6]


class ForksAndWrites(Node):
    """Writes to its array in a fork, and returns its own value."""

    def __init__(self):
        super().__init__()
        self.numbers = np.ones(50_000)

    def process(self, item):
        child = os.fork()
        if child == 0:
            self.numbers[:] = item
            os._exit(0)
        os.waitpid(child, 0)
        return float(self.numbers[0])


def test_writes_of_a_fork_to_an_array_of_its_node_do_not_reach_the_node():
    with Pipeline("p").add_node(ForksAndWrites(), placement="process").open() as session:
        assert session.call(7) == 1.0


@pytest.mark.parametrize("limits", [("address space",), ("files", "address space")])
def test_an_item_that_does_not_fit_into_memory_fails_alone(limits):
    """It ended the session, or the whole program if the item came over the socket."""
    found, _stderr = run(*limits)

    refused = "MemoryError"
    outcomes = [10, 5_000_000, refused, refused, 5_000_000, 10, refused, 100_000, 10]
    assert found == {"outcomes": outcomes, "restarts": 0}


def test_a_state_that_does_not_fit_into_memory_leaves_the_earlier_one():
    found, _stderr = run("states")

    assert found == {"outcomes": [*range(1, 11)], "restarts": 1}
