"""What a worker inherits from its parent: no signal handling, and no descriptors except its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from worker_nodes import Call, in_worker, links_of_files

from remotemedia.exceptions import WorkerError

HEAD = """
import os, signal, sys, threading, time
from remotemedia import Pipeline
from remotemedia.exceptions import WorkerError

def run(node, *items, **options):
    with Pipeline("p").add_node(node, id="node", placement="process", **options).open() as session:
        return [session.call(item) for item in items]
"""


def printed_by(text, close=()):
    """Return what a program prints if its standard streams with these numbers are closed."""
    shut = " ".join(f"{number}>&-" for number in close)
    command = ["sh", "-c", f'exec "$0" -c "$1" {shut}', sys.executable, HEAD + text]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout.strip()


SIGNALS = """
class Masks:
    def process(self, item):
        lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
        return int(lines["SigBlk"], 16), int(lines["SigIgn"], 16)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
[(blocked, ignored)] = run(Masks(), 1)
print(blocked, ignored)
"""


def test_a_worker_blocks_no_signal_and_ignores_those_alone_that_python_ignores():
    blocked, ignored = map(int, printed_by(SIGNALS).split())

    # The C library reserves some signals beyond 31.
    assert blocked == 0
    assert {number for number in range(1, 32) if ignored >> (number - 1) & 1} == {
        signal.SIGPIPE,
        signal.SIGXFSZ,
    }


LEFT = """
import asyncio
from remotemedia import execute_pipeline_with_input, with_options

class Slow:
    def process(self, item):
        print("begun", flush=True)
        time.sleep(1000)

    def cleanup(self):
        print("cleaned", flush=True)

async def main():
    call = asyncio.create_task(execute_pipeline_with_input([with_options(Slow(), placement="process")], [1]))
    while sys.stdout.tell() == 0:
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
sys.stdout = open(sys.argv[1] if len(sys.argv) > 1 else "output.txt", "w")
started = time.monotonic()
asyncio.run(main())
# A worker that does not receive that signal is killed after ten seconds.
assert time.monotonic() - started < 9
"""


def test_a_call_is_cancelled_if_the_caller_blocks_that_signal(tmp_path):
    subprocess.run([sys.executable, "-c", HEAD + LEFT], cwd=tmp_path, check=True, timeout=50)

    assert (tmp_path / "output.txt").read_text() == "[Slow_0] begun\n[Slow_0] cleaned\n"


def test_a_pipe_that_is_inheritable_ends_with_its_writer():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with in_worker(Call()).open() as session:
            files = session.call(("links_of_files",))[0]
        assert links_of_files()[writer] not in files.values()
    finally:
        os.close(reader)
        os.close(writer)


STREAMS = """
class Works:
    def process(self, item):
        print("printed")
        return item, len(os.listdir("/proc/self/fd"))

with open(os.environ["OUTPUT"], "w") as output:
    print(run(Works(), 1)[0][0], file=output)
"""


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)], ids=str)
def test_a_program_without_standard_streams_has_workers(closed, tmp_path, monkeypatch):
    output = tmp_path / "output"
    monkeypatch.setenv("OUTPUT", str(output))

    printed_by(STREAMS, close=closed)

    assert output.read_text() == "1\n"


DEATHS = """
class Exits:
    def process(self, item):
        if item == 2:
            os._exit(3)
        return item

def wait_for_all(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, {handler})
with Pipeline([Exits()]).open(placement="process") as session:
    for item in (1, 2, 3):
        try:
            print(session.call(item))
        except WorkerError as error:
            print(error.exit_code, str(error).splitlines()[0])
"""


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "wait_for_all"])
def test_a_death_is_reported_if_the_program_ignores_or_reaps_all_children(handler):
    first, died, last = printed_by(DEATHS.replace("{handler}", handler)).splitlines()

    assert (first, last) == ("1", "3")
    # Only newer systems report how a process ended that the parent cannot wait for.
    assert re.fullmatch(
        r"3 Node 'Exits_0' .* on item 1: its worker exited with code 3"
        r"|None Node 'Exits_0' .* on item 1: its worker ended; its exit status is unknown, because .*",
        died,
    )


@pytest.mark.parametrize("way", ["close_all", "close_sockets", "replace_sockets"])
def test_an_item_after_which_a_worker_cannot_reply_is_poison_and_alone(way):
    for _ in range(3):
        with in_worker(Call()).open() as session:
            outputs = [session.call(("add", 1))]
            with pytest.raises(WorkerError, match="on item 1:"):
                session.call((way,))
            outputs += [session.call(("add", number)) for number in (2, 3)]

        assert outputs == [[1], [2], [3]]


@pytest.mark.parametrize("way", ["close_eventfds", "no_more_files"])
def test_an_item_whose_reply_arrived_does_not_affect_others(way):
    with in_worker(Call()).open() as session:
        assert session.call((way,)) == ["done"]
        assert [session.call(("add", value)) for value in (1, b"large" * 100_000)] == [
            [1],
            [b"large" * 100_000],
        ]
