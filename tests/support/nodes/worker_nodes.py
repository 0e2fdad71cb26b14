"""Nodes and items that are sent to worker processes, in a module that both sides import."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from remotemedia import Node, Pipeline, with_options


class Echo(Node):
    """Returns the item in a list."""

    def process(self, item):
        return [item]


class Ask(Node):
    """Returns the result of a function that it calls in the worker."""

    def process(self, question):
        return question()


class Call:
    """Calls a function of this module by name, with arguments: no function is sent by value."""

    def process(self, question):
        name, *arguments = question
        return [globals()[name](*arguments)]


@dataclasses.dataclass
class Point:
    x: float
    data: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Pinned:
    x: float


class Color(enum.Enum):
    RED = "red"


def is_interrupted():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return True
    return False


def surroundings():
    return {
        "directory": str(Path.cwd()),
        "path": sys.path,
        "argv": sys.argv,
        "variable": os.environ.get("REMOTEMEDIA_TEST"),
        "group": os.getpgrp() == os.getpid(),
        "raises_on_ctrl_c": is_interrupted(),
        "stdin": sys.stdin.read(),
        "optimize": sys.flags.optimize,
        "threads": threading.active_count(),
    }


@functools.cache
def doubled(number):
    return 2 * number


def is_writeable(array):
    return array.flags.writeable


def add(number):
    return number


def links_of_files():
    """Return the targets of the descriptors of this process, by their numbers."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:  # That of the list itself.
            continue
    return found


def _own_files(kind):
    """Return the descriptors that identify a worker."""
    return [number for number, link in links_of_files().items() if number > 2 and kind in link]


def close_all():
    os.closerange(3, 4096)


def close_sockets():
    for descriptor in _own_files("socket:"):
        os.close(descriptor)


def replace_sockets():
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _own_files("socket:"):
        os.dup2(nothing, descriptor)


def close_eventfds():
    for descriptor in _own_files("eventfd"):
        os.close(descriptor)
    return "done"


def no_more_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return "done"


def log_in_fork(text):
    child = multiprocessing.get_context("fork").Process(target=log_and_print, args=(text,))
    child.start()
    child.join()
    return child.exitcode


def log_and_print(text):
    logging.getLogger("worker.nodes").info("log %s", text, extra={"key": 7})
    logging.getLogger("worker.nodes").debug("not seen")
    print(text)  # noqa: T201 - This is what is tested.
    print(text, file=sys.stderr)  # noqa: T201 - As above.


def log_request():
    class Local:
        pass

    extra = {"request": {"ids": [1, 2], "who": Point(1.0)}, "lock": threading.Lock(), "here": Local()}
    logging.getLogger("worker.nodes").info("with extra", extra=extra)


def log_error():
    try:
        raise KeyError("lost")  # noqa: TRY301 - An error as short as can be.
    except KeyError:
        logging.getLogger("worker.nodes").exception("it failed")


def in_worker(node, **options):
    """Return a pipeline of one node in a worker."""
    return Pipeline("p").add_node(node, id="node", placement="process", **options)


def in_workers(*nodes, **options):
    """Return a pipeline of nodes that each have a worker."""
    return Pipeline([with_options(node, placement="process", **options) for node in nodes])


def metrics_of(session):
    """Return the metrics of the only node of a session."""
    [node] = session.metrics()["node_metrics"]
    return node


class Raise(Node):
    """Raises its item, or the result of a function of this module."""

    def process(self, item):
        raise item if isinstance(item, BaseException) else globals()[item]()


class RaiseInCoroutine(Node):
    async def process(self, item):
        await asyncio.sleep(0)
        raise item


class KillsAtAnyItem:
    """Dies at a bad item, or at a batch that contains one."""

    def process(self, item):
        if "bad" in item:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class KillsOnALoop:
    async def process(self, item):
        if item == "bad":
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class Interrupted:
    """Returns how often it was interrupted."""

    def __init__(self, path):
        self.path = Path(path)
        self.count = 0

    def process(self, item):
        if item == "wait":
            Path(f"{self.path}.begun").touch()
            threading.Event().wait(0.2)
        return self.count

    def interrupt(self):
        self.count += 1
        with self.path.open("a") as file:
            file.write("interrupted\n")


class Lifecycle(Node):
    """Records its calls."""

    def __init__(self, **config):
        super().__init__(**config)
        self.calls = []

    def initialize(self):
        super().initialize()
        self.calls.append("initialize")

    def process(self, item):
        return [*self.calls, "process"]

    def cleanup(self):
        super().cleanup()
        self.calls.append("cleanup")


class WithKeywordError(Exception):
    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code


class WithLockError(Exception):
    def __init__(self):
        super().__init__("it is held")
        self.lock = threading.Lock()


class ReducesToOtherError(Exception):
    def __reduce__(self):
        return int, (3,)


class ReducesToExitError(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class ReducesForEverError(Exception):
    def __reduce__(self):
        return self.__reduce__()


class StateRaisesError(Exception):
    def __getstate__(self):
        raise ValueError("no state")

    def __reduce_ex__(self, protocol):
        return type(self), self.args, self.__getstate__()


class ExitsOnArrivalError(Exception):
    """Unpickles, but not twice."""

    def __init__(self, *args):
        super().__init__(*args)
        self.process = os.getpid()

    def __setstate__(self, state):
        if os.getpid() != state["process"]:
            raise SystemExit(4)


class NoTextError(Exception):
    def __str__(self):
        raise ValueError("no text")


def chained():
    try:
        try:
            raise KeyError("first")  # noqa: TRY301 - Both are chained.
        except KeyError:
            raise ValueError("second")  # noqa: B904 - The context is what is meant.
    except ValueError as error:
        late = OSError(2, "third", "file")
        late.__cause__ = error
        return late


def with_keyword():
    return WithKeywordError("text", code=7)


def circle():
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    return first


def grouped():
    return ExceptionGroup("several", [ValueError("one"), OSError("two")])


def raise_member():
    raise ValueError("one")


def grouped_with_traceback():
    try:
        raise_member()
    except ValueError as error:
        return ExceptionGroup("several", [error])


def make_lock():
    return threading.Lock()
