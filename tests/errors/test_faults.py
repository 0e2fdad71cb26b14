"""Every kind of failure of a node, on every placement."""

from __future__ import annotations

import re
import subprocess
import sys

import fault_cases
import pytest
from fault_cases import ALL, ENDS, MARKS, PAGE, observe, table
from leftovers import is_running, nothing_remains, wait_until

from remotemedia import Pipeline
from remotemedia.exceptions import WorkerError
from remotemedia.testing import faults

PLACEMENTS = ("inline", "thread", "process")


def outcome(case, placement, directory):
    if not case.is_fatal(placement):
        return observe(case, placement, directory)
    command = [sys.executable, fault_cases.__file__, case.name, placement, str(directory)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    return ENDS if completed.returncode else completed.stdout.strip()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_the_outcome_is_that_of_the_table(case, placement, tmp_path):
    with nothing_remains():
        assert outcome(case, placement, tmp_path) == getattr(case, placement)


def test_the_page_shows_the_table():
    """Write it again with `python tests/support/cases/fault_cases.py`."""
    [shown] = re.findall("(.*)".join(MARKS), PAGE.read_text(encoding="utf-8"), re.DOTALL)

    assert shown == table()


@pytest.mark.parametrize("fault", [faults.ForkChild(), faults.StartProcess()], ids=["fork", "start"])
def test_processes_of_a_node_end_with_its_worker(fault):
    with Pipeline("p").add_node(fault, placement="process").open() as session:
        child = session.call(3)
        was_there = is_running(child)

    assert was_there
    wait_until(lambda: not is_running(child))


def test_processes_of_a_node_end_when_its_worker_is_killed():
    nodes = [faults.StartProcess(on=1), faults.Kill(on=2)]

    with Pipeline(nodes).open(placement="process") as session:
        child = session.call(1)
        with pytest.raises(WorkerError):
            session.call(2)
        wait_until(lambda: not is_running(child))


def test_every_fault_is_in_the_table():
    shown = {re.match(r"\w+", case.written)[0] for case in ALL}

    assert shown == set(faults.__all__) - {"Fault"}


def test_a_fault_strikes_once_if_requested(tmp_path):
    fault = faults.Raise(on="x", once=tmp_path / "struck")

    with pytest.raises(ValueError, match="^fault injected on 'x'$"):
        fault.process("x")

    assert fault.process("x") == "x"


def test_a_fault_counts_if_requested():
    fault = faults.Raise(nth=2, error=KeyError("the third"))

    passed = [fault.process("a"), fault.process("b")]

    assert passed == ["a", "b"]
    with pytest.raises(KeyError, match="the third"):
        fault.process("c")


def test_a_fault_in_cleanup_spares_a_node_that_is_cleaned_up_before_it_is_sent():
    fault = faults.Raise(phase="cleanup")

    fault.cleanup()
    fault.initialize()

    with pytest.raises(ValueError, match="^fault injected on None$"):
        fault.cleanup()


def test_an_unknown_phase_is_refused():
    with pytest.raises(
        ValueError, match="^phase must be one of initialize, process, flush, cleanup, not 'end'$"
    ):
        faults.Raise(phase="end")
