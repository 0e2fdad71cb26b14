"""Processes and threads that a node starts in a worker: they end with it."""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from leftovers import children, fields_of, wait_until
from worker_nodes import in_worker

from remotemedia import Node, Pipeline
from remotemedia.exceptions import WorkerError

LONG_SECS = 1000


def is_gone(process_id):
    """Return whether a process has ended, even if its parent has not waited for it."""
    return fields_of(process_id)[:1] in ([], ["Z"], ["X"])


def square(number):
    return number * number


class UsesProcesses(Node):
    """Works with processes of its own, started in one way or another."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def process(self, item):
        with multiprocessing.get_context(self.method).Pool(2) as pool:
            return sum(pool.map(math.factorial, range(item)))


class UsesThreads(Node):
    """Works with threads of its own, one of which never ends."""

    def initialize(self):
        super().initialize()
        self.threads = ThreadPoolExecutor(4)
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    def process(self, item):
        return sum(self.threads.map(square, range(item)))

    def cleanup(self):
        if self.is_initialized:
            self.threads.shutdown()
        super().cleanup()


class Starts(Node):
    """Starts a long process, and returns the process ids of the worker and of that process."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def process(self, item):
        return os.getpid(), getattr(self, self.how)()

    def program(self):
        return subprocess.Popen(["sleep", str(LONG_SECS)]).pid

    def shell(self):
        code = f"sleep {LONG_SECS} & echo $!; wait"
        shell = subprocess.Popen(["sh", "-c", code], stdout=subprocess.PIPE, text=True)
        return int(shell.stdout.readline())

    def fork(self):
        child = os.fork()
        if child == 0:
            time.sleep(LONG_SECS)
        return child

    def multiprocess(self):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(LONG_SECS,))
        process.start()
        return process.pid


HOWS = ["program", "shell", "fork", "multiprocess"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_node_works_with_processes(method):
    with in_worker(UsesProcesses(method)).open() as session:
        assert session.call(4) == 10


def test_a_node_works_with_threads():
    with in_worker(UsesThreads()).open() as session:
        assert list(session.map([4, 5])) == [14, 30]


@pytest.mark.parametrize("how", HOWS)
def test_processes_of_a_node_end_when_the_session_closes(how):
    with in_worker(Starts(how)).open() as session:
        worker, child = session.call(1)
        assert not is_gone(child)

    assert is_gone(worker)
    assert wait_until(lambda: is_gone(child), 1.0)


@pytest.mark.parametrize("how", HOWS)
def test_processes_of_a_node_are_killed_with_its_worker(how):
    with in_worker(Starts(how)).open() as session:
        worker, child = session.call(1)
        os.kill(worker, 9)

        assert wait_until(lambda: is_gone(child), 1.0)
        assert session.call(2)[0] != worker


def test_the_end_of_a_fork_is_not_the_end_of_the_worker():
    class Forks(Node):
        def process(self, item):
            child = os.fork()
            if child == 0:
                os._exit(7)
            return os.waitpid(child, 0)[1] >> 8

    with in_worker(Forks()).open() as session:
        assert [session.call(item) for item in range(3)] == [7, 7, 7]
        assert len(children()) == 1


class Forks(Node):
    """Forks; its child ends in one way or another, and the node returns the child's exit code."""

    def __init__(self, leave):
        super().__init__()
        self.leave = leave

    def process(self, item):
        child = os.fork()
        if child == 0:
            return self.leave()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class ForksInLoop(Forks):
    async def process(self, item):
        return super().process(item)


class ForksForMany(Forks):
    def process(self, items):
        return [super(ForksForMany, self).process(item) for item in items]


def leave_by_return():
    return "never seen"


def leave_by_exit():
    sys.exit(3)


def leave_by_words():
    sys.exit("these are my last words")


def leave_by_error():
    raise ValueError("the child fails")


def leave_by_generator():
    yield "never seen"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Forks, {}),
        (Forks, {"retries": 2}),
        (ForksInLoop, {}),
        (ForksInLoop, {"concurrency": 2}),
        (ForksForMany, {"batch": 2}),
    ],
)
@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (leave_by_return, 0),
        (leave_by_exit, 3),
        (leave_by_words, 1),
        (leave_by_error, 1),
        (leave_by_generator, 0),
    ],
)
def test_a_fork_that_returns_from_its_node_ends_there(leave, code, kind, options, capfd):
    with in_worker(kind(leave), **options).open() as session:
        assert list(session.map(range(5))) == [code] * 5
        assert len(children()) == 1

    stderr = capfd.readouterr().err
    assert ("these are my last words" in stderr) == (leave is leave_by_words)
    assert ("ValueError: the child fails" in stderr) == (leave is leave_by_error)


def test_a_fork_exits_when_it_returns_from_its_node(tmp_path):
    class Notes(Node):
        def process(self, item):
            with (tmp_path / "seen").open("a") as seen:
                seen.write(f"{item}\n")
            return item

    pipeline = Pipeline("p").add_node(Forks(leave_by_return), placement="process")
    with pipeline.add_node(Notes(), placement="process").open() as session:
        assert list(session.map(range(3))) == [0, 0, 0]

    assert (tmp_path / "seen").read_text() == "0\n0\n0\n"


def test_a_child_that_keeps_the_streams_of_its_worker_delays_nothing():
    class Leaves(Starts):
        def process(self, item):
            self.fork()
            os._exit(3)

    begun = time.monotonic()
    opening = in_worker(Leaves("fork"), max_restarts=0).open()
    with opening as session, pytest.raises(WorkerError, match="exited with code 3"):
        session.call(1)

    assert time.monotonic() - begun < 5


def test_a_thread_that_does_not_end_delays_no_session():
    class StartsThread(Node):
        def process(self, item):
            threading.Thread(target=time.sleep, args=(LONG_SECS,)).start()
            return item

    begun = time.monotonic()
    with in_worker(StartsThread()).open() as session:
        assert session.call(1) == 1

    assert time.monotonic() - begun < 5
