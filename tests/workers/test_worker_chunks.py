"""Items that go to workers in chunks: order, errors, early outputs, and workers that die in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from worker_nodes import in_workers

from remotemedia import execute_pipeline_with_input
from remotemedia.exceptions import NodeError, WorkerError


def wait_for(path):
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, "the file was not created"
        time.sleep(0.001)


class Adds:
    """Adds one in the worker."""

    def process(self, item):
        return item + 1


class Waits:
    """Waits at one item, until a file exists if there is one."""

    def __init__(self, item, path=None):
        self.item = item
        self.path = None if path is None else str(path)

    def process(self, item):
        if item == self.item and self.path is None:
            time.sleep(0.3)
        elif item == self.item:
            wait_for(Path(self.path))
        return item


class WaitsOften:
    """Waits at every seventh item until a file exists, and takes a little longer for the item before."""

    def __init__(self, directory):
        self.directory = str(directory)

    def process(self, item):
        if item % 7 == 6:
            # Longer than results wait for more, and too short to be late.
            time.sleep(0.0003)
        if item and item % 7 == 0:
            wait_for(Path(self.directory, str(item)))
        return item


class Marks:
    """Creates a file for one item."""

    def __init__(self, item, path):
        self.item = item
        self.path = str(path)

    def process(self, item):
        if item == self.item:
            Path(self.path).touch()
        return item


class Pauses:
    """Takes long for some items."""

    def process(self, item):
        if item % 700 == 0:
            time.sleep(0.003)
        return item


class Refuses:
    """Fails on some items, and writes those that it is given into a file."""

    def __init__(self, *items):
        self.items = items

    def process(self, item):
        if item in self.items:
            raise ValueError(item)
        return item


class Repeats:
    """Returns a generator of as many outputs as the item says, modulo three."""

    def process(self, item):
        return (item for _ in range(item % 3))


class Dies:
    """Ends its process at one item, the first time or each time."""

    def __init__(self, item, path=None):
        self.item = item
        self.path = None if path is None else str(path)

    def process(self, item):
        if item == self.item and not (self.path and Path(self.path).exists()):
            if self.path:
                Path(self.path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item


@pytest.mark.parametrize("options", [{}, {"replicas": 2}])
@pytest.mark.parametrize("count", [1, 3])
def test_outputs_keep_their_order(count, options):
    with in_workers(*(Adds() for _ in range(count)), **options).open() as session:
        assert list(session.map(range(5000))) == [*range(count, 5000 + count)]
        assert list(session.map(item for item in range(500))) == [*range(count, 500 + count)]


@pytest.mark.parametrize("options", [{}, {"replicas": 2}])
def test_a_long_stream_with_pauses_comes_out_whole(options):
    with in_workers(Pauses(), Pauses(), Pauses(), **options).open() as session:
        assert list(session.map(range(20_000))) == [*range(20_000)]


def test_nodes_with_any_number_of_outputs_keep_their_order():
    pipeline = in_workers(Repeats(), Adds(), Repeats())
    expected = [item + 1 for item in range(900) for _ in range(item % 3 * ((item + 1) % 3))]

    with pipeline.open() as session:
        assert list(session.map(range(900))) == expected


@pytest.mark.parametrize("at", [0, 1, 700])
def test_outputs_do_not_wait_for_a_later_item_that_takes_long(tmp_path, at):
    go = tmp_path / "go"

    with in_workers(Waits(at, go)).open() as session:
        outputs = session.map(range(1000))
        early = [next(outputs) for _ in range(at)]
        go.touch()
        rest = list(outputs)

    assert early + rest == [*range(1000)]


def test_outputs_that_were_sent_in_time_do_not_wait_for_a_later_item_either(tmp_path):
    with in_workers(WaitsOften(tmp_path)).open() as session:
        outputs = []
        for output in session.map(range(210)):
            outputs.append(output)
            if output % 7 == 6:
                (tmp_path / str(output + 1)).touch()

    assert outputs == [*range(210)]


def test_outputs_reach_the_next_worker_before_a_later_item_is_done_although_nobody_waits_for_them(tmp_path):
    waits = Waits(300, tmp_path / "go")

    with in_workers(waits, Marks(299, tmp_path / "marked")).open() as session:
        stream = session.map(range(400))
        outputs = [next(stream) for _ in range(200)]
        wait_for(tmp_path / "marked")
        (tmp_path / "go").touch()
        outputs.extend(stream)

    assert outputs == [*range(400)]


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("options", [{}, {"replicas": 2}])
def test_the_first_error_comes_behind_the_outputs_before_it(options, behind):
    with in_workers(Refuses(-1, -2), *[Adds()] * behind, **options).open() as session:
        # Where a chunk ends is not known.
        for at in range(300, 312):
            outputs = []
            with pytest.raises(NodeError, match="'Refuses_0' failed in process.*: ValueError: -1"):
                outputs.extend(session.map([*range(at), -1, *range(8), -2, *range(100)]))
            assert outputs == [*range(behind, at + behind)]
        assert session.call(5) == 5 + behind


def test_a_run_has_the_index_of_the_item_that_failed():
    with pytest.raises(NodeError, match="on item 300: ValueError: 301") as raised:
        asyncio.run(execute_pipeline_with_input(in_workers(Adds(), Refuses(301)), range(1000)))

    assert raised.value.item_index == 300


@pytest.mark.parametrize("options", [{}, {"replicas": 2}])
def test_a_worker_that_dies_once_loses_nothing(tmp_path, options):
    with in_workers(Adds(), Dies(400, tmp_path / "died"), Adds(), **options).open() as session:
        assert list(session.map(range(2000))) == [*range(2, 2002)]


def test_an_item_that_always_ends_its_worker_fails_alone():
    outputs = []

    with in_workers(Dies(400)).open() as session:
        with pytest.raises(WorkerError) as raised:
            outputs.extend(session.map(range(1000)))
        assert outputs == [*range(400)]
        assert raised.value.item_index == 400
        assert list(session.map(range(5))) == [*range(5)]


def test_a_stream_that_is_closed_leaves_the_worker_free():
    with in_workers(Adds(), Adds()).open() as session:
        outputs = session.map(range(100_000))
        assert [next(outputs) for _ in range(100)] == [*range(2, 102)]
        outputs.close()
        assert session.call(1) == 3
        assert list(session.map(range(10))) == [*range(2, 12)]


def test_an_interruption_counts_the_items_of_chunks_that_were_not_handed_on():
    # Where a chunk ends is not known.
    for at in range(300, 308):
        outputs, dropped = [], 0
        with in_workers(Waits(at)).open() as session:
            for output in session.map(range(400)):
                outputs.append(output)
                if output == at - 1:
                    # The next item takes long, and none behind it is done.
                    dropped = session.interrupt()

        assert dropped > 0
        assert len(outputs) + dropped == 400
