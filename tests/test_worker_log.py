"""What nodes log in a worker."""

from __future__ import annotations

import logging
import os
import threading

import pytest
from leftovers import wait_until
from worker_nodes import Call, Point, in_worker


@pytest.fixture
def ask():
    with in_worker(Call()).open() as session:
        yield lambda *question: session.call(question)[0]


class Collector(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []
        self.has_come = threading.Event()

    def emit(self, record):
        self.records.append(record)
        self.has_come.set()


@pytest.fixture
def log():
    logger = logging.getLogger("worker.nodes")
    handler = Collector()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_what_a_node_logs_reaches_the_parents_log(log, ask):
    ask("log_and_print", "hello")

    assert log.has_come.wait(10)
    [record] = log.records
    assert record.getMessage() == "[node] log hello"
    assert (record.levelno, record.node_id, record.key) == (logging.INFO, "node", 7)
    assert record.funcName == "log_and_print"
    assert record.process != os.getpid()


def test_a_logged_traceback_reaches_the_parents_log(log, ask):
    ask("log_error")

    assert log.has_come.wait(10)
    assert "KeyError: 'lost'" in logging.Formatter().format(log.records[0])


def test_what_a_fork_of_a_worker_logs_is_written_out(log, ask, capsys):
    assert ask("log_in_fork", "from a fork") == 0
    assert ask("log_and_print", "after it") is None

    assert log.has_come.wait(10)
    assert [record.getMessage() for record in log.records] == ["[node] log after it"]
    written = []
    assert wait_until(
        lambda: written.append(capsys.readouterr().err) or "log from a fork" in "".join(written)
    )
    assert "[node] INFO:worker.nodes:log from a fork" in "".join(written)


def test_extra_fields_of_any_type_reach_the_parents_log(log, ask):
    """Those that were no plain data were left out, so that formats with them failed."""
    ask("log_request")

    assert log.has_come.wait(10)
    [record] = log.records
    assert record.request == {"ids": [1, 2], "who": Point(1.0)}
    assert record.lock.startswith("<unlocked _thread.lock object")
    assert type(record.here).__name__ == "Local"
    assert logging.Formatter("%(message)s %(request)s").format(record).startswith("[node] with extra {'ids'")
