"""Standard streams and files as other programs pass them on: closed, non-blocking, named pipes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from pathlib import Path

import pytest

LINES = 5000


def shell(program, line: str, **options) -> subprocess.CompletedProcess[str]:
    """Run PROGRAM in a line of shell code."""
    line = line.replace("PROGRAM", shlex.join(program))
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, **options)


def read_slowly(descriptor: int) -> bytes:
    """Read everything, in pieces small enough that the writer has to wait."""
    parts = []
    while part := os.read(descriptor, 1000):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def test_an_input_that_does_not_block_is_waited_for(program, add):
    add("pipeline = [Witness()]")
    ours, theirs = os.pipe()[::-1]
    os.set_blocking(theirs, False)
    words = [*program, "run", "app.py", "-i", "-"]
    pipe = subprocess.PIPE

    with subprocess.Popen(words, stdin=theirs, stdout=pipe, stderr=pipe, text=True) as process:
        os.close(theirs)
        # The nodes are ready, and there is no input yet.
        assert process.stderr.readline() == "initialized\n"
        for line in ("a", "b"):
            os.write(ours, f"{line}\n".encode())
            assert process.stdout.readline() == f'"{line}"\n'
        os.close(ours)
        rest = process.communicate(timeout=30)

    assert (process.returncode, *rest) == (0, "", "cleaned up\n")


def test_outputs_wait_for_a_reader_of_a_pipe_that_does_not_block(program, add):
    add(f"class Many:\n    def process(self):\n        yield from ['x' * 100] * {LINES}\npipeline = [Many()]")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)

    with subprocess.Popen([*program, "run", "app.py"], stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        arrived = read_slowly(ours)
        assert (process.wait(30), process.stderr.read()) == (0, b"")

    assert arrived == (b'"' + b"x" * 100 + b'"\n') * LINES


def test_prints_of_nodes_wait_for_a_full_nonblocking_pipe(program, add):
    add(
        "class Chatty:\n    def process(self, item):\n"
        f"        for number in range({LINES}):\n            print('x' * 100)\n"
        "        print('to stderr', file=sys.stderr)\npipeline = [Chatty()]"
    )
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)

    with subprocess.Popen([*program, "run", "app.py"], stderr=theirs) as process:
        os.close(theirs)
        arrived = read_slowly(ours)
        assert process.wait(30) == 0

    assert arrived == (b"x" * 100 + b"\n") * LINES + b"to stderr\n"


def test_a_signal_ends_a_wait_for_a_reader(program, add):
    add("pipeline = [Endless(), Witness()]")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    words = [*program, "run", "app.py"]
    with subprocess.Popen(words, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "initialized\n"
        os.read(ours, 1)

        process.send_signal(signal.SIGINT)

        assert process.stderr.readline() == "cleaned up\n"
        assert process.wait(20) == 130
    os.close(ours)
    os.close(theirs)


def test_an_output_may_be_a_named_pipe(program, add, tmp_path):
    add("pipeline = [Upper()]")
    os.mkfifo(tmp_path / "out")
    arrived: list[str] = []
    reader = threading.Thread(target=lambda: arrived.append(Path("out").read_text()))
    reader.start()

    done = shell(program, "echo a | PROGRAM run app.py -i - -o out")

    reader.join()
    assert (done.returncode, arrived, Path("out").is_fifo()) == (0, ['"A"\n'], True), done.stderr


def test_a_signal_ends_the_wait_for_the_reader_of_a_named_pipe(start, add, tmp_path):
    add("print('loaded', file=sys.stderr, flush=True)\npipeline = [Endless()]")
    os.mkfifo(tmp_path / "out")
    process = start("run", "app.py", "-o", "out")
    assert process.stderr.readline() == "loaded\n"

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130


@pytest.mark.parametrize(
    ("redirection", "stdout"),
    [("2>&-", '"A"\n'), ("1>&-", ""), ("0<&-", '"A"\n'), ("0<&- 2>&-", '"A"\n'), ("0<&- 1>&- 2>&-", "")],
)
def test_closed_streams_lead_nowhere(program, add, tmp_path, redirection, stdout):
    add("pipeline = [Loud(), Upper()]")
    (tmp_path / "in.txt").write_text("a\n")

    done = shell(program, f"PROGRAM run app.py -i in.txt {redirection}")

    assert (done.returncode, done.stdout) == (0, stdout)


def test_a_closed_stdin_is_an_empty_input(program, add):
    add("pipeline = [Upper()]")

    done = shell(program, "PROGRAM run app.py -i - 0<&-")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_with_stderr_closed_a_file_gets_its_outputs_alone(program, add, tmp_path):
    add("pipeline = [Loud(), Upper()]")
    (tmp_path / "in.txt").write_text("a\n")

    done = shell(program, "PROGRAM run app.py -i in.txt -o out.jsonl 2>&-")

    assert (done.returncode, (tmp_path / "out.jsonl").read_text()) == (0, '"A"\n')


@pytest.mark.parametrize("target", ["app.py", "app:pipeline", "./app.py:pipeline", "app.json"])
def test_a_working_directory_that_was_removed_is_named(program, tmp_path, target):
    (tmp_path / "gone").mkdir()

    done = shell(program, f"cd gone && rmdir ../gone && PROGRAM run {target}")

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        f"'{target}' cannot be found: the working directory no longer exists; change to another one"
    )
    assert "Traceback" not in done.stderr


def test_a_target_named_from_the_root_needs_no_working_directory(program, add, tmp_path):
    add("pipeline = [Upper()]")
    (tmp_path / "gone").mkdir()

    done = shell(program, f"cd gone && rmdir ../gone && echo a | PROGRAM run {tmp_path}/app.py -i -")

    assert (done.returncode, done.stdout, done.stderr) == (0, '"A"\n', "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_old_output_and_reports_the_path_of_the_new_one(start, add, tmp_path, number):
    add("class SecondSleeps(Sleeper):")
    add("    def process(self, item):\n        return item if item == 'a' else super().process(item)")
    add("pipeline = [SecondSleeps()]")
    (tmp_path / "out.jsonl").write_text("old\n")
    process = start("run", "app.py", "-i", "-", "-o", "out.jsonl")
    process.stdin.write("a\nb\n")
    assert [process.stderr.readline() for _ in range(2)] == ["initialized\n", "sleeping\n"]

    process.send_signal(number)

    assert process.wait(20) == 128 + number
    assert (
        "The outputs before the failure are in 'out.jsonl.partial'; 'out.jsonl' is unchanged"
        in process.stderr.read()
    )
    assert [(tmp_path / name).read_text() for name in ("out.jsonl", "out.jsonl.partial")] == [
        "old\n",
        '"a"\n',
    ]


def test_a_full_disk_leaves_the_old_output(program, add, tmp_path):
    add("class Many:\n    def process(self):\n        yield from ['x' * 1000] * 2000\npipeline = [Many()]")
    (tmp_path / "out.jsonl").write_text("old\n")

    # No file may be longer, as on a full disk.
    done = shell(program, "trap '' XFSZ; ulimit -f 1000; PROGRAM run app.py -o out.jsonl")

    assert done.returncode == 1
    assert "cannot write to out.jsonl: File too large" in done.stderr
    assert (
        "The outputs before the failure are in 'out.jsonl.partial'; 'out.jsonl' is unchanged" in done.stderr
    )
    assert (tmp_path / "out.jsonl").read_text() == "old\n"


@pytest.mark.parametrize(("code", "content"), [(0, '"a"\n'), (3, "old\n")])
def test_code_that_ends_the_program_well_has_completed_its_output(run, add, tmp_path, code, content):
    add("class Leave:\n    def process(self, item):")
    add(f"        return item if item == 'a' else sys.exit({code})\npipeline = [Leave()]")
    (tmp_path / "out.jsonl").write_text("old\n")

    done = run("run", "app.py", "-i", "-", "-o", "out.jsonl", stdin="a\nb\n")

    assert (done.returncode, (tmp_path / "out.jsonl").read_text()) == (code, content), done.stderr
