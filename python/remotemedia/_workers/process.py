"""The program of a worker process, and how it is started.

Imports little: a worker should be ready soon after its interpreter is.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from remotemedia._interpreter import import_path, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Notes = Callable[[bytes], None]

__all__ = ["break_off", "command", "leave_fork", "main", "set_up", "surroundings", "unpacked"]

_WRAPPERS = (staticmethod, classmethod, MethodType)

# In a worker: between its start and the moment when it has its nodes, modules of the user are imported.
_is_unpacking = False

# The parent leaves, and does not want to wait for the call under way.
_is_left = False


def command() -> list[str]:
    """The program that is a worker, and its arguments.

    Raises:
        PipelineError: If this is a worker that has yet to get its nodes: it would start one that starts one.
            Or if nobody knows which program this Python is.
    """
    if _is_unpacking:
        from remotemedia.exceptions import PipelineError

        raise PipelineError(
            "A module that a worker imports starts workers at import time."
            "\nSuggestion: Open the pipeline in a function, or under `if __name__ == '__main__':`."
        )
    from remotemedia._cli import doctor

    python = program()
    if python is None:
        from remotemedia.exceptions import PipelineError

        raise PipelineError(
            f"Cannot start a worker, because sys.executable is {sys.executable!r}."
            "\nSuggestion: Set sys.executable to the path of a Python of the same version."
        )
    if doctor.host_program is not None:
        return [doctor.host_program, "worker", python]
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    # Until the worker hears of its parent's path, it has its own and this package. The current directory is
    # left out: a file there could have the name of a module that is needed.
    place = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    code = (
        f"import sys; sys.path[:] = [{place!r}, *filter(None, sys.path)]; "
        # It leaves no name behind that could be one of a script's.
        "__import__('remotemedia._workers.process')._workers.process.main()"
    )
    return [python, *_args_from_interpreter_flags(), "-c", code]


def surroundings() -> dict[str, Any]:
    """What a worker takes over from this process, besides the environment. All of it is plain data."""
    levels: dict[str, int] | None = None
    logging = sys.modules.get("logging")
    # Another thread may be in the middle of importing it.
    if logging is not None and hasattr(logging, "root"):
        loggers = {"": logging.root, **logging.root.manager.loggerDict}
        levels = {name: logger.level for name, logger in loggers.items() if getattr(logger, "level", 0)}
    return {"path": import_path(), "argv": sys.argv, "directory": _directory(), "log_levels": levels}


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # It has been removed.
        return None


def main() -> None:
    """Be a worker: serve the process that has started this one, on the socket that is its standard input."""
    # Ctrl-C is the parent's to hear, and it ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import faulthandler

    from remotemedia import _core

    signal.signal(signal.SIGINT, _hear_sigint)
    # From Python 3.14 on it adds a stack of C, which pushes out what says something to the user.
    faulthandler.enable(**({"c_stack": False} if sys.version_info >= (3, 14) else {}))
    faulthandler.register(_core.STACK_SIGNAL, all_threads=True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    os.register_at_fork(after_in_child=_be_fork)
    _core.serve_worker()


def break_off() -> None:
    """Break off the call under way, as Ctrl-C would."""
    import threading

    global _is_left  # noqa: PLW0603 - A process is one worker.
    _is_left = True
    # That signal and no flag: it ends waiting in system calls, too.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _hear_sigint(_signal: int, _frame: object) -> None:
    # Only work is broken off, by the parent's order. Cleaning up after it has its time.
    from remotemedia import _core

    if _is_left and _core.is_at_work():
        raise KeyboardInterrupt


def _be_fork() -> None:
    """A node has forked, and this is the child: what it does in the node is its own affair, but no more."""
    from remotemedia import _core

    _core.be_fork()
    answers = sys.modules.get("remotemedia._asyncio.futures")
    if answers is not None:
        answers.leave_fork = leave_fork  # type: ignore[attr-defined]


def leave_fork(error: BaseException | None) -> NoReturn:
    """End this process, which a node has forked, as a program ends whose last line was the node's."""
    code = 0
    if isinstance(error, SystemExit):
        said = error.code
        code = said if isinstance(said, int) else int(said is not None)
        if said is not None and not isinstance(said, int):
            print(said, file=sys.stderr)  # noqa: T201 - As Python itself does it.
    elif error is not None:
        import traceback

        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Not by an exception: what the worker would do at its end is not this process's to do.
    os._exit(code & 0xFF)


def set_up(surroundings: dict[str, Any], notes: Notes, node_ids: Sequence[str]) -> None:
    """Take over what the parent has, before anything of the user's is imported."""
    global _is_unpacking  # noqa: PLW0603 - A process is one worker.
    _is_unpacking = True
    _name_process(f"remotemedia worker: {', '.join(node_ids)}")
    sys.path[:] = surroundings["path"]
    sys.argv[:] = surroundings["argv"]
    if surroundings["directory"] is not None:
        try:
            os.chdir(surroundings["directory"])
        except OSError as error:
            text = f"the worker cannot change to the working directory of its parent: {error}"
            print(text, file=sys.stderr)  # noqa: T201
    if surroundings["log_levels"] is not None:
        from remotemedia._workers.log_forwarding import send_records

        send_records(surroundings["log_levels"], notes)


def _name_process(name: str) -> None:
    """Let `ps` and its like show a name in the place of the command, which is the same for all workers."""
    title = name.encode()
    try:
        # Of the name by which the kernel knows it, 15 bytes are left.
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(title)
        with open("/proc/self/stat", "rb") as stat:
            # The second field is that name, which may hold anything.
            fields = stat.read().rpartition(b")")[2].split()
        start, end = (int(field) for field in fields[45:47])
        # The arguments themselves, of which Python has copies. What comes after them is the environment.
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title[: end - start - 1].ljust(end - start, b"\0"))
    except (OSError, ValueError):  # A system without these files, or that does not allow it.
        return


def unpacked(nodes: Sequence[object]) -> None:
    """The nodes are there; they may start workers of their own."""
    global _is_unpacking  # noqa: PLW0603 - A process is one worker.
    _is_unpacking = False
    main = vars(sys.modules["__main__"])
    # Pools of the nodes look functions and classes up by name, and those of a script are in `__main__` there.
    for name, value in _names_of_script(nodes):
        main.setdefault(name, value)


def _names_of_script(nodes: Sequence[object]) -> Iterator[tuple[str, Any]]:
    for node in nodes:
        members = [*getattr(node, "__dict__", {}).values()]
        for cls in type(node).__mro__:
            if cls.__module__ == "__main__":
                members += vars(cls).values()
                yield cls.__name__, cls
        for member in members:
            function = getattr(member, "__func__", member) if type(member) in _WRAPPERS else member
            if isinstance(function, FunctionType) and function.__module__ == "__main__":
                if "." not in function.__qualname__:
                    yield function.__name__, function
                # All of a script's functions that came share them.
                yield from [item for item in function.__globals__.items() if not item[0].startswith("__")]
