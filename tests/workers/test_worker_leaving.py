"""Leaving while a worker is busy: by Ctrl-C, by a cancellation, by a child that exits."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from multiprocessing import shared_memory
from pathlib import Path

import pytest
from leftovers import children, is_running, wait_until
from worker_nodes import Interrupted, in_worker

from remotemedia import Node, Pipeline

HOST = Path(os.environ.get("REMOTEMEDIA_HOST", Path(__file__).parents[2] / "target/debug/remotemedia-host"))
LONG_SECS = 1000
TIMEOUT_SECS = 20

APP = f"""
import time
from pathlib import Path

from remotemedia import with_options

class Sleeps:
    def initialize(self):
        self.is_in_worker = True

    def process(self, item):
        Path("busy").touch()
        time.sleep({LONG_SECS})

    def cleanup(self):
        if hasattr(self, "is_in_worker"):
            Path("clean").touch()

pipeline = [with_options(Sleeps(), placement="process")]
"""


class Sleeps(Node):
    """Sleeps in one phase, and records its phases."""

    def __init__(self, phase, directory):
        super().__init__()
        self.phase = phase
        self.directory = str(directory)

    def note(self, phase):
        (Path(self.directory) / phase).touch()
        if self.phase == phase:
            time.sleep(LONG_SECS)

    def initialize(self):
        super().initialize()
        self.note("initialize")

    def process(self, item):
        self.note("process")
        return item

    def flush(self):
        self.note("flush")

    def cleanup(self):
        # Before it is sent, it is not initialized.
        if self.is_initialized:
            self.note("cleanup")
        super().cleanup()


def sleeping(phase, directory):
    return Pipeline("p").add_node(Sleeps(phase, directory), placement="process")


async def cancel_when(work, path):
    task = asyncio.create_task(work)
    await asyncio.to_thread(wait_until, path.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("phase", ["process", "flush"])
def test_a_run_that_is_cancelled_leaves_the_call_in_its_worker(phase, tmp_path):
    work = sleeping(phase, tmp_path).run([1, 2])

    asyncio.run(cancel_when(work, tmp_path / phase))

    # A worker that does not return is killed after ten seconds, without a cleanup.
    assert (tmp_path / "cleanup").exists()


def test_a_session_that_is_cancelled_leaves_the_call_in_its_worker(tmp_path):
    async def work():
        async with sleeping("process", tmp_path).open() as session:
            await session.call(1)

    asyncio.run(cancel_when(work(), tmp_path / "process"))

    assert (tmp_path / "cleanup").exists()


def test_a_session_that_is_cancelled_does_not_wait_for_workers_to_become_ready(tmp_path):
    async def work():
        async with sleeping("initialize", tmp_path).open():
            pass

    asyncio.run(cancel_when(work(), tmp_path / "initialize"))

    assert not (tmp_path / "cleanup").exists()


def test_cleanup_is_not_cancelled(tmp_path):
    class Slow(Sleeps):
        def cleanup(self):
            if self.is_initialized:
                time.sleep(0.5)
                (Path(self.directory) / "done").touch()

    def work():
        with Pipeline("p").add_node(Slow("never", tmp_path), placement="process").open() as session:
            assert session.call(1) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()

    assert (tmp_path / "done").exists()


def test_an_ordinary_error_leaves_the_call_its_time(tmp_path):
    class Short(Sleeps):
        def process(self, item):
            self.note("process")
            time.sleep(0.5)
            self.note("done")
            return item

    def work():
        with Pipeline("p").add_node(Short("never", tmp_path), placement="process").open() as session:
            session.put(1)
            wait_until((tmp_path / "process").exists)
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        work()

    assert (tmp_path / "done").exists()


@pytest.fixture(params=["wheel", "host"])
def start(request, tmp_path):
    """Run a command whose worker is busy, in a terminal."""
    if request.param == "host" and not HOST.exists():
        pytest.skip("build it with: cargo build --package remotemedia-host")
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    (tmp_path / "items.txt").write_text("item\n" * 100)
    words = [HOST] if request.param == "host" else [sys.executable, "-m", "remotemedia"]
    words += ["run", "app.py:pipeline", "--input", "items.txt", "--output", "out.txt"]
    words += ["--python", sys.executable] if request.param == "host" else []
    ours, terminal = pty.openpty()
    process = subprocess.Popen(words, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert wait_until((tmp_path / "busy").exists)
    yield process, ours
    process.kill()
    process.wait()
    os.close(ours)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_immediately(number, start, tmp_path):
    process, terminal = start

    process.send_signal(number)

    with suppress(OSError):
        while os.read(terminal, 10_000):
            pass
    assert process.wait(TIMEOUT_SECS) == 128 + number
    assert (tmp_path / "clean").exists()


def test_a_second_ctrl_c_ends_a_worker_that_blocks_sigint(tmp_path):
    class Deaf(Sleeps):
        def process(self, item):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            (Path(self.directory) / "busy").touch()
            time.sleep(LONG_SECS)

    def press_twice():
        wait_until((tmp_path / "busy").exists)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    begun = time.monotonic()
    typing = threading.Thread(target=press_twice)
    typing.start()
    with (
        pytest.raises(KeyboardInterrupt),
        Pipeline("p").add_node(Deaf("never", tmp_path), placement="process").open() as session,
    ):
        session.call(1)
    typing.join()

    # Without the second Ctrl-C, the worker would be killed after ten seconds.
    assert time.monotonic() - begun < 8
    assert not (tmp_path / "cleanup").exists()


def test_the_workers_of_a_command_go_when_it_is_killed(start):
    process, _ = start
    workers = children(process.pid)
    assert workers

    process.kill()
    process.wait()

    assert wait_until(lambda: not any(is_running(worker) for worker in workers), 1.0)


def test_processes_of_a_worker_may_clean_up_after_it():
    class Shares(Node):
        def process(self, item):
            self.memory = shared_memory.SharedMemory(create=True, size=100)
            return self.memory.name

    with Pipeline("p").add_node(Shares(), placement="process").open() as session:
        name = session.call(1)

    # A process that Python starts beside the worker removes it.
    assert wait_until(lambda: not (Path("/dev/shm") / name).exists())


@pytest.mark.parametrize("how", ["break", "close", "cancel"])
def test_leaving_does_not_call_interrupt(how, tmp_path):
    """Closing called `interrupt()` of the nodes of workers."""
    node = Interrupted(tmp_path / "interrupted")

    async def cancel():
        async with in_worker(node).open() as session:
            call = asyncio.create_task(session.call("wait"))
            assert await asyncio.to_thread(wait_until, (tmp_path / "interrupted.begun").exists)
            call.cancel()
            await asyncio.wait({call})

    if how == "cancel":
        asyncio.run(cancel())
    else:
        with in_worker(node).open() as session:
            outputs = session.map(["wait"] * 10)
            next(outputs)
            if how == "break":
                outputs.close()

    assert not (tmp_path / "interrupted").exists()


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_each_interruption_calls_interrupt_once(is_busy, tmp_path):
    node = Interrupted(tmp_path / "interrupted")

    with in_worker(node).open() as session:
        session.call(1)
        for _ in range(2):
            if is_busy:
                session.put("wait")
                assert wait_until((tmp_path / "interrupted.begun").exists)
            session.interrupt()
        assert session.call(1) == 2

    assert (tmp_path / "interrupted").read_text() == 2 * "interrupted\n"
