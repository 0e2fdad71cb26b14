"""Conversion of values from JSON lines to nodes, and from nodes to JSON lines."""

from __future__ import annotations

import json

import pytest

LINES = [
    "18446744073709551615",
    "-9223372036854775809",
    "1" + "0" * 4000,
    '{"a": [[123456789012345678901], 1.5, "x"]}',
    "-0",
    "-0.0",
]


def test_numbers_arrive_as_python_reads_them(run, add):
    add("class Repr:\n    def process(self, item):\n        return repr(item)\npipeline = [Repr()]")

    done = run("run", "app.py", "-i", "-", "--format=jsonl", "--output-format=text", stdin="\n".join(LINES))

    assert done.stdout.splitlines() == [repr(json.loads(line)) for line in LINES], done.stderr


def test_an_integer_that_python_does_not_read_is_refused_with_its_place(run, add):
    add("pipeline = [Echo()]")

    done = run("run", "app.py", "-i", "-", "--format", "jsonl", stdin="1\n" + "9" * 5000)

    assert (done.returncode, done.stdout) == (1, "1\n")
    assert "input item 1 cannot be converted: ValueError: Exceeds the limit (4300 digits)" in done.stderr


def test_a_number_that_json_does_not_have_is_named(run, add):
    add("pipeline = [Echo()]")

    done = run("run", "app.py", "-i", "-", "--format", "jsonl", stdin='{"a": -Infinity}\n')

    assert done.returncode == 1
    assert "stdin, line 1: not JSON: -Infinity at column 7; JSON has no such number" in done.stderr


VALUES = """
import collections, datetime, decimal, enum, pathlib, types, uuid
import numpy as np

class Color(enum.Enum):
    RED = "red"

class Level(enum.IntEnum):
    LOW = 1

class Name(str, enum.Enum):
    A = "a"

class Number(int):
    def __repr__(self):
        return "a number"

@dataclass
class Words:
    when: datetime.date
    inner: tuple
"""

WRITTEN = [
    ("2 ** 64", "18446744073709551616"),
    ("Number(-(10 ** 30))", "-" + "1" + "0" * 30),
    ("datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)", '"2024-05-06T07:08:09+00:00"'),
    ("datetime.date(2024, 5, 6)", '"2024-05-06"'),
    ("datetime.time(7, 8)", '"07:08:00"'),
    ("datetime.timedelta(minutes=1.5)", "90.0"),
    ("decimal.Decimal('1.10')", '"1.10"'),
    ("uuid.UUID(int=1)", '"00000000-0000-0000-0000-000000000001"'),
    ("[Color.RED, Level.LOW, Name.A]", '["red",1,"a"]'),
    ("pathlib.Path('a/b')", '"a/b"'),
    ("[b'fo', bytearray(b'foo'), memoryview(b'f')]", '["Zm8=","Zm9v","Zg=="]'),
    ("b'foo'", '"Zm9v"'),
    ("Words(datetime.date(2024, 5, 6), (1, b'f'))", '{"when":"2024-05-06","inner":[1,"Zg=="]}'),
    ("{3, 1, 2}", "[1,2,3]"),
    ("frozenset({'b', 'a'})", '["a","b"]'),
    ("types.MappingProxyType({'a': range(2)})", '{"a":[0,1]}'),
    ("collections.deque([1])", "[1]"),
    ("{1: 'a', True and 2.5: 'b', None: 'c', False: 'd'}", '{"1":"a","2.5":"b","null":"c","false":"d"}'),
    ("{Level.LOW: 1, Color.RED: 2, Name.A: 3, np.int64(7): 4}", '{"1":1,"red":2,"a":3,"7":4}'),
    ("{uuid.UUID(int=1): 1, datetime.date(2024, 5, 6): 2}",
     '{"00000000-0000-0000-0000-000000000001":1,"2024-05-06":2}'),
    ("[np.int8(1), np.uint64(2 ** 64 - 1), np.float32(0.5), np.bool_(False), np.str_('s')]",
     '[1,18446744073709551615,0.5,false,"s"]'),
    ("np.array([[1, 2], [3, 4]], 'u1')", "[[1,2],[3,4]]"),
    ("np.array(5)", "5"),
    ("[np.datetime64('2024-05-06T07:08:09.123456789'), np.timedelta64(1500, 'ms')]",
     '["2024-05-06T07:08:09.123456789",1.5]'),
    ("np.array(['2024-05-06'], 'M8[D]')", '["2024-05-06"]'),
]  # fmt: skip


def test_outputs_are_written_as_one_would_expect(run, add, tmp_path):
    add(VALUES + "class Values:\n    def process(self):\n")
    add("".join(f"        yield {expression}\n" for expression, _ in WRITTEN) + "pipeline = [Values()]")

    done = run("run", "app.py")

    assert done.stdout.splitlines() == [written for _, written in WRITTEN], done.stderr


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("{'a': [1j]}", 'output["a"][0] is of type complex, which cannot be written'),
        ("np.complex64(1)", "output is of type numpy.complex64, which cannot be written"),
        ("{(1, 2): 3}", "output is a dict with a key of type tuple, which cannot be written"),
        ("[{1: 2, '1': 3}]", "output[0] is a dict with keys that differ in Python but not in JSON"),
        ("10 ** 5000", "output is an int with more digits than Python converts to text"),
    ],
    ids=lambda text: text[:20],
)
def test_an_output_that_cannot_be_written_is_one_clear_error(run, add, expression, error):
    add(
        VALUES
        + f"class Values:\n    def process(self, item):\n        return {expression}\npipeline = [Values()]"
    )

    done = run("run", "app.py")

    assert (done.returncode, done.stdout) == (1, "")
    assert error in done.stderr
    assert "Traceback" not in done.stderr
