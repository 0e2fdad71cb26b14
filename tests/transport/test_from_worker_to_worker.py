"""Items on their way to a worker, from there to the next one, and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from worker_nodes import in_workers

from remotemedia import Pipeline, with_options


class Same:
    """Returns its item."""

    def process(self, item):
        return item


class Made:
    """Returns a new array, with the number of its process in front."""

    def process(self, item):
        return np.full(50_000, [os.getpid()], dtype=np.int64)


class IsShared:
    """Returns whether the array lies in memory that the process which has made it maps, too."""

    def process(self, item):
        return segment_at(item.ctypes.data) in segments(item[0])


class DiesOnceEvery:
    """Is killed by every `count`-th item, but only once; else returns the array plus one."""

    def __init__(self, count, deaths):
        self.count, self.deaths = count, deaths

    def process(self, item):
        number = int(item[0])
        died = Path(self.deaths, str(number))
        if number % self.count == 0 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item + 1


def mappings(process):
    """Return the address ranges and inodes of the shared memory of a process."""
    for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines():
        if "memfd:remotemedia" in line:
            addresses, _, _, _, inode = line.split()[:5]
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield range(start, end), inode


def segments(process):
    return {inode for _, inode in mappings(process)}


def segment_at(address):
    return next(inode for addresses, inode in mappings("self") if address in addresses)


class Refuses:
    """Refuses every item."""

    def process(self, item):
        raise ValueError("refused")


KINDS = [
    0,
    -(2**70),
    2.5,
    "text",
    "",
    b"bytes",
    b"x" * 100_000,
    None,
    True,
    {"a": [1, {"b": None}], "c": (1.5, b"")},
    [],
    {},
    (),
    {1: "a", False: "b", 2.5: {}},
    {"deep": [[[[[[]]]]]]},
    Path("a", "b"),
    frozenset([1, 2]),
]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_items_of_every_kind_arrive_as_they_were(workers):
    items = [item for item in KINDS for _ in range(20)]

    with in_workers(*[Same() for _ in range(workers)]).open() as session:
        outputs = list(session.map(items))
        arrays = list(session.map([np.full(shape, 7) for shape in (3, 50_000, (200, 300))] * 10))
        single = [session.call(item) for item in KINDS if item is not None]

    assert [(type(output), output) for output in outputs] == [
        (type(item), item) for item in items if item is not None
    ]
    assert [array.shape for array in arrays] == [(3,), (50_000,), (200, 300)] * 10
    assert all((array == 7).all() for array in arrays)
    assert single == [item for item in KINDS if item is not None]


@pytest.mark.parametrize("size", [1, 50_000])
def test_a_container_that_occurs_twice_in_an_item_stays_one(size):
    inner = ["x"] * size
    item = {"one": inner, "two": inner}

    with in_workers(Same(), Same()).open() as session:
        [output] = session.map([item])

    assert output == item
    assert output["one"] is output["two"]


def test_what_handles_failures_behind_a_worker_receives_the_items_themselves():
    failed = []
    refuses = with_options(Refuses(), placement="process", dead_letter=lambda item, *_: failed.append(item))
    items = [{"index": index} for index in range(100)]

    with Pipeline([with_options(Same(), placement="process"), refuses]).open() as session:
        assert list(session.map(items)) == []

    assert failed == items


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_worker_reads_an_array_where_the_one_before_it_has_written_it(replicas):
    reads = with_options(IsShared(), placement="process", replicas=replicas)

    with Pipeline([with_options(Made(), placement="process"), reads]).open() as session:
        assert list(session.map(range(50))) == [True] * 50


def test_memory_that_a_worker_used_when_it_died_is_used_again(tmp_path):
    dies = with_options(DiesOnceEvery(40, tmp_path), placement="process", max_restarts=100)
    counts = []

    with Pipeline([with_options(Same(), placement="process"), dies]).open(queue_size=2) as session:
        for number, output in enumerate(session.map(np.full(50_000, number) for number in range(320))):
            assert (output == number + 1).all()
            counts.append(len(segments("self")))

    assert len(list(tmp_path.iterdir())) == 8
    # Each death would leave a few of them in use.
    assert counts[-1] < max(counts[:40]) + 12


UNPICKLES = """
import os

class Unpickles:
    def __init__(self):
        self.processes = []

    def __setstate__(self, state):
        self.processes = [*state["processes"], os.getpid()]
"""

THROUGH_WORKERS = """
import os
from unpickles import Unpickles
from remotemedia import Pipeline
from remotemedia.nodes import PassThroughNode

if __name__ == "__main__":
    nodes = [PassThroughNode().with_options(placement="process") for _ in range(3)]
    with Pipeline(nodes).open() as session:
        for output in session.map([Unpickles() for _ in range(20)]):
            *workers, last = output.processes
            assert len(set(workers)) == len(workers) == 3, output.processes
            assert last == os.getpid() not in workers
    print("done")
"""


def test_an_object_is_not_unpacked_between_two_workers(tmp_path):
    # In a program of its own: modules that other tests have made are not found by workers.
    (tmp_path / "unpickles.py").write_text(UNPICKLES)
    (tmp_path / "program.py").write_text(THROUGH_WORKERS)

    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("done\n", "")
