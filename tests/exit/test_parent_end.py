"""A program that ends in any way also ends its workers, and the processes that their nodes have started."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from leftovers import fields_of, nothing_remains, wait_until

PROGRAM = Path(__file__).parents[1] / "support/parent_program.py"
TIMEOUT_SECS = 20.0
ALL_GONE_SECS = 10.0


def members(session):
    """Return the processes of a session that have not ended."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        fields = fields_of(directory.name)
        if fields and fields[0] not in "ZX" and int(fields[3]) == session:
            found[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
    return found


class Program:
    """A program with a worker, in its own process session."""

    def __init__(self, state, directory, **streams):
        self.directory = directory
        (directory / "tmp").mkdir()
        self.shared_names = set(Path("/dev/shm").glob("remotemedia*"))
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, state, directory],
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(directory / "tmp")},
            **streams,
        )
        self.id = self.process.pid

    def check_all_have_ended(self):
        wait_until(lambda: not members(self.id), ALL_GONE_SECS)
        assert members(self.id) == {}
        assert list((self.directory / "tmp").iterdir()) == []
        assert set(Path("/dev/shm").glob("remotemedia*")) <= self.shared_names

    def end(self):
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for left in members(self.id):
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def begin(tmp_path):
    """Start the program and wait until it has reached a state."""
    programs = []

    def begin(state, **streams):
        program = Program(state, tmp_path, **streams)
        programs.append(program)
        assert wait_until((tmp_path / "there").exists)
        assert len(members(program.id)) >= 3
        return program

    with nothing_remains():
        yield begin
        while programs:
            programs.pop().end()


def leave(program):
    program.process.stdin.write(b"x")
    program.process.stdin.flush()


def by(number):
    return lambda program: program.process.send_signal(number)


ENDS = {
    "SIGKILL": by(signal.SIGKILL),
    "SIGTERM": by(signal.SIGTERM),
    "SIGSEGV": by(signal.SIGSEGV),
    "os._exit": leave,
}


@pytest.mark.parametrize("state", ["idle", "busy", "initialize", "cleanup", "stopped", "lock"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_workers_go_with_their_parent(end, state, begin):
    program = begin(state, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    end(program)
    program.process.wait()

    program.check_all_have_ended()


def test_workers_go_though_a_fork_of_their_parent_lives_on(begin, tmp_path):
    program = begin("forked", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert wait_until((tmp_path / "fork").exists)

    program.process.kill()
    program.process.wait()

    try:
        program.check_all_have_ended()
    finally:
        os.kill(int((tmp_path / "fork").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("state", ["idle", "brief"])
def test_ctrl_c_in_a_terminal_ends_both_sides_in_order(state, begin):
    ours, terminal = pty.openpty()
    program = begin(state, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)

    os.write(ours, b"\x03")
    shown = read_all(ours)

    assert program.process.wait(TIMEOUT_SECS) == -signal.SIGINT
    assert "KeyboardInterrupt" in shown
    assert shown.count("cleaned up") == 1
    program.check_all_have_ended()


def test_ctrl_c_in_a_terminal_ends_nodes_that_initialize(begin):
    ours, terminal = pty.openpty()
    program = begin("initialize", stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)

    os.write(ours, b"\x03")
    shown = read_all(ours)

    assert program.process.wait(ALL_GONE_SECS) == -signal.SIGINT
    assert "KeyboardInterrupt" in shown
    assert "NodeTimeoutError" not in shown
    program.check_all_have_ended()


def read_all(terminal):
    """Return what a terminal shows until no process has it open."""
    shown = b""
    with suppress(OSError):  # That is how it ends.
        while part := os.read(terminal, 10_000):
            shown += part
    os.close(terminal)
    return shown.decode()
