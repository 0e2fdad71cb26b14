"""Unusual exceptions: each arrives unchanged, and the error names the right item.

A class of exceptions may refuse attributes, or raise whenever it is inspected.
"""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._cli.error_report import explain
from remotemedia._errors import combine
from remotemedia.exceptions import NodeError

LONG = 300
CULPRIT = 150


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class RefusingError(Exception):
    """Accepts no attributes."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


class SlottedError(Exception):
    __slots__ = ("code",)


class UninspectableError(Exception):
    """Every method that inspects it raises."""

    def _refuse(self, *_arguments):
        raise AssertionError("this must not be inspected")

    __str__ = __repr__ = __bool__ = __eq__ = __hash__ = _refuse


class UntrueError(Exception):
    def __bool__(self):
        return False


class ShadowingError(Exception):
    """Defines attributes with the names of the interpreter's."""

    __cause__ = __context__ = __traceback__ = property(lambda _: None)
    __notes__ = property(lambda _: None)

    def add_note(self, note):
        raise TypeError(note)


KINDS = [FrozenError, RefusingError, SlottedError, UninspectableError, UntrueError, ShadowingError]


class Strict:
    def __init__(self, error):
        self.error = error

    def process(self, item):
        if item == CULPRIT:
            raise self.error
        return item


class StrictLater(Strict):
    async def process(self, item):
        return super().process(item)


@pytest.fixture(params=KINDS)
def error(request):
    return request.param(7)


def assert_names(failed, error, index=CULPRIT):
    assert failed.__cause__ is error
    assert failed.item_index == index


@pytest.mark.parametrize("node", [Strict, StrictLater])
@pytest.mark.parametrize("first", [0, CULPRIT])
def test_a_run_names_the_item(run, error, node, first):
    with pytest.raises(NodeError) as caught:
        run([node(error)], range(first, LONG))

    assert_names(caught.value, error, CULPRIT - first)


@pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
def test_a_session_names_the_item(error, options):
    with Pipeline([Strict(error)]).open(**options) as session, pytest.raises(NodeError) as caught:
        list(session.map(list(range(LONG))))

    assert_names(caught.value, error)


def test_an_async_session_names_the_item(error):
    async def main():
        async with Pipeline([Strict(error)]).open() as session:
            await session.call(CULPRIT)

    with pytest.raises(NodeError) as caught:
        asyncio.run(main())

    assert_names(caught.value, error, 0)


@pytest.mark.parametrize("kind", [FrozenError, UntrueError, ShadowingError])
def test_it_arrives_from_a_worker_with_its_cause(kind):
    class Chaining:
        def process(self, item):
            raise kind(7) from kind(8)

    with pytest.raises(NodeError) as caught:
        asyncio.run(execute_pipeline_with_input([with_options(Chaining(), placement="process")], [1]))

    arrived = caught.value.__cause__
    assert (type(arrived), arrived.args) == (kind, (7,))
    assert BaseException.__dict__["__cause__"].__get__(arrived).args == (8,)


def test_one_from_a_worker_has_the_trace_as_a_note():
    class Failing:
        def process(self, item):
            raise FrozenError(item)

    with pytest.raises(NodeError) as caught:
        asyncio.run(execute_pipeline_with_input([with_options(Failing(), placement="process")], [1]))

    assert "in process" in caught.value.__cause__.__notes__[0]


@pytest.mark.parametrize("options", [{"retries": 1, "retry_delay": 0.0}, {"batch": 2}])
def test_policies_pass_it_on(run, error, options):
    class Failing:
        def process(self, item):
            raise error

    letters = []
    run([with_options(Failing(), on_error=lambda item, failed: letters.append(failed), **options)], [1, 2])

    assert [letter.__cause__ is error for letter in letters] == [True, True]


def test_one_of_a_group_arrives(run, error):
    group = ExceptionGroup("several", [error, ValueError("other")])
    with pytest.raises(NodeError) as caught:
        run([Strict(group)], [CULPRIT])

    assert caught.value.__cause__.exceptions[0] is error


def test_one_of_cleanup_has_the_earlier_in_its_context(run, error):
    class FailingTwice(Strict):
        def cleanup(self):
            raise error

    with pytest.raises(NodeError) as caught:
        run([FailingTwice(ValueError("first"))], [CULPRIT])

    assert caught.value.phase == "cleanup"
    assert str(caught.value.__context__.__cause__) == "first"


@pytest.mark.parametrize("kind", KINDS)
def test_the_context_of_an_error_is_kept(kind):
    first, later = kind(1), kind(2)

    assert combine(first, [later]) is later
    assert BaseException.__dict__["__context__"].__get__(later) is first


def test_one_that_leaves_a_managed_block_is_itself(error):
    async def main():
        try:
            async with Pipeline([Strict(None)]).managed_execution():
                raise error  # noqa: TRY301 - It has to leave the block.
        except Exception as caught:  # noqa: BLE001 - Not what pytest makes of it.
            return caught is error

    assert asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_reports_it(kind):
    failed = NodeError("Node 'x' failed", node_id="x", item_index=0, phase="process")
    failed.__cause__ = kind(7)

    report = explain(failed)

    assert (report.exit_code, report.message) == (1, "Node 'x' failed")
    assert explain(kind(7)).exit_code == 1


def test_the_command_line_ends_with_one(tmp_path):
    (tmp_path / "app.py").write_text(
        "import dataclasses\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class FrozenError(Exception):\n"
        "    code: int\n"
        "class Odd:\n"
        "    @property\n"
        "    def process(self):\n"
        "        raise FrozenError(7)\n"
        "pipeline = [Odd()]\n"
    )
    command = [sys.executable, "-m", "remotemedia", "check", "app.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "Frozen" in done.stderr
    assert "FrozenInstanceError" not in done.stderr
