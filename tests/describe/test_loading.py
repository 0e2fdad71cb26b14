"""Targets of the command line, and the reports of errors in the user's code."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import pytest

from remotemedia._cli.error_report import explain
from remotemedia._cli.errors import LoadError, TargetError, Terminated
from remotemedia._cli.loading import load
from remotemedia.exceptions import NodeError

FORMS = "give module:attr, path/file.py:attr or a manifest file (.json, .yaml)"
NODE = """
class Twice:
    def process(self, number):
        return 2 * number
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into an empty current directory; modules imported from there are removed afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    yield write
    for name in set(sys.modules) - before:
        if not name.startswith("remotemedia"):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "definition",
    [
        "pipeline = [Twice()]",
        "def pipeline(): return [Twice()]",
        "import functools\npipeline = functools.partial(list, [Twice()])",
    ],
)
def test_every_kind_of_pipeline_is_found(write, definition):
    write("app.py", NODE + definition)

    graph = load("app.py:pipeline")

    assert [entry.node_type for entry in graph.entries] == ["Twice"]


def test_the_attribute_pipeline_is_the_default(write):
    write("app.py", NODE + "pipeline = [Twice()]")

    assert load("app.py").entries[0].node is load("app").entries[0].node


def test_a_dotted_attribute_is_followed(write):
    write("app.py", NODE + "class Settings:\n    chain = [Twice()]")

    assert len(load("app:Settings.chain").entries) == 1


def test_a_file_imports_its_neighbours(write):
    write("apps/nodes.py", NODE)
    write("apps/app.py", "from nodes import Twice\npipeline = [Twice()]")

    assert len(load("apps/app.py:pipeline").entries) == 1


def test_a_class_of_a_file_pickles_by_reference(write):
    write("app.py", NODE + "pipeline = [Twice()]")

    node = load("app.py:pipeline").entries[0].node

    assert type(pickle.loads(pickle.dumps(node))) is type(node)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("app.py:pipelin", "'app.py' has no attribute 'pipelin'; did you mean 'pipeline'?"),
        ("app.py:Twice.proces.x", "'app.py:Twice' has no attribute 'proces'; did you mean 'process'?"),
        ("other.py", "'other.py' has no attribute 'pipeline'; name another one, such as other.py:chain"),
        ("names.py", "'names.py' has no attribute 'pipeline'; name another one, such as names.py:attr"),
        (".", f"'.' is a directory; {FORMS}"),
        ("folder", f"'folder' is a directory; {FORMS}"),
        ("latin.yaml", "'latin.yaml' is not UTF-8 text"),
        ("ap.py:pipeline", "file 'ap.py' does not exist; did you mean 'app.py'?"),
        ("nowhere/app.py:pipeline", "directory 'nowhere' does not exist"),
        (
            "app.py:Twice",
            "'app.py:Twice' is the class Twice, not a pipeline; put an instance into a list: [Twice(…)]",
        ),
        (
            "app.py:needs",
            "'app.py:needs' must be callable without arguments: missing a required argument: 'count'",
        ),
        (
            ":pipeline",
            f"':pipeline' does not name a module; {FORMS}",
        ),
        (
            "app.py:sys",
            "'app.py:sys': A pipeline must be a Pipeline, a list of nodes or a manifest, not a module",
        ),
    ],
)
def test_the_error_for_a_wrong_target_says_what_to_do(write, target, message):
    write("app.py", NODE + "import sys\ndef needs(count): ...\npipeline = [Twice()]")
    write("other.py", NODE + "chain = [Twice()]")
    write("names.py", "names = []")
    write("folder/notes.txt", "")
    Path("latin.yaml").write_bytes(b"name: caf\xe9")

    with pytest.raises(TargetError) as caught:
        load(target)

    assert str(caught.value) == message


@pytest.mark.usefixtures("write")
def test_a_missing_module_is_a_wrong_target():
    with pytest.raises(
        TargetError, match="no module named 'absent_module' in .* or among the installed packages$"
    ):
        load("absent_module:pipeline")


def test_a_module_that_is_nearly_a_file_here_is_hinted_at(write):
    write("recordings.py", NODE)

    with pytest.raises(
        TargetError, match=" or among the installed packages; did you mean 'recordings.py'\\?$"
    ):
        load("recording:pipeline")


def test_a_file_named_like_an_imported_module_is_refused(write):
    write("pickle.py", NODE + "pipeline = [Twice()]")

    with pytest.raises(TargetError, match="rename the file"):
        load("pickle.py:pipeline")


def test_an_import_error_shows_the_users_line_alone(write):
    path = write("app.py", "import absent_module\n")

    report = explained(lambda: load("app.py:pipeline"))

    assert report.kind == "failed"
    assert report.users_traceback.splitlines()[1:3] == [
        f'  File "{path}", line 1, in <module>',
        "    import absent_module",
    ]
    assert report.users_traceback.count("  File ") == 1
    assert report.message.startswith(
        "'app.py' cannot be imported: ModuleNotFoundError: No module named 'absent_module'"
    )
    assert report.message.endswith("-m pip install absent_module (app.py, line 1)")
    assert "importlib" in report.full_traceback


def test_the_report_of_a_syntax_error_shows_its_line(write):
    write("app.py", "x = 1\ndef f(:\n")

    report = explained(lambda: load("app.py:pipeline"))

    assert report.message == "'app.py' cannot be imported: SyntaxError: invalid syntax (app.py, line 2)"
    assert report.users_traceback.splitlines()[1:] == [
        "    def f(:",
        "          ^",
        "SyntaxError: invalid syntax",
    ]


def test_the_error_for_a_failing_factory_names_its_line(write):
    write("app.py", "def make():\n    return 1 / 0\n")

    report = explained(lambda: load("app.py:make"))

    assert report.message == "'app.py:make' raised ZeroDivisionError: division by zero (app.py, line 2)"


def test_a_cleanup_that_fails_does_not_hide_the_earlier_error(write, monkeypatch):
    write("app.py", "def fail(text):\n    raise ValueError(text)\n")
    monkeypatch.syspath_prepend(".")
    fail = importlib.import_module("app").fail
    first, last = node_error(fail, "first", "process"), node_error(fail, "last", "cleanup")
    last.__context__ = first

    report = explain(last)

    assert report.message == "first failed (app.py, line 2)\nlast failed (app.py, line 2)"
    assert report.users_traceback.count("ValueError: ") == 2


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (Terminated(143), "terminated", 143),
        (SystemExit(3), "exit", 3),
        (SystemExit(), "exit", 0),
        (SystemExit("no model"), "exit", 1),
    ],
)
def test_orders_to_stop_keep_their_exit_code(error, kind, code):
    report = explain(error)

    assert (report.kind, report.exit_code, report.users_traceback) == (kind, code, "")


def explained(work):
    with pytest.raises(LoadError) as caught:
        work()
    return explain(caught.value)


def node_error(fail, text, phase):
    error = NodeError(f"{text} failed", node_id=text, phase=phase)
    try:
        fail(text)
    except ValueError as cause:
        error.__cause__ = cause
    return error
