"""Classes and functions of a script, which cross by value."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAD = """
import collections, functools, io, threading, typing
from remotemedia import Pipeline

def run(node, *items):
    with Pipeline([node]).open(placement="process") as session:
        return [session.call(item) for item in items]

"""


@pytest.fixture
def run_script(tmp_path):
    """Run a script, which ends in checks of its own, and answer what it prints."""

    def run_script(text):
        script = tmp_path / "script.py"
        script.write_text(HEAD + text)
        went = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=50
        )
        assert went.stderr == ""
        return went.stdout.splitlines()

    return run_script


NAMED_TUPLES = """
class Typed(typing.NamedTuple):
    first: int
    second: str = "x"

Number = typing.TypeVar("Number")

class Generic(typing.NamedTuple, typing.Generic[Number]):
    first: Number

class Slotted(Typed):
    __slots__ = ()

    def double(self):
        return self.first * 2

Called = typing.NamedTuple("Called", [("first", int)])
Plain = collections.namedtuple("Plain", ["first"])
KINDS = [Typed, Generic, Slotted, Called, Plain]

class Make:
    def __init__(self, kinds):
        self.kept = [kind(1) for kind in kinds]

    def process(self, item):
        return item, type(item)(2), self.kept[KINDS.index(type(item))]

for kind, got in zip(KINDS, run(Make(KINDS), *[kind(3) for kind in KINDS])):
    print([type(one) is kind for one in got], [one.first for one in got], repr(got[0]))
print(run(Make(KINDS), Slotted(4))[0][1].double())
"""


def test_named_tuples_of_a_script_cross_both_ways(run_script):
    """`typing.NamedTuple` refuses a class that says its `__slots__`."""
    *told, doubled = run_script(NAMED_TUPLES)

    cross = "[True, True, True] [3, 2, 1]"
    assert told == [
        f"{cross} Typed(first=3, second='x')",
        f"{cross} Generic(first=3)",
        f"{cross} Slotted(first=3, second='x')",
        f"{cross} Called(first=3)",
        f"{cross} Plain(first=3)",
    ]
    assert doubled == "4"
