"""All failures between a program and its workers: none hangs, and each error names the cause."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_cases import UNSENT, in_word, outcome_of
from leftovers import nothing_remains

from remotemedia import Node, Pipeline

PARENT = os.getpid()
# Restarts count for a short time only, so that none has to wait.
TIRELESS = {"max_restarts": 1000, "restart_window": 0.001}
CODE = 3


def crash():
    ctypes.string_at(0)


def leave():
    sys.exit(CODE)


def c_exit():
    ctypes.CDLL(None).exit(CODE)


def error():
    raise RuntimeError("struck")


CAUSES = {
    crash: "`WorkerError`: SIGSEGV",
    leave: "`SystemExit`",
    c_exit: "`WorkerError`: exited with code 3",
    error: "`NodeError` from `RuntimeError`",
}


class AtPickle:
    """Fails while it is pickled."""

    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        self.what()
        return str, ("pickled",)


class AtUnpickle:
    """Fails while it is unpickled, in any process but this one."""

    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return fail_beyond, (PARENT, self.what)


def fail_beyond(parent, what):
    if os.getpid() != parent:
        what()
    return "unpickled"


class Strikes(Node):
    """Fails as an item, `(where, what)`, defines."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def process(self, item):
        where, what = item
        if where == "pickle":
            return AtPickle(what)
        if where == "call":
            what()
        if where == "callback":
            self.callback(what)
        return where


def call_back(what):
    what()


PLACES = {
    "pickle": lambda what: ("pickle", what),
    "unpickle": lambda what: (AtUnpickle(what), what),
    "call": lambda what: ("call", what),
    "callback": lambda what: ("callback", what),
}


def outcomes(pipeline, workers):
    """Return the outcomes of all combinations, as many at once as there are workers."""
    with pipeline.open() as session, ThreadPoolExecutor(workers) as callers:

        def outcome(combination):
            where, what = combination
            found = in_word(outcome_of(session, PLACES[where](what)))
            assert session.call(("fine", None)) == "fine", combination
            return (where, what.__name__), found

        return dict(callers.map(outcome, itertools.product(PLACES, CAUSES)))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long), 5])
def test_every_cause_is_named_at_every_point(workers):
    pipeline = Pipeline("p").add_node(
        Strikes(call_back), id="fault", placement="process", replicas=workers, **TIRELESS
    )

    with nothing_remains():
        found = outcomes(pipeline, workers)

    expected = {(where, what.__name__): text for where in PLACES for what, text in CAUSES.items()}
    expected |= {("pickle", "error"): UNSENT, ("unpickle", "error"): UNSENT}
    assert found == expected


@pytest.mark.parametrize(("what", "raised"), [(leave, SystemExit), (error, RuntimeError)])
def test_an_item_that_fails_where_it_is_pickled_here_is_an_error_of_its_own(what, raised):
    with Pipeline("p").add_node(Strikes(call_back), id="fault", placement="process").open() as session:
        outcome = outcome_of(session, (AtPickle(what), None))
        after = session.call(("fine", None))

    assert isinstance(outcome, raised) or isinstance(outcome.__cause__, raised)
    assert after == "fine"
