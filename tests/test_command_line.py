"""`remotemedia-host` and `python -m remotemedia`: the same words, streams, signals and exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))
PROGRAMS = {"host": [str(HOST)], "wheel": [sys.executable, "-m", "remotemedia"]}

APP = """
import asyncio, os, signal, sys, time
from dataclasses import dataclass

class Upper:
    def process(self, text):
        return text.upper()

class Echo:
    def process(self, item):
        return item

class Number:
    def process(self, text):
        return int(text)

class Witness:
    def initialize(self):
        print("initialized", file=sys.stderr, flush=True)

    def process(self, item):
        return item

    def cleanup(self):
        print("cleaned up", file=sys.stderr, flush=True)

class Sleeper(Witness):
    def process(self, item):
        print("sleeping", file=sys.stderr, flush=True)
        time.sleep(60)

class Waiter(Witness):
    async def process(self, item):
        print("sleeping", file=sys.stderr, flush=True)
        await asyncio.sleep(60)

class Loud:
    def process(self, item):
        print("a line of the node's own")
        return item

class Endless:
    def process(self):
        count = 0
        while True:
            yield count
            count += 1

class Quit:
    def process(self, item):
        sys.exit(3)

class Shape:
    def process(self, frame):
        return [*frame.samples.shape, frame.sample_rate, round(frame.start, 3), float(frame.samples[0, 0])]

@dataclass
class Word:
    text: str
    start: float

class Evaluate:
    def process(self, text):
        import numpy
        return eval(text)
"""


@pytest.fixture(params=PROGRAMS)
def program(request, tmp_path, monkeypatch):
    """The words that start a program, in a directory with `app.py`."""
    if request.param == "host" and not HOST.exists():
        pytest.skip("build it with: cargo build --package remotemedia-host")
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    return PROGRAMS[request.param]


@pytest.fixture
def add(tmp_path):
    """Add lines to `app.py`."""

    def add(lines: str) -> None:
        with (tmp_path / "app.py").open("a") as app:
            app.write(f"\n{lines}\n")

    return add


@pytest.fixture
def run(program):
    """Run a command to its end."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *words], input=stdin, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def start(program):
    """Start a command that is to be spoken to."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*program, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_until(stream, last: str) -> list[str]:
    """Read lines until one is `last`."""
    lines = []
    while not lines or lines[-1] != last:
        assert select.select([stream], [], [], 20)[0], f"{last!r} does not come after {lines}"
        line = stream.readline()
        assert line, f"{last!r} does not come after {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def write_wav(path: Path, samples: bytes) -> None:
    """Write a recording of two channels."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples)


def test_text_lines_become_json_lines(run, add):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="one\ntwo\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, '"ONE"\n"TWO"\n', "")


def test_json_lines_keep_their_values(run, add, tmp_path):
    values = [None, True, -(2**63), 1.5, "ä", [1, [2]], {"a": {"b": []}}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    add("pipeline = [Echo()]")

    done = run("run", "app.py:pipeline", "--input", "items.jsonl")

    # None is no output: that item is filtered out.
    assert [json.loads(line) for line in done.stdout.splitlines()] == values[1:]


def test_a_recording_arrives_as_audio_frames(run, add, tmp_path):
    write_wav(tmp_path / "tone.wav", struct.pack("<hh", 16384, -16384) * 400)
    add("pipeline = [Shape()]")

    done = run("run", "app.py:pipeline", "--input", "tone.wav", "--chunk-ms", "20")

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [160, 2, 8000, 0.0, 0.5],
        [160, 2, 8000, 0.02, 0.5],
        [80, 2, 8000, 0.04, 0.5],
    ]


def test_no_progress_runs_over_what_is_being_typed(program, add):
    add("pipeline = [Upper()]")
    ours, terminal = pty.openpty()
    words = [*program, "run", "app.py:pipeline", "--input", "-"]
    with subprocess.Popen(
        words, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, text=True
    ) as process:
        os.write(ours, b"one\n")
        assert process.stdout.readline() == '"ONE"\n'
        os.write(ours, b"\x04")

    assert process.returncode == 0
    shown = os.read(ours, 4096).decode().splitlines()
    os.close(ours)
    os.close(terminal)
    assert sorted(shown) == ["one", "reading items from the terminal; Ctrl-D ends the input"]


def test_outputs_appear_while_the_input_is_open(start, add):
    add("pipeline = [Upper()]")
    process = start("run", "app.py:pipeline", "--input", "-")

    process.stdin.write("one\n")
    first = lines_until(process.stdout, '"ONE"')
    process.stdin.write("two\n")
    second = lines_until(process.stdout, '"TWO"')

    assert (first, second, process.poll()) == (['"ONE"'], ['"TWO"'], None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("node", ["Witness", "Sleeper", "Waiter"])
def test_a_signal_cleans_up_and_has_its_exit_code(start, add, number, node):
    add(f"pipeline = [{node}()]")
    process = start("run", "app.py:pipeline", "--input", "-")
    lines_until(process.stderr, "initialized")
    if node != "Witness":
        process.stdin.write("item\n")
        lines_until(process.stderr, "sleeping")

    process.send_signal(number)

    lines_until(process.stderr, "cleaned up")
    assert process.wait(20) == 128 + number
    assert "Traceback" not in process.stderr.read()


def test_a_signal_interrupts_a_write_that_nobody_reads(start, add):
    add("pipeline = [Endless(), Witness()]")
    process = start("run", "app.py:pipeline")
    lines_until(process.stderr, "initialized")
    # The pipe is full when its reader has not read for long enough that nothing more arrives in it.
    wait_until_asleep(process.pid)

    process.send_signal(signal.SIGINT)

    lines_until(process.stderr, "cleaned up")
    assert process.wait(20) == 130


def wait_until_asleep(pid: int) -> None:
    """Wait until the process has used no processor time for a while."""
    import time

    used = -1
    while used != (
        used := sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    ):
        time.sleep(0.2)


def test_a_handler_of_the_users_own_is_kept(start, add):
    add(
        "def stop(number, frame):\n"
        "    print('the handler ran', file=sys.stderr, flush=True)\n"
        "    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pipeline = [Witness()]"
    )
    process = start("run", "app.py:pipeline", "--input", "-")
    lines_until(process.stderr, "initialized")

    process.send_signal(signal.SIGTERM)

    lines_until(process.stderr, "the handler ran")
    lines_until(process.stderr, "cleaned up")
    assert process.wait(20) == 130


def test_a_reader_that_goes_away_ends_the_run_quietly(start, add):
    add("pipeline = [Endless(), Witness()]")
    process = start("run", "app.py:pipeline")
    lines_until(process.stdout, "0")

    process.stdout.close()

    assert lines_until(process.stderr, "cleaned up") == ["initialized", "cleaned up"]
    assert process.stderr.read() == ""
    assert process.wait(20) == 0


def test_input_for_a_source_is_wrong_use(run, add):
    add("pipeline = [Endless()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\n")

    assert (done.returncode, done.stdout) == (2, "")
    assert "makes its input itself; leave --input out" in done.stderr


def test_broken_input_ends_the_run_after_what_came_before(run, add, tmp_path):
    (tmp_path / "items.jsonl").write_text("1\n{broken\n3\n")
    add("pipeline = [Witness()]")

    done = run("run", "app.py:pipeline", "--input", "items.jsonl")

    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr.startswith("initialized\ncleaned up\n")
    assert "items.jsonl" in done.stderr


def test_what_nodes_print_does_not_mix_with_outputs(run, add):
    add("pipeline = [Loud()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="one\n")

    assert (done.stdout, done.stderr) == ('"one"\n', "a line of the node's own\n")


def test_a_failing_node_shows_the_users_frames_and_a_sentence(run, add, tmp_path):
    add("pipeline = [Number()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\nx\n")

    assert (done.returncode, done.stdout) == (1, "1\n")
    frames = [line for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert frames == [f'  File "{tmp_path}/app.py", line 15, in process']
    assert (
        "Node 'Number_0' failed in process() on item 1: ValueError: "
        "invalid literal for int() with base 10: 'x' (app.py, line 15)"
    ) in done.stderr


def test_text_for_a_node_of_numbers_hints_at_json(run, add):
    add("from remotemedia.nodes import CalculatorNode")
    add("pipeline = [CalculatorNode('add', 1)]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="1\n")

    hint = "The items were lines of text; --format jsonl reads each line as a JSON value"
    assert hint in done.stderr.splitlines()
    assert run("run", "app.py:pipeline", "--input", "-", "--format=jsonl", stdin="1\n").stdout == "2\n"


def test_a_node_that_misses_its_item_hints_at_the_input(run, add):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline")

    assert "No --input was given, so one empty item went in; --input FILE reads items" in done.stderr


@pytest.mark.parametrize(
    ("place", "reason"), [("nowhere/x.jsonl", "No such file or directory"), (".", "Is a directory")]
)
def test_an_output_that_cannot_be_opened_says_why(run, add, place, reason):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input=-", f"--output={place}", "--output-format=text")

    assert done.stderr.splitlines()[0].endswith(f": cannot write to {place}: {reason}")


def test_an_error_without_the_users_code_has_no_traceback_to_show(run, tmp_path):
    (tmp_path / "empty.yaml").write_text("version: v1\n")

    done = run("run", "empty.yaml")

    [line] = done.stderr.splitlines()
    assert line.endswith(": 'empty.yaml': Line 1, nodes: missing; a manifest lists its nodes")


def test_a_node_that_cannot_be_sent_is_told_in_a_few_lines(run, add):
    """The whole traceback inside cloudpickle was shown, though nobody had asked for it."""
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
    ("expression", "written"),
    [
        ("Word('go', 1.5)", '{"text":"go","start":1.5}'),
        ("(1, [2.5, None])", "[1,[2.5,null]]"),
        ("numpy.float32(1.5)", "1.5"),
        ("numpy.bool_(True)", "true"),
        ("numpy.arange(4).reshape(2, 2)", "[[0,1],[2,3]]"),
        ("-(2 ** 63)", "-9223372036854775808"),
    ],
)
def test_outputs_are_written_by_what_they_are(run, add, expression, written):
    add("pipeline = [Evaluate()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin=expression)

    assert (done.returncode, done.stdout) == (0, written + "\n"), done.stderr


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{'a': [1, object()]}", 'output["a"][1] is of type object, which cannot be written; let the last'),
        ("{1, 2}", "output is of type set, which cannot be written"),
        ("2 ** 63", "output is an int of more than 64 bits, which cannot be written; return it as a str"),
        ("{1: 2}", "output is a dict with a key that is no str; make each key a str"),
        ("[items := [], items.append(items)][0]", "nested more than 200 levels deep, or contains itself"),
        ("numpy.datetime64('2020-01-01')", "output is of type numpy.datetime64, which cannot be written"),
        ("float('nan')", "NaN"),
    ],
)
def test_an_output_that_cannot_be_written_says_what_it_is(run, add, expression, message):
    add("pipeline = [Evaluate()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin=expression)

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_bytes_are_written_raw(run, add, tmp_path):
    add("pipeline = [Evaluate()]")

    done = run(
        "run", "app.py:pipeline", "--input", "-", "--output", "out.raw", stdin="bytearray(b'ab')\nb'c'\n"
    )

    assert (done.returncode, (tmp_path / "out.raw").read_bytes()) == (0, b"abc"), done.stderr


def test_audio_comes_out_as_it_went_in(run, add, tmp_path):
    samples = struct.pack("<hhhh", 16384, -16384, 0, 32767) * 100
    write_wav(tmp_path / "in.wav", samples)
    add("pipeline = [Echo()]")

    done = run(
        *("run", "app.py:pipeline", "--input", "in.wav"),
        *("--output", "out.wav", "--sample-format", "s16le"),
    )

    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.readframes(1000)) == (2, 8000, samples)


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
def test_exit_codes_tell_what_happened(run, add, words, code):
    add("good = [Upper()]\nempty = []")

    done = run(*words)

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_manifest_runs_like_the_nodes_it_names(run, tmp_path):
    (tmp_path / "chain.yaml").write_text(
        "version: v1\n"
        "metadata: {name: chain}\n"
        "nodes:\n"
        "  - {id: add, node_type: CalculatorNode, params: {operation: add, operand: 10}}\n"
    )
    (tmp_path / "items.jsonl").write_text("1\n2\n")

    done = run("run", "chain.yaml", "--input", "items.jsonl")

    assert (done.returncode, done.stdout) == (0, "11\n12\n"), done.stderr


def test_the_registry_is_told_with_parameters(run):
    done = run("nodes", "--json")

    calculator = next(node for node in json.loads(done.stdout) if node["name"] == "CalculatorNode")
    assert calculator["aliases"] == ["Calculator"]
    assert [parameter["name"] for parameter in calculator["parameters"]][:2] == ["operation", "operand"]


def test_doctor_names_the_environment(run):
    done = run("doctor")

    assert sys.prefix in done.stdout
    assert done.returncode == 0, done.stdout


def test_metrics_go_to_stderr(run, add):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input", "-", "--metrics=json", stdin="one\ntwo\n")

    metrics = json.loads(done.stderr)
    assert (metrics["items_in"], metrics["items_out"], done.stdout) == (2, 2, '"ONE"\n"TWO"\n')
