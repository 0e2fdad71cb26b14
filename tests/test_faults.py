"""Every way in which a node can fail, in every place where a node can be."""

from __future__ import annotations

import re
import subprocess
import sys

import fault_cases
import pytest
from fault_cases import ALL, ENDS, MARKS, PAGE, observe, table
from leftovers import nothing_left_behind

PLACEMENTS = ("inline", "thread")


def outcome(case, placement, directory):
    if not case.is_fatal(placement):
        return observe(case, placement, directory)
    command = [sys.executable, fault_cases.__file__, case.name, placement, str(directory)]
    went = subprocess.run(command, capture_output=True, text=True, check=False)
    return ENDS if went.returncode else went.stdout.strip()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_what_comes_out(case, placement, tmp_path):
    with nothing_left_behind():
        assert outcome(case, placement, tmp_path) == getattr(case, placement)


def test_the_page_shows_the_table():
    """Write it anew with `python tests/fault_cases.py`."""
    [shown] = re.findall("(.*)".join(MARKS), PAGE.read_text(encoding="utf-8"), re.DOTALL)

    assert shown == table()
