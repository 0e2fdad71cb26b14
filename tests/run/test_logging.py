"""Records of a run on the logger `remotemedia`: with DEBUG its whole flow, else nothing for each item."""

from __future__ import annotations

import logging
import re

import pytest

from remotemedia import Pipeline
from remotemedia.exceptions import NodeError
from remotemedia.nodes import PassThroughNode

DURATION = re.compile(r" in \d+ us$")


class Lines(logging.Handler):
    """Keeps the lines of the records, without the durations."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def lines(self):
        return [DURATION.sub("", record.getMessage()) for record in self.records]


@pytest.fixture
def use_rust():
    """The reference executor logs nothing."""
    return True


@pytest.fixture
def debug():
    """Listen to DEBUG."""
    with listening(logging.DEBUG) as handler:
        yield handler


class listening:  # noqa: N801 - A context manager.
    def __init__(self, level):
        self.logger = logging.getLogger("remotemedia")
        self.level = level
        self.handler = Lines()

    def __enter__(self):
        self.before = self.logger.level
        self.logger.setLevel(self.level)
        self.logger.addHandler(self.handler)
        return self.handler

    def __exit__(self, *_error):
        self.logger.setLevel(self.before)
        self.logger.removeHandler(self.handler)


class Full:
    """Has all methods."""

    def __init__(self, name):
        self.name = name

    def initialize(self): ...

    def process(self, item):
        return item

    def flush(self):
        return "rest"

    def cleanup(self): ...


class Splitting:
    name = "split"

    def process(self, item):
        yield from (item, item)


class Dropping:
    name = "drop"

    async def process(self, item):
        return None


class Failing:
    name = "fail"

    def process(self, item):
        raise ValueError("bad item")


def test_debug_shows_plan_stages_steps_and_cleanup(run, debug):
    run(Pipeline([Full("a"), Full("b")], name="voice"), ["x", "y"])

    assert debug.lines() == [
        "pipeline 'voice': plan of 2 nodes: a_0, b_1",
        "stage 1 (inline): a_0, b_1",
        "node 'a_0': initialize",
        "node 'b_1': initialize",
        "node 'a_0': process item 0",
        "node 'b_1': process item 0",
        "node 'a_0': process item 1",
        "node 'b_1': process item 1",
        "node 'a_0': flush",
        "node 'b_1': process item 1",
        "node 'b_1': flush",
        "node 'b_1': cleanup",
        "node 'a_0': cleanup",
    ]


def test_each_step_has_its_duration(run, debug):
    run([Full("a")], [1])

    steps = [record.getMessage() for record in debug.records if record.getMessage().startswith("node")]
    assert all(DURATION.search(step) for step in steps)


def test_records_are_ordinary_ones(run, debug):
    run([Full("a")], [1])

    assert {(record.name, record.levelno) for record in debug.records} == {("remotemedia", logging.DEBUG)}


def test_a_generator_is_logged_once_when_it_has_ended(run, debug):
    run([Splitting(), PassThroughNode(name="end")], ["x"])

    assert [line for line in debug.lines() if "process" in line] == [
        "node 'end_1': process item 0",
        "node 'end_1': process item 0",
        "node 'split_0': process item 0",
    ]


def test_a_dropped_item_reaches_no_further_node(run, debug):
    run([Dropping(), Full("a")], ["x"])

    assert [line for line in debug.lines() if "item" in line] == ["node 'drop_0': process item 0"]


def test_the_step_that_failed_is_logged(run, debug):
    with pytest.raises(NodeError):
        run([PassThroughNode(name="a"), Failing()], ["x"])

    assert [line for line in debug.lines() if "item" in line] == [
        "node 'a_0': process item 0",
        "node 'fail_1': process item 0",
    ]


def test_a_text_with_percent_signs_is_logged_unchanged(run, debug):
    run(Pipeline("100 %s").add_node(Full("%d"), id="50%"), [1])

    assert "pipeline '100 %s': plan of 1 nodes: 50%" in debug.lines()
    assert "node '50%': process item 0" in debug.lines()


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
def test_without_debug_nothing_is_logged(run, level):
    with listening(level) as handler:
        run([Full("a"), Splitting(), Dropping()], range(100))

    assert handler.records == []


def test_the_level_of_the_root_applies_if_ours_is_not_set(run):
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    try:
        with listening(logging.NOTSET) as handler:
            run([Full("a")], [1])
    finally:
        root.setLevel(before)

    assert "node 'a_0': process item 0" in handler.lines()


def test_a_handler_that_fails_does_not_stop_the_run(run, debug, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def fail(_record):
        debug.handleError(_record)

    debug.emit = fail

    assert run([Full("a")], [1]) == [1, "rest"]
