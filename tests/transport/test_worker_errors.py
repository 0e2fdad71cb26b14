"""Transport of exceptions from a worker."""

from __future__ import annotations

import linecache
import pickle
import threading
import types

import pytest
import worker_nodes
from worker_nodes import Raise, RaiseInCoroutine, WithKeywordError, in_worker

from remotemedia._errors import CallTimeoutError, Located, lost_error, node_error
from remotemedia._workers.pickling_errors import UnsentError, pack_error, unpack_error
from remotemedia.exceptions import NodeError, NodeTimeoutError, WorkerError


@pytest.fixture(scope="module")
def session():
    with in_worker(Raise()).open() as session:
        yield session


def cross(session, raised):
    """Return what a node in a worker raised, as it arrives."""
    with pytest.raises(NodeError) as caught:
        session.call(raised)
    return caught.value.__cause__


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        KeyError("key"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "reason"),
        StopIteration(3),
        StopAsyncIteration(),
        RecursionError("deep"),
        MemoryError(),
        AssertionError(),
        Exception(),
        NotImplementedError("é😀"),
    ],
    ids=repr,
)
def test_an_exception_arrives_as_itself(session, error):
    arrived = cross(session, error)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args


def test_arguments_that_only_init_takes_do_not_matter(session):
    arrived = cross(session, "with_keyword")

    assert type(arrived) is WithKeywordError
    assert (arrived.args, arrived.code) == (("text",), 7)


def test_cause_and_context_arrive(session):
    arrived = cross(session, "chained")

    assert isinstance(arrived, FileNotFoundError)
    assert isinstance(arrived.__cause__, ValueError)
    assert arrived.__suppress_context__
    assert isinstance(arrived.__cause__.__context__, KeyError)
    assert not arrived.__cause__.__suppress_context__


def test_a_circle_of_exceptions_arrives(session):
    arrived = cross(session, "circle")

    assert arrived.__context__.__context__ is arrived


def test_a_long_chain_arrives_in_part():
    error = ValueError(0)
    for number in range(1, 5000):
        later = ValueError(number)
        later.__context__ = error
        error = later

    arrived = unpack_error(pack_error(error), "node")

    assert arrived.args == (4999,)
    assert arrived.__context__.__context__.args == (4997,)


def test_a_group_arrives_with_its_members(session):
    arrived = cross(session, "grouped")

    assert [type(member) for member in arrived.exceptions] == [ValueError, OSError]


def test_the_traceback_arrives_as_a_note(session):
    [note] = cross(session, "chained").__notes__

    first, place, code = note.split("\n")
    assert first == "In the worker of node 'node':"
    assert "worker_nodes.py" in place
    assert "in process" in place
    assert "raise item" in code


def test_the_notes_of_the_user_stay(session):
    error = ValueError("text")
    error.add_note("mine")

    assert cross(session, error).__notes__[0] == "mine"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("WithLockError", "cannot pickle '_thread.lock' object"),
        ("ExitsOnArrivalError", "SystemExit: 4"),
    ],
)
def test_an_exception_that_cannot_be_sent_is_described(session, error, reason):
    arrived = cross(session, error)

    assert type(arrived) is UnsentError
    assert arrived.type_name == error
    assert reason in arrived.reason
    assert str(arrived).startswith(error)


@pytest.mark.parametrize(
    "error",
    ["ReducesToOtherError", "ReducesToExitError", "ReducesForEverError", "StateRaisesError", "NoTextError"],
)
def test_an_exception_that_does_not_pickle_arrives_by_its_parts(session, error):
    assert type(cross(session, error)) is getattr(worker_nodes, error)


def test_a_class_that_only_the_worker_has_is_described():
    class GoneError(Exception):
        pass

    worker_nodes.GoneError = GoneError
    GoneError.__module__, GoneError.__qualname__ = "worker_nodes", "GoneError"
    packed = pack_error(GoneError("text"))
    del worker_nodes.GoneError

    arrived = unpack_error(packed, "node")

    assert str(arrived).startswith("GoneError: text (described here")


def test_a_class_in_a_function_returns_as_the_same_class(session):
    class LocalError(Exception):
        pass

    assert type(cross(session, LocalError("text"))) is LocalError


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_an_order_to_stop_passes_as_itself(error):
    with in_worker(Raise()).open() as session, pytest.raises(type(error)) as caught:
        session.call(error)

    assert caught.value.args == error.args


def test_the_worker_lives_on(session):
    for _ in range(3):
        cross(session, "WithLockError")

    assert isinstance(cross(session, ValueError("text")), ValueError)
    assert session.metrics() is None


def test_an_exception_of_a_coroutine_arrives_without_frames_of_ours():
    with in_worker(RaiseInCoroutine()).open() as session:
        [note] = cross(session, ValueError("text")).__notes__

    assert note.count("File") == 1


def test_a_timeout_of_a_coroutine_crosses():
    arrived = unpack_error(pack_error(CallTimeoutError(1.5)), "node")

    error = node_error("node", 3, "process", Located("inner", "process", arrived))

    assert isinstance(error, NodeTimeoutError)
    assert str(error) == "Node 'inner' took longer than 1.5 s in process() on item 3"


class TestLostWorkers:
    def lost(self, **loss):
        located = lost_error("node", "process", **{"stderr": "", "restarts": 0, "is_final": False, **loss})
        return node_error("first", 3, "flush", located)

    @pytest.mark.parametrize(
        ("loss", "text", "signal", "exit_code"),
        [
            ({"signal_number": 11}, "its worker was killed by SIGSEGV", "SIGSEGV", None),
            ({"signal_number": 50}, "its worker was killed by signal 50", "signal 50", None),
            ({"exit_code": 3}, "its worker exited with code 3", None, 3),
            ({"exit_code": 0}, "its worker exited with code 0", None, 0),
            ({"not_started": "no memory"}, "its worker could not be started: no memory", None, None),
        ],
    )
    def test_the_error_says_how_the_worker_ended(self, loss, text, signal, exit_code):
        error = self.lost(**loss)

        assert type(error) is WorkerError
        assert str(error) == f"Node 'node' failed in process() on item 3: {text}"
        assert (error.node_id, error.item_index, error.phase) == ("node", 3, "process")
        assert (error.signal, error.exit_code) == (signal, exit_code)

    def test_the_error_contains_the_end_of_its_stderr(self):
        error = self.lost(signal_number=11, stderr="Fatal\nCurrent thread")

        assert str(error).endswith("SIGSEGV\nIts last lines on stderr:\nFatal\nCurrent thread")
        assert error.stderr == "Fatal\nCurrent thread"

    def test_the_last_error_contains_the_number_of_restarts(self):
        error = self.lost(exit_code=1, restarts=3, is_final=True)

        assert str(error).endswith("exited with code 1, after 3 restarts")

    def test_a_call_that_took_too_long_is_a_timeout(self):
        error = self.lost(timeout=0.5)

        assert type(error) is NodeTimeoutError
        assert str(error) == "Node 'node' took longer than 0.5 s in process() on item 3"

    def test_the_error_pickles(self):
        error = self.lost(signal_number=9, stderr="last")

        copy = pickle.loads(pickle.dumps(error))

        assert (str(copy), copy.signal, copy.stderr) == (str(error), "SIGKILL", "last")


class CodeError(Exception):
    def __init__(self, message, *, code):
        super().__init__(message)
        self.code = code


class HoldsLockError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class NamedGroup(ExceptionGroup):
    def __new__(cls, message, members, name):
        self = super().__new__(cls, message, members)
        self.name = name
        return self

    def derive(self, members):
        return NamedGroup(self.message, members, self.name)


class RefusingGroup(ExceptionGroup):
    def __reduce__(self):
        raise TypeError("never")


def crossed(error):
    return unpack_error(pack_error(error), "node")


def test_a_member_that_cannot_be_sent_leaves_the_others_of_its_group_alone():
    arrived = crossed(ExceptionGroup("many", [ValueError("a"), HoldsLockError("b"), CodeError("c", code=7)]))

    assert (type(arrived), arrived.message) == (ExceptionGroup, "many")
    assert [type(member) for member in arrived.exceptions] == [ValueError, UnsentError, CodeError]
    assert str(arrived.exceptions[1]).startswith("HoldsLockError: b (described here, because")
    assert arrived.exceptions[2].code == 7


def test_groups_cross_at_any_depth_as_cause_and_as_context():
    shared = CodeError("c", code=7)
    inner = ExceptionGroup("inner", [shared, HoldsLockError("b")])
    inner.exceptions[1].__cause__ = ExceptionGroup("cause", [KeyError("k"), HoldsLockError("d")])
    outer = ValueError("outer")
    outer.__context__ = ExceptionGroup("middle", [inner, shared])

    middle = crossed(outer).__context__

    assert middle.exceptions[0].exceptions[0] is middle.exceptions[1]
    assert middle.exceptions[1].code == 7
    cause = middle.exceptions[0].exceptions[1].__cause__
    assert [type(member) for member in cause.exceptions] == [KeyError, UnsentError]


def test_a_group_of_the_users_keeps_its_class_and_attributes():
    group = NamedGroup("many", [HoldsLockError("b"), ValueError("a")], "name")
    group.add_note("mine")

    arrived = crossed(group)

    assert (type(arrived), arrived.name, arrived.__notes__) == (NamedGroup, "name", ["mine"])
    assert arrived.split(ValueError)[0].name == "name"


def test_attributes_of_a_group_that_cannot_be_sent_are_dropped_but_members_are_not():
    group = RefusingGroup("many", [ValueError("a")])
    group.lock = threading.Lock()

    arrived = crossed(group)

    assert (type(arrived), str(arrived.exceptions[0])) == (RefusingGroup, "a")


def test_members_have_the_traceback_of_the_worker(session):
    arrived = cross(session, "grouped_with_traceback")

    [note] = arrived.exceptions[0].__notes__
    assert "in raise_member" in note


def test_members_beyond_the_limit_are_counted():
    arrived = crossed(ExceptionGroup("many", [ValueError(number) for number in range(1500)]))

    assert arrived.exceptions[998].args == (998,)
    assert arrived.exceptions[-1].type_name == "501 more exceptions"


CELL = """
class FromCell:
    def process(self, item):
        raise ValueError("no file has this")  # so it is
"""


def test_tracebacks_show_lines_of_code_that_is_in_no_file(monkeypatch):
    monkeypatch.setitem(linecache.cache, "<cell 7>", (len(CELL), None, CELL.splitlines(True), "<cell 7>"))
    module = types.ModuleType("__main__")
    exec(compile(CELL, "<cell 7>", "exec"), vars(module))

    with in_worker(module.FromCell()).open() as session:
        [note] = cross(session, 1).__notes__

    assert note.splitlines()[1:] == [
        '  File "<cell 7>", line 4, in process',
        '    raise ValueError("no file has this")  # so it is',
    ]
