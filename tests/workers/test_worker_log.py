"""Log records of nodes in a worker."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from leftovers import wait_until
from worker_nodes import Call, Echo, KillsAtAnyItem, KillsOnALoop, Point, in_worker

from remotemedia import Pipeline
from remotemedia.exceptions import WorkerError
from remotemedia.testing import faults


@pytest.fixture
def ask():
    with in_worker(Call()).open() as session:
        yield lambda *question: session.call(question)[0]


class Collector(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []
        self.has_arrived = threading.Event()

    def emit(self, record):
        self.records.append(record)
        self.has_arrived.set()


@pytest.fixture
def log():
    logger = logging.getLogger("worker.nodes")
    handler = Collector()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_records_of_a_node_reach_the_log_of_the_parent(log, ask):
    ask("log_and_print", "hello")

    assert log.has_arrived.wait(10)
    [record] = log.records
    assert record.getMessage() == "[node] log hello"
    assert (record.levelno, record.node_id, record.key) == (logging.INFO, "node", 7)
    assert record.funcName == "log_and_print"
    assert record.process != os.getpid()


@pytest.fixture
def warnings(caplog):
    """Return the warnings of the engine, as pairs of text and fields."""
    with caplog.at_level(logging.WARNING, "remotemedia"):
        yield lambda: [record for record in caplog.records if record.name == "remotemedia"]


def test_the_death_and_the_restart_of_a_worker_are_logged(warnings):
    with in_worker(faults.Kill(on=2)).open(enable_metrics=True) as session:
        processes = []
        for item in (1, 2, 3):
            with contextlib.suppress(WorkerError):
                session.call(item)
            processes += session.metrics()["node_metrics"][0]["worker"]["process_ids"]
        records = warnings()

    first, last = processes[0], processes[-1]
    second = records[1].process_id
    died = "was killed by SIGKILL on item 1; it will be restarted"
    assert [record.getMessage() for record in records] == [
        f"Node 'node': its worker (process {first}) {died}",
        f"Node 'node': its worker was restarted as process {second}, which replaces process {first}",
        f"Node 'node': its worker (process {second}) {died}",
        f"Node 'node': its worker was restarted as process {last}, which replaces process {second}",
    ]
    assert (records[0].node_id, records[0].process_id, records[0].item_index) == ("node", first, 1)


@pytest.mark.parametrize("options", [{"concurrency": 2}, {"retries": 1}, {"batch": 2}], ids=str)
def test_the_item_in_work_is_logged_however_it_came(warnings, options):
    node = KillsOnALoop() if "concurrency" in options else KillsAtAnyItem()

    with in_worker(node, on_error="skip", **options).open() as session:
        list(session.map(["good", "good", "bad"]))

    assert {record.item_index for record in warnings() if hasattr(record, "item_index")} == {2}


def test_a_worker_that_is_lost_for_good_is_logged_as_such(warnings):
    with (
        pytest.raises(WorkerError),
        in_worker(faults.Kill(on=2), max_restarts=0).open() as session,
    ):
        session.call(2)

    [record] = warnings()
    assert record.getMessage().endswith("on item 0; it will not be restarted")


def test_a_worker_that_ends_in_order_is_not_logged(warnings):
    with in_worker(faults.Kill(on=2)).open() as session:
        session.call(1)

    assert warnings() == []


ABORTS = """
import os, pathlib
from remotemedia import Pipeline

class Aborts:
    def process(self, item):
        if item != {once!r} or not pathlib.Path("struck").exists():
            pathlib.Path("struck").touch()
            os.abort()
        return item

with Pipeline([Aborts()]).open(placement="process") as session:
    print(session.call({item!r}))
"""


@pytest.mark.parametrize("item", ["always", "once"])
def test_the_stack_of_a_worker_that_aborts_is_printed_once(item, tmp_path):
    program = ABORTS.format(item=item, once="once")

    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )

    assert completed.stderr.count("Fatal Python error: Aborted") == 1
    assert (completed.returncode, completed.stdout) == ((0, "once\n") if item == "once" else (1, ""))


def test_the_system_knows_a_worker_by_the_names_of_its_nodes():
    with Pipeline([Echo(), Echo()]).open(placement="process", enable_metrics=True) as session:
        session.call(1)
        [process] = session.metrics()["node_metrics"][0]["worker"]["process_ids"]
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        name = Path(f"/proc/{process}/comm").read_text()

    assert command.rstrip(b"\0") == b"remotemedia worker: Echo_0, Echo_1"
    assert name == "remotemedia wor\n"


def test_a_logged_traceback_reaches_the_parents_log(log, ask):
    ask("log_error")

    assert log.has_arrived.wait(10)
    assert "KeyError: 'lost'" in logging.Formatter().format(log.records[0])


def test_records_of_a_fork_of_a_worker_are_written_to_stderr(log, ask, capsys):
    assert ask("log_in_fork", "from a fork") == 0
    assert ask("log_and_print", "after it") is None

    assert log.has_arrived.wait(10)
    assert [record.getMessage() for record in log.records] == ["[node] log after it"]
    written = []
    assert wait_until(
        lambda: written.append(capsys.readouterr().err) or "log from a fork" in "".join(written)
    )
    assert "[node] INFO:worker.nodes:log from a fork" in "".join(written)


def test_extra_fields_of_any_type_reach_the_parents_log(log, ask):
    """Fields that were not plain data were omitted, so that formats with them failed."""
    ask("log_request")

    assert log.has_arrived.wait(10)
    [record] = log.records
    assert record.request == {"ids": [1, 2], "who": Point(1.0)}
    assert record.lock.startswith("<unlocked _thread.lock object")
    assert type(record.here).__name__ == "Local"
    assert logging.Formatter("%(message)s %(request)s").format(record).startswith("[node] with extra {'ids'")
