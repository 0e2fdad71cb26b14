"""Transport of items to a worker and back."""

from __future__ import annotations

import decimal
import subprocess
import sys
import threading
import types
from collections import OrderedDict, deque, namedtuple
from fractions import Fraction

import numpy as np
import pytest
import worker_nodes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from leftovers import nothing_remains
from worker_nodes import Call, Color, Echo, Pinned, Point, in_worker

from remotemedia.audio import AudioFrame
from remotemedia.exceptions import NodeError, SerializationError

LARGE = 16 * 1024


@pytest.fixture(scope="module", autouse=True)
def tidy():
    """Check after all tests here, because a worker keeps used memory for its next item."""
    with nothing_remains():
        yield


@pytest.fixture(scope="module")
def echo():
    """Send an item to a worker and back."""
    with in_worker(Echo()).open() as session:
        yield lambda item: session.call(item)[0]


@pytest.fixture(scope="module")
def ask():
    with in_worker(Call()).open() as session:
        yield lambda *question: session.call(question)[0]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
KEYS = st.integers() | st.text() | st.binary()
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.frozensets(KEYS)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_arrives_equal(echo, item):
    arrived = echo(item)

    assert arrived == item
    assert type(arrived) is type(item)


@given(st.integers(-(2**70), 2**70) | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1]))
def test_whole_numbers_of_any_size_arrive_equal(echo, item):
    assert echo(item) == item


@pytest.mark.parametrize(
    "item", ["\udc80", "é\0😀", "x" * LARGE, "😀" * LARGE, -0.0, float("inf"), True], ids=ascii
)
def test_odd_scalars_arrive_equal(echo, item):
    arrived = echo(item)

    assert repr(arrived) == repr(item)
    assert type(arrived) is type(item)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 3_000_001])
def test_bytes_of_all_sizes_arrive_equal(echo, kind, size):
    item = kind(np.random.default_rng(0).bytes(size))

    arrived = echo(item)

    assert arrived == item
    assert type(arrived) is kind


DTYPES = (
    arrays.scalar_dtypes()
    | arrays.unicode_string_dtypes()
    | arrays.byte_string_dtypes()
    | arrays.array_dtypes()
)
SLICES = st.sampled_from(
    [slice(None), slice(None, None, -1), slice(None, None, 2), slice(1, None), slice(0, 0)]
)


@st.composite
def strided(draw):
    """Arrays of all types, in C and in Fortran order, and views into them."""
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    array = draw(arrays.arrays(draw(DTYPES), shape))
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    array = array[tuple(draw(SLICES) for _ in range(array.ndim))]
    return array.T if draw(st.booleans()) else array


@given(strided())
def test_arrays_of_all_types_and_strides_arrive_equal(echo, array):
    arrived = echo(array)

    # The pickle of numpy itself converts dates and times to the byte order of the machine.
    assert arrived.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert arrived.shape == array.shape
    assert arrived.astype(array.dtype).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "f4", "c16", "M8[us]", "S3", [("a", "i4"), ("b", "f8", 3)]], ids=str)
@pytest.mark.parametrize("view", [lambda array: array, lambda array: array.T, lambda array: array[::2, ::-3]])
def test_large_arrays_arrive_equal(echo, dtype, view):
    size = 200 * 300 * np.dtype(dtype).itemsize
    array = view(np.frombuffer(np.random.default_rng(1).bytes(size), dtype).reshape(200, 300))

    arrived = echo(array)

    assert arrived.dtype == array.dtype
    assert arrived.shape == array.shape
    assert arrived.tobytes() == array.tobytes()


def test_the_order_of_a_large_array_stays(echo):
    assert echo(np.ones((200, 300), order="F")).flags.f_contiguous


def test_arrays_of_objects_arrive_equal(echo):
    item = np.array([Point(1.0), None, "text", {"a": [1]}], dtype=object)

    assert echo(item).tolist() == item.tolist()


def test_a_large_array_is_read_in_place_on_both_sides(echo, ask):
    array = np.arange(10_000.0)

    assert not ask("is_writeable", array)
    assert not echo(array).flags.writeable


def test_a_small_array_is_a_copy_that_may_be_written_to(echo, ask):
    array = np.arange(10.0)

    assert ask("is_writeable", array)
    assert echo(array).flags.writeable


def test_a_view_is_unchanged_while_other_items_arrive(echo):
    first = echo(np.full(100_000, 1.0))

    for value in range(2, 12):
        echo(np.full(100_000, float(value)))

    assert (first == 1.0).all()


def test_a_view_outlives_its_session():
    with in_worker(Echo()).open() as session:
        [arrived] = session.call(np.arange(100_000))

    assert arrived.sum() == np.arange(100_000).sum()


def test_writes_to_a_sent_item_do_not_reach_the_other_process(echo):
    array = np.zeros(100_000)

    arrived = echo(array)
    array += 1

    assert not arrived.any()


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - Another kind of class.


@pytest.mark.parametrize(
    "item",
    [
        Point(1.5, {"a": [Pinned(2.0)]}),
        Point(2.5, bytearray(b"x" * LARGE)),
        Pair(1, [2]),
        Color.RED,
        OrderedDict(b=1, a=2),
        deque([1, 2], maxlen=3),
        decimal.Decimal("1.10"),
        Fraction(1, 3),
        range(3),
        slice(1, None),
        {1, 2},
        ValueError("as an item"),
        np.float32(1.5),
        np.datetime64("2020-01-02"),
        memoryview,
        len,
        Point,
    ],
    ids=lambda item: str(type(item).__name__),
)
def test_objects_arrive_equal(echo, item):
    arrived = echo(item)

    assert repr(arrived) == repr(item)
    assert type(arrived) is type(item)


@pytest.mark.parametrize("samples", [100, 100_000])
def test_audio_arrives_equal(echo, samples):
    frame = AudioFrame(np.random.default_rng(2).random((samples, 2), dtype=np.float32), 16_000)

    arrived = echo(frame)

    assert type(arrived) is AudioFrame
    assert arrived.sample_rate == 16_000
    assert np.array_equal(arrived.samples, frame.samples)


def test_objects_shared_within_an_item_stay_shared(echo):
    shared = [1]

    first, second = echo((shared, shared))

    assert first is second


def test_an_item_that_contains_itself_arrives(echo):
    item = []
    item.append(item)

    arrived = echo(item)

    assert arrived[0] is arrived


def test_a_class_in_a_function_returns_as_the_same_class(echo):
    @worker_nodes.dataclasses.dataclass
    class Local:
        value: int

    arrived = [echo(Local(number)) for number in range(3)]

    assert arrived == [Local(0), Local(1), Local(2)]
    assert all(type(item) is Local for item in arrived)


def test_sending_leaves_a_class_unchanged(echo):
    class Local:
        count = 0

        def method(self):
            return self

    method = Local.method
    echo(Local())
    Local.count = 5
    echo(Local())

    assert Local.method is method
    assert Local.count == 5


def test_a_lambda_with_a_captured_value_arrives(echo):
    number = 41

    assert echo(lambda: number + 1)() == 42


def test_a_class_of_a_module_that_only_this_process_has_arrives(echo, monkeypatch):
    module = types.ModuleType("only_here_" + "x" * 8)
    exec("class Thing:\n    def __init__(self): self.value = 7", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    arrived = echo(module.Thing())

    assert type(arrived) is module.Thing
    assert arrived.value == 7


SCRIPT = """
import dataclasses, enum
from remotemedia import Node, Pipeline

LIMIT = 10

@dataclasses.dataclass
class Item:
    value: int
    def doubled(self):
        return Item(helper(self.value))

@dataclasses.dataclass(slots=True)
class Slim:
    value: int

class Kind(enum.Enum):
    A = 1

def helper(value):
    return min(value * 2, LIMIT)

class Double(Node):
    def process(self, item):
        return item if isinstance(item, (Kind, Slim)) else item.doubled()

if __name__ == "__main__":
    with Pipeline([Double()]).open(placement="process") as session:
        outputs = [session.call(item) for item in (Item(2), Item(8), Kind.A, Slim(3))]
        assert type(outputs[0]) is Item
        assert outputs[2] is Kind.A
        print(outputs)
"""


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_classes_of_a_script_cross(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable] + ([str(script)] if how == "file" else ["-"])

    completed = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, check=False, timeout=50)

    assert completed.stderr == ""
    assert completed.stdout == "[Item(value=4), Item(value=10), <Kind.A: 1>, Slim(value=3)]\n"


class Slotted:
    __slots__ = ("inner",)

    def __init__(self):
        self.inner = {"locks": [1, threading.Lock()]}


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (threading.Lock(), ""),
        ([1, {"a": threading.Lock()}], "[1]['a']"),
        (Point(1.0, threading.Lock()), "data"),
        (Slotted(), "inner['locks'][1]"),
        ([lock := threading.Lock(), lambda: lock], "[0]"),
    ],
    ids=["lock", "list", "attribute", "slots", "twice"],
)
def test_an_item_that_cannot_be_sent_fails_alone(echo, item, path):
    with echo_session() as session:
        with pytest.raises(NodeError) as caught:
            session.call(item)

        assert session.call(1) == [1]
    cause = caught.value.__cause__
    assert isinstance(cause, SerializationError)
    assert cause.attribute == path
    assert "cannot pickle '_thread.lock' object" in cause.reason


def echo_session():
    return in_worker(Echo()).open()


def test_an_output_that_cannot_be_sent_fails_alone(ask):
    with pytest.raises(NodeError) as caught:
        ask("make_lock")

    cause = caught.value.__cause__
    assert isinstance(cause, SerializationError)
    assert cause.attribute == "[0]"
    assert ask("is_writeable", np.ones(1))


class TakesTooMuch:
    def __reduce__(self):
        raise MemoryError("no room for it")


def test_an_item_too_large_to_pickle_raises_memory_error():
    """The error said that it was not serializable."""
    with in_worker(Echo()).open() as session, pytest.raises(NodeError) as caught:
        session.call(TakesTooMuch())

    assert (type(caught.value.__cause__), str(caught.value.__cause__)) == (MemoryError, "no room for it")
