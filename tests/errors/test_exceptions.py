"""The exceptions: their types, attributes and pickles."""

from __future__ import annotations

import copy
import pickle

import pytest

from remotemedia import exceptions
from remotemedia._errors import combine, node_error, throw
from remotemedia.exceptions import (
    ManifestError,
    NodeError,
    NodeTimeoutError,
    PipelineError,
    RemoteMediaError,
    SerializationError,
    WorkerError,
)

FIELDS = {"node_id": "calc_0", "item_index": 3, "phase": "flush"}
ERRORS = [
    PipelineError("bad"),
    ManifestError("bad", path="nodes[0]", line=4),
    NodeError("bad", **FIELDS),
    NodeTimeoutError("bad", **FIELDS),
    WorkerError("bad", **FIELDS),
    SerializationError(node_name="n", attribute="a.b", reason="r", suggestion="s"),
]


class CustomError(NodeError):
    def __init__(self, *, code):
        super().__init__("custom", node_id="n")
        self.code = code


@pytest.mark.parametrize("error", [*ERRORS, CustomError(code=7)], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "send",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_arrives_with_all_that_it_has(error, send):
    error.__cause__ = ValueError("cause")
    error.add_note("a note")

    arrived = send(error)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert repr(arrived.__cause__) == "ValueError('cause')"


def test_a_cause_that_does_not_travel_stays_behind():
    class UnsendableError(Exception):
        pass

    error = NodeError("bad", **FIELDS)
    error.__cause__ = UnsendableError()

    arrived = pickle.loads(pickle.dumps(error))

    assert arrived.__cause__ is None
    assert arrived.node_id == "calc_0"


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (PipelineError, ValueError),
        (ManifestError, PipelineError),
        (NodeError, RuntimeError),
        (NodeTimeoutError, NodeError),
        (NodeTimeoutError, TimeoutError),
        (WorkerError, NodeError),
        (SerializationError, TypeError),
    ],
)
def test_each_error_has_the_base_classes_that_a_caller_expects(kind, also):
    assert issubclass(kind, also)
    assert issubclass(kind, RemoteMediaError)


def test_all_names_every_error():
    assert set(exceptions.__all__) == {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


class TestNodeError:
    def test_the_message_has_both_texts(self):
        error = node_error("double", 3, "process", ValueError("bad value"))

        assert str(error) == "Node 'double' failed in process() on item 3: ValueError: bad value"
        assert (error.node_id, error.item_index, error.phase) == ("double", 3, "process")
        assert repr(error.__cause__) == "ValueError('bad value')"

    def test_outside_of_items_no_item_is_named(self):
        assert (
            str(node_error("a", None, "cleanup", KeyError("k")))
            == "Node 'a' failed in cleanup(): KeyError: 'k'"
        )

    def test_an_error_without_text_has_its_type(self):
        assert str(node_error("a", None, "flush", ValueError())) == "Node 'a' failed in flush(): ValueError"

    def test_an_error_without_a_text_is_described_by_its_type(self):
        class MuteError(Exception):
            def __str__(self):
                raise ValueError

        assert str(node_error("a", None, "flush", MuteError())) == "Node 'a' failed in flush(): MuteError"


class TestCombine:
    def test_no_failures_combine_to_none(self):
        assert combine(None, []) is None

    def test_the_later_failure_has_the_earlier_in_its_context(self):
        first = node_error("a", 0, "process", ValueError())
        cleanup = node_error("a", None, "cleanup", KeyError())

        combined = combine(first, [cleanup])

        assert combined is cleanup
        assert cleanup.__context__ is first
        assert cleanup.__cause__.__context__ is first

    def test_cleanups_chain_in_the_order_in_which_they_failed(self):
        cleanups = [node_error(name, None, "cleanup", KeyError()) for name in "ba"]

        assert combine(None, cleanups) is cleanups[1]
        assert cleanups[1].__context__ is cleanups[0]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_an_order_to_stop_stays_on_top(self, kind):
        stop = kind()
        cleanup = node_error("a", None, "cleanup", KeyError())

        assert combine(stop, [cleanup]) is stop
        assert stop.__context__ is cleanup

    def test_a_keyboard_interrupt_in_cleanup_replaces_the_error(self):
        first = node_error("a", 0, "process", ValueError())
        stop = KeyboardInterrupt()

        assert combine(first, [stop]) is stop
        assert stop.__context__ is first

    def test_one_exception_raised_twice_makes_no_circle(self):
        original = ValueError()
        first = node_error("a", 0, "process", original)
        cleanup = node_error("a", None, "cleanup", original)

        assert combine(first, [cleanup]) is cleanup
        assert cleanup.__context__ is first
        assert original.__context__ is None

    def test_the_context_of_a_cleanup_error_stays_in_the_chain(self):
        inner = KeyError()
        own = ValueError()
        inner.__context__ = own
        first = node_error("a", 0, "process", ValueError())

        combine(first, [node_error("a", None, "cleanup", inner)])

        assert inner.__context__ is own
        assert own.__context__ is first

    def test_the_exception_that_the_caller_handles_stays_the_context_of_both(self):
        """Both errors had it as their context, and the first of them was lost."""
        handled = OSError()
        first = node_error("a", 0, "process", ValueError())
        cleanup = node_error("a", None, "cleanup", KeyError())
        first.__context__ = cleanup.__context__ = handled

        combine(first, [cleanup])

        assert cleanup.__context__ is first
        assert first.__context__ is handled


def test_throw_keeps_the_context_inside_a_handler():
    error = NodeError("bad")
    error.__context__ = earlier = NodeError("earlier")

    handled = OSError()

    try:
        raise handled
    except OSError:
        with pytest.raises(NodeError) as caught:
            throw(error)

    assert caught.value.__context__ is earlier
    assert earlier.__context__ is handled
