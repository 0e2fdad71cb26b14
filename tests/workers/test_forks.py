"""Forks of a process with open sessions: in the child they are closed, in the parent they continue."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from remotemedia import Node, Pipeline
from remotemedia.exceptions import SessionClosedError

LONGEST_SECS = 10
"""The seconds after which a signal ends a fork that hangs."""

PLACEMENTS = ["inline", "thread", "process"]


class Squares(Node):
    def process(self, item):
        return item * item


class Counts(Node):
    """Returns large arrays."""

    def process(self, item):
        return np.full(100_000, item)


def squares(placement, **options):
    return Pipeline("p").add_node(Squares(), placement=placement, **options)


def in_fork(work):
    """Run something in a fork of this process; return its exit code."""
    child = os.fork()
    if child == 0:
        signal.alarm(LONGEST_SECS)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    "use",
    [
        lambda session: session.call(2),
        lambda session: session.put(2),
        lambda session: list(session.map([2])),
        lambda session: next(iter(session)),
    ],
    ids=["call", "put", "map", "iterate"],
)
def test_a_session_is_closed_in_a_fork(placement, use):
    def work():
        with pytest.raises(SessionClosedError):
            use(session)
        assert session.interrupt() == 0
        session.drain()
        session.close()

    with squares(placement).open() as session:
        assert session.call(3) == 9

        assert in_fork(work) == 0
        assert session.call(4) == 16
        assert list(session.map(range(3))) == [0, 1, 4]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_fork_that_drops_a_session_does_not_change_it(placement):
    def work():
        nonlocal session
        del session
        gc.collect()

    with squares(placement).open() as session:
        assert in_fork(work) == 0
        assert session.call(4) == 16


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_fork_opens_sessions_of_its_own(placement):
    def work():
        with squares(placement).open() as own:
            assert own.call(5) == 25

    with squares(placement).open() as session:
        assert in_fork(work) == 0
        assert session.call(4) == 16


def test_a_pool_of_processes_works_beside_a_session():
    with squares("process").open() as session, multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert session.call(4) == 16


def test_an_array_that_a_fork_drops_is_unchanged_in_the_parent():
    def work():
        nonlocal array
        del array
        gc.collect()

    with Pipeline("p").add_node(Counts(), placement="process").open() as session:
        array = session.call(1)
        assert in_fork(work) == 0

        # One of the next replies would use its memory.
        for number in range(2, 10):
            session.call(number)
        assert (array == 1).all()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_fork_that_exits_normally_prints_nothing(placement):
    program = f"""
        import os, sys
        from remotemedia import Pipeline
        from remotemedia.nodes import PassThroughNode

        with Pipeline("p").add_node(PassThroughNode(), placement={placement!r}).open() as session:
            child = os.fork()
            if child == 0:
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), session.call("still here"))
    """

    done = subprocess.run(
        # From Python 3.12 on, a fork beside threads warns.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("7 still here\n", "", 0)
