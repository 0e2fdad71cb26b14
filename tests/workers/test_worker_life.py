"""Restarts and states of a stage after its worker dies."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest
from chaos import TIRELESS, Sum
from leftovers import children
from worker_nodes import in_worker, metrics_of

from remotemedia import Node, Pipeline
from remotemedia.exceptions import NodeError, NodeTimeoutError, WorkerError
from remotemedia.testing import faults


class Meets(Node):
    """Becomes ready when `count` workers have started; the first of them may refuse."""

    def __init__(self, directory, count, *, does_refuse=False):
        super().__init__()
        self.directory = str(directory)
        self.count = count
        self.does_refuse = does_refuse

    def leave_mark(self, kind):
        (Path(self.directory) / f"{kind}-{os.getpid()}").touch()

    def marks(self, kind):
        return [path.name for path in Path(self.directory).glob(f"{kind}-*")]

    def initialize(self):
        super().initialize()
        self.leave_mark("here")
        until = time.monotonic() + 20
        while len(self.marks("here")) < self.count:
            assert time.monotonic() < until, "no other worker started"
            time.sleep(0.005)
        if self.does_refuse and f"here-{os.getpid()}" == min(self.marks("here")):
            raise ValueError("not today")

    def cleanup(self):
        super().cleanup()
        self.leave_mark("gone")

    def process(self, item):
        return item


def test_replicas_initialize_at_the_same_time(tmp_path):
    with in_worker(Meets(tmp_path, 3), replicas=3).open() as session:
        assert list(session.map(range(6))) == [0, 1, 2, 3, 4, 5]


def test_all_replicas_are_cleaned_up_when_one_does_not_become_ready(tmp_path):
    node = Meets(tmp_path, 3, does_refuse=True)

    with pytest.raises(NodeError, match="not today"), in_worker(node, replicas=3).open():
        pass

    # The object of this process was never initialized.
    assert {name.removeprefix("gone") for name in node.marks("gone")} == {
        name.removeprefix("here") for name in node.marks("here")
    }


def test_an_idle_worker_that_is_killed_is_started_again():
    with in_worker(faults.Fault(on=None)).open(enable_metrics=True) as session:
        session.call(1)
        [worker] = children()
        os.kill(worker, 9)

        assert session.call(2) == 2
        node = metrics_of(session)

    assert (node["restarts"], node["items_out"]) == (1, 2)


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
def test_a_worker_that_dies_too_often_fails_its_stage(max_restarts):
    items = iter(range(100))
    options = {"max_restarts": max_restarts, "on_error": "skip"}

    def call_for_all(session):
        for item in items:
            session.call(item)

    opening = in_worker(faults.Kill(on=None, nth=0), **options).open()
    with opening as session, pytest.raises(WorkerError, match="killed by SIGKILL") as caught:
        call_for_all(session)

    # Every item dies twice, and then it is poison.
    assert next(items) == max_restarts // 2 + 1
    assert caught.value.node_id == "node"


def test_restarts_beyond_the_window_do_not_count():
    options = {"max_restarts": 1, "restart_window": 0.2}
    with in_worker(faults.Fault(on=None), **options).open(enable_metrics=True) as session:
        for item in range(4):
            assert session.call(item) == item
            os.kill(children()[0], 9)
            assert session.call(item) == item
            time.sleep(0.25)  # The window itself.
        assert metrics_of(session)["restarts"] == 4


def test_the_last_words_of_a_worker_are_in_its_error():
    with in_worker(faults.Segfault()).open() as session, pytest.raises(WorkerError) as caught:
        session.call(3)

    assert "Node 'node' failed in process() on item 0: its worker was killed by SIGSEGV" in str(caught.value)
    assert "Fatal Python error: Segmentation fault" in str(caught.value)
    assert "faults.py" in str(caught.value)
    assert "in strike" in str(caught.value)


class Slow(Node):
    """Never becomes ready."""

    def initialize(self):
        time.sleep(1000)

    def process(self, item):
        return item


def test_a_node_may_initialize_for_so_long():
    begun = time.monotonic()

    with pytest.raises(NodeTimeoutError, match=r"longer than 0.5 s in initialize\(\)") as caught:
        in_worker(Slow(), initialize_timeout=0.5).open().__enter__()

    assert (caught.value.node_id, caught.value.phase) == ("node", "initialize")
    assert time.monotonic() - begun < 5


@pytest.fixture
def stopper():
    """Stop the children of this process, and yield a stream with a line for each that had not begun."""
    program = Path(__file__).parents[1] / "support/worker_stopper.py"
    words = [sys.executable, program, str(os.getpid())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        yield process.stdout
        process.kill()


def test_a_worker_that_does_not_even_begin_is_ended_in_time(stopper):
    """The thread that started it waited for ever."""
    for _ in range(40):
        # A worker that is stopped later may be ready before that.
        with suppress(NodeTimeoutError):
            in_worker(faults.Fault(on=None), initialize_timeout=0.3).open().__enter__().close(timeout=0.1)
        if select.select([stopper], [], [], 0)[0]:
            return
    pytest.fail("none was stopped before it had begun")


def test_a_poison_item_is_not_processed_again_to_restore_a_node(tmp_path):
    class PoisonedSum(Sum):
        def process(self, item):
            if item == 5:
                os._exit(3)
            return super().process(item)

    with in_worker(PoisonedSum(tmp_path), on_error="skip", **TIRELESS).open() as session:
        outputs = list(session.map(range(10)))
        os.kill(children()[0], 9)
        outputs += session.map([10])

    numbers = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert outputs == list(zip(numbers, accumulate(numbers), strict=True))


class CannotSnapshot(Node):
    def process(self, item):
        return item

    def snapshot(self):
        raise ValueError("no state")

    def restore(self, state):
        pass


class CannotRestore(Node):
    def process(self, item):
        return item

    def snapshot(self):
        return 1

    def restore(self, state):
        raise ValueError("no way back")


def test_a_snapshot_that_fails_is_an_error_of_the_item():
    with in_worker(CannotSnapshot(), snapshot_every=2).open() as session:
        assert session.call(0) == 0
        with pytest.raises(NodeError, match="ValueError: no state"):
            session.call(1)
        assert session.call(2) == 2


def test_a_restore_that_fails_ends_the_stage():
    with in_worker(CannotRestore(), snapshot_every=1).open() as session:
        session.call(0)
        os.kill(children()[0], 9)
        with pytest.raises(NodeError, match="ValueError: no way back") as caught:
            session.call(1)
        with pytest.raises(WorkerError):
            session.call(2)

    assert caught.value.phase == "initialize"


def test_a_snapshot_counts_when_all_nodes_of_the_worker_have_sent_theirs(tmp_path):
    """The state of one node was kept alone if its worker died before the next one had sent its state."""

    class DiesInSnapshot(Sum):
        def process(self, item):
            return super().process(item[1])[1]

        def snapshot(self):
            if self.sum > 10:
                faults.Kill(None, once=tmp_path / "struck").process(None)
            return super().snapshot()

    nodes = [Sum(tmp_path), DiesInSnapshot(tmp_path)]
    with Pipeline(nodes).open(placement="process", snapshot_every=2, **TIRELESS) as session:
        assert list(session.map(range(10))) == list(accumulate(accumulate(range(10))))

    assert (tmp_path / "struck").exists()


class ReturnsGenerators(Node):
    """A plain method that returns a generator, so that the number of outputs is not known before."""

    def process(self, item):
        return (item + number for number in range(3))


def test_all_outputs_of_a_generator_that_a_method_returns_arrive():
    with in_worker(ReturnsGenerators()).open() as session:
        assert [session.call(10) for _ in range(50)] == [[10, 11, 12]] * 50


def test_an_item_that_kills_its_worker_does_not_affect_earlier_items():
    class Kills(Node):
        def process(self, item):
            if item == 5:
                os.kill(os.getpid(), 9)
            return item

    outputs = []
    killed = pytest.raises(WorkerError, match="on item 5: its worker was killed by SIGKILL")
    with in_worker(Kills(), max_restarts=1).open() as session, killed:
        outputs.extend(session.map(range(20)))

    assert outputs == [0, 1, 2, 3, 4]


def test_a_worker_that_dies_again_and_again_is_started_after_a_pause(tmp_path):
    class Dies(Node):
        def initialize(self):
            super().initialize()
            with (tmp_path / "starts").open("a") as starts:
                starts.write(f"{time.monotonic()}\n")

        def process(self, item):
            with (tmp_path / "deaths").open("a") as deaths:
                deaths.write(f"{time.monotonic()}\n")
            os.kill(os.getpid(), 9)

    with in_worker(Dies(), max_restarts=4, on_error="skip").open() as session, pytest.raises(WorkerError):
        list(session.map(range(10)))

    starts, deaths = ([*map(float, (tmp_path / name).read_text().split())] for name in ("starts", "deaths"))
    pauses = [start - death for start, death in zip(starts[1:], deaths, strict=False)]
    # Immediately after the first death; the later pauses double.
    assert len(pauses) == 4
    assert all(pause >= 0.02 * 2**number for number, pause in enumerate(pauses[1:]))
