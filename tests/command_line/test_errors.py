"""Error messages and exit codes of commands."""

from __future__ import annotations

import pytest


def test_input_for_a_source_is_wrong_use(run, add):
    add("pipeline = [Endless()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\n")

    assert (done.returncode, done.stdout) == (2, "")
    assert "is a source, which produces the input; remove --input" in done.stderr


def test_broken_input_ends_the_run_after_the_earlier_items(run, add, tmp_path):
    (tmp_path / "items.jsonl").write_text("1\n{broken\n3\n")
    add("pipeline = [Witness()]")

    done = run("run", "app.py:pipeline", "--input", "items.jsonl")

    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr.startswith("initialized\ncleaned up\n")
    assert "items.jsonl" in done.stderr


def test_a_failing_node_shows_the_users_frames_and_a_sentence(run, add, tmp_path):
    add("pipeline = [Number()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\nx\n")

    assert (done.returncode, done.stdout) == (1, "1\n")
    frames = [line for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert frames == [f'  File "{tmp_path}/app.py", line 24, in process']
    assert (
        "Node 'Number_0' failed in process() on item 1: ValueError: "
        "invalid literal for int() with base 10: 'x' (app.py, line 24)"
    ) in done.stderr


def test_text_for_a_node_of_numbers_hints_at_json(run, add):
    add("from remotemedia.nodes import CalculatorNode")
    add("pipeline = [CalculatorNode('add', 1)]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\n")

    hint = "The items were lines of text; use --format jsonl to read each line as a JSON value"
    assert hint in done.stderr.splitlines()
    assert run("run", "app.py:pipeline", "--input", "-", "--format=jsonl", stdin="1\n").stdout == "2\n"


def test_a_node_that_misses_its_item_hints_at_the_input(run, add):
    add("class Rate:\n    def process(self, item):\n        return item['rate']\npipeline = [Rate()]")

    done = run("run", "app.py:pipeline")

    assert (
        "Without --input, the pipeline received one empty item; use --input FILE to read items" in done.stderr
    )


@pytest.mark.parametrize(
    ("place", "reason"), [("nowhere/x.jsonl", "No such file or directory"), (".", "Is a directory")]
)
def test_the_error_for_an_output_that_cannot_be_opened_names_the_reason(run, add, place, reason):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input=-", f"--output={place}", "--output-format=text")

    assert done.stderr.splitlines()[0].endswith(f": cannot write to {place}: {reason}")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{'a': [1, object()]}", 'output["a"][1] is of type object, which cannot be written; let the last'),
        ("[items := [], items.append(items)][0]", "nested more than 200 levels deep, or contains itself"),
        ("float('nan')", "NaN"),
    ],
)
def test_the_error_for_an_output_that_cannot_be_written_explains_it(run, add, expression, message):
    add("pipeline = [Evaluate()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin=expression)

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_an_error_without_the_users_code_has_no_traceback_to_show(run, tmp_path):
    (tmp_path / "empty.yaml").write_text("version: v1\n")

    done = run("run", "empty.yaml")

    [line] = done.stderr.splitlines()
    assert line.endswith(": 'empty.yaml': Line 1, nodes: missing; add the list of nodes")


def test_a_node_that_cannot_be_sent_is_reported_in_a_few_lines(run, add):
    """The whole traceback inside cloudpickle was shown, although it was not requested."""
    add("import threading, remotemedia\nnode = Upper()\nnode.lock = threading.Lock()")
    add("pipeline = [remotemedia.with_options(node, placement='process')]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="x\n")

    message, suggestion, reason = done.stderr.splitlines()
    assert message.endswith("Cannot serialize Node 'Upper': attribute 'lock' is not serializable.")
    assert suggestion.startswith("Suggestion: ")
    assert reason.startswith("Reason: ")


def test_frames_of_libraries_are_not_shown(run, add):
    add("import json\nclass Read:\n    process = lambda self, text: json.loads(text)\npipeline = [Read()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="x\n")

    assert done.stderr.count("  File ") == 1
    assert "in <lambda>" in done.stderr


def test_the_whole_traceback_is_shown_on_demand(run, add):
    add("pipeline = [Number()]")

    done = run("run", "app.py:pipeline", "--input", "-", "--traceback", stdin="x\n")

    assert "remotemedia.exceptions.NodeError: Node 'Number_0' failed" in done.stderr


def test_exit_in_a_node_is_the_exit_code(run, add):
    add("pipeline = [Quit()]")

    assert run("run", "app.py:pipeline", "--input", "-", stdin="1\n").returncode == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("check", "app.py:good"), 0),
        (("check", "app.py:empty"), 1),
        (("check", "app.py:absent"), 1),
        (("check", "nowhere.py:pipeline"), 1),
        (("check",), 2),
        (("run", "app.py:absent"), 2),
        (("run", "nowhere.py:pipeline"), 2),
        (("run", "app.py:good", "--input", "absent.txt"), 2),
        (("graph", "app.py:good"), 0),
        (("nodes",), 0),
        (("nodes", "NoSuchNode"), 2),
        (("unknown",), 2),
        ((), 2),
    ],
)
def test_exit_codes_distinguish_outcomes(run, add, words, code):
    add("good = [Upper()]\nempty = []")

    done = run(*words)

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


LENIENT = """
from remotemedia import with_options
import remotemedia

class Picky:
    def process(self, text):
        if text.startswith("bad"):
            raise ValueError(text)
        return text

class AsyncPicky(Picky):
    async def process(self, text):
        return super().process(text)

def keep(item, error):
    print("kept", item)
"""

PLACES = {
    "inline": "[with_options(Picky(), on_error='skip')]",
    "async": "[with_options(AsyncPicky(), on_error='skip', concurrency=2)]",
    "thread": "[with_options(Picky(), on_error='skip', placement='thread')]",
    "worker": "[with_options(Picky(), on_error='skip', placement='process')]",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_end_says_how_many_items_were_skipped_and_why(run, add, place):
    add(f"{LENIENT}\npipeline = {PLACES[place]}")

    done = run("run", "app.py", "-i", "-", stdin="a\nbad 1\nb\nbad 2\n")

    assert (done.returncode, done.stdout) == (0, '"a"\n"b"\n')
    node = "AsyncPicky_0" if place == "async" else "Picky_0"
    first = f"Node '{node}' failed in process() on item 1: ValueError: bad 1"
    assert done.stderr.startswith(f"2 items skipped; the first error: {first}")
    assert len(done.stderr.splitlines()) == 1


def test_dead_letters_are_counted_apart(run, add):
    add(f"{LENIENT}\nnodes = [Picky(), Picky()]")
    add("pipeline = [with_options(nodes[0], dead_letter=keep), with_options(nodes[1], on_error='skip')]")

    done = run("run", "app.py", "-i", "-", stdin="bad 1\na\n")

    assert done.stderr.splitlines()[0] == "kept bad 1"
    assert done.stderr.splitlines()[1].startswith(
        "1 item dead-lettered; the first error: Node 'Picky_0' failed"
    )


@pytest.mark.parametrize(
    ("place", "limit", "code"),
    [("inline", 0, 1), ("inline", 2, 0), ("async", 1, 1), ("thread", 1, 1), ("worker", 1, 1)],
)
def test_more_errors_than_allowed_fail_the_run(run, add, place, limit, code):
    add(f"{LENIENT}\npipeline = {PLACES[place]}")

    done = run("run", "app.py", "-i", "-", "--max-errors", str(limit), stdin="a\nbad 1\nb\nbad 2\nc\n")

    assert done.returncode == code, done.stderr
    assert (f"ValueError: bad {limit + 1}" in done.stderr) == (code == 1)
    assert ("--max-errors allows " in done.stderr) == (code == 1)


def test_the_table_of_metrics_counts_errors(run, add):
    add(f"{LENIENT}\npipeline = {PLACES['inline']}")

    done = run("run", "app.py", "-i", "-", "--metrics", stdin="a\nbad 1\nbad 2\n")

    lines = done.stderr.splitlines()
    assert "3 items in, 1 out, 2 failed, 2 skipped, " in lines[2]
    heading, row = lines[4].split(), lines[5].split()
    assert row[heading.index("ERRORS")] == "2"
