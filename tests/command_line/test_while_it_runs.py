"""Events while a command runs: outputs, signals, closed readers."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest


def lines_until(stream, last: str) -> list[str]:
    """Read lines until one is `last`."""
    lines = []
    while not lines or lines[-1] != last:
        assert select.select([stream], [], [], 20)[0], f"{last!r} does not come after {lines}"
        line = stream.readline()
        assert line, f"{last!r} does not come after {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def test_no_progress_is_shown_over_typed_input(program, add):
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


@pytest.mark.parametrize("options", ["", "placement='thread'"])
def test_progress_shows_the_processed_items(program, add, tmp_path, options):
    add("class Gate:\n    def process(self, item):")
    add("        while item == 'b' and not os.path.exists('open'):\n            time.sleep(0.01)")
    add(f"from remotemedia import with_options\npipeline = [with_options(Gate(), {options})]")
    (tmp_path / "in.txt").write_text("a\n" + "b\n" * 9)
    ours, terminal = pty.openpty()
    words = [*program, "run", "app.py", "-i", "in.txt"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=terminal) as process:
        shown = read_until(ours, b"1 item ")
        assert b" 10%" in shown
        assert b"items" not in shown.partition(b"1 item ")[0].replace(b"0 items", b"")

        (tmp_path / "open").touch()

        read_until(ours, b"100%  10 items ")
    os.close(ours)
    os.close(terminal)
    assert process.returncode == 0


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """Read the output until `wanted` appears."""
    shown = b""
    while wanted not in shown:
        assert select.select([descriptor], [], [], 20)[0], shown
        shown += os.read(descriptor, 4096)
    return shown


def test_outputs_appear_while_an_async_node_waits(start, add, tmp_path):
    """The items before it have crossed to the event loop in the same chunk."""
    add("class Gate:\n    async def process(self, item):")
    add("        while item == 'b' and not os.path.exists('open'):\n            await asyncio.sleep(0.01)")
    add("        return item\nimport asyncio\npipeline = [Gate()]")
    (tmp_path / "in.txt").write_text("a\n" * 40 + "b\n" + "c\n" * 9)
    process = start("run", "app.py", "-i", "in.txt")

    before = [process.stdout.readline() for _ in range(40)]
    (tmp_path / "open").touch()
    after = [process.stdout.readline() for _ in range(2)]

    assert (before, after) == (['"a"\n'] * 40, ['"b"\n', '"c"\n'])


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


def test_a_signal_interrupts_a_write_without_a_reader(start, add):
    add("pipeline = [Endless(), Witness()]")
    process = start("run", "app.py:pipeline")
    lines_until(process.stderr, "initialized")
    # Nothing reads from the pipe, so the process sleeps when the pipe is full.
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


def test_a_closed_reader_ends_the_run_without_an_error(start, add):
    add("pipeline = [Endless(), Witness()]")
    process = start("run", "app.py:pipeline")
    lines_until(process.stdout, "0")

    process.stdout.close()

    assert lines_until(process.stderr, "cleaned up") == ["initialized", "cleaned up"]
    assert process.stderr.read() == ""
    assert process.wait(20) == 0
