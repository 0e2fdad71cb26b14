"""The program of a worker process, and its command line.

Imports little, so that a worker is ready soon after its interpreter.
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

__all__ = ["cancel_calls", "command", "leave_fork", "main", "set_up", "surroundings", "unpacked"]

_WRAPPERS = (staticmethod, classmethod, MethodType)

# In a worker: set while it unpickles its nodes, which imports modules of the user.
_is_unpacking = False

# Set when the parent closes without waiting for the current call.
_is_left = False


def command() -> list[str]:
    """Return the command line of a worker.

    Raises:
        PipelineError: If this is a worker that is still unpickling its nodes, because workers would start
            workers without end. Or if the program of this Python is not known.
    """
    from remotemedia._cli import doctor
    from remotemedia.exceptions import PipelineError

    if _is_unpacking:
        raise PipelineError(
            "A module that a worker imports starts workers at import time."
            "\nSuggestion: Open the pipeline in a function, or under `if __name__ == '__main__':`."
        )
    python = program()
    if python is None:
        raise PipelineError(
            f"Cannot start a worker, because sys.executable is {sys.executable!r}."
            "\nSuggestion: Set sys.executable to the path of a Python of the same version."
        )
    if doctor.host_program is not None:
        return [doctor.host_program, "worker", python]
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    # Until the worker receives the path of its parent, it uses its own path and this package. The current
    # directory is left out, because its files could shadow modules.
    place = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    code = (
        f"import sys; sys.path[:] = [{place!r}, *filter(None, sys.path)]; "
        # Defines no name in `__main__`, where it could conflict with names of a script.
        "__import__('remotemedia._workers.process')._workers.process.main()"
    )
    return [python, *_args_from_interpreter_flags(), "-c", code]


def surroundings() -> dict[str, Any]:
    """Return what a worker inherits from this process besides the environment, as plain data."""
    levels: dict[str, int] | None = None
    logging = sys.modules.get("logging")
    # Another thread may be importing it.
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
    """Run a worker, which serves its parent on the socket that is its standard input."""
    # The parent handles Ctrl-C, and stops its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import faulthandler

    from remotemedia import _core

    signal.signal(signal.SIGINT, _on_sigint)
    # From Python 3.14 on, it adds the C stack, which is of no use to the user.
    faulthandler.enable(**({"c_stack": False} if sys.version_info >= (3, 14) else {}))
    faulthandler.register(_core.STACK_SIGNAL, all_threads=True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    os.register_at_fork(after_in_child=_be_fork)
    _core.serve_worker()


def cancel_calls() -> None:
    """Interrupt the current call, as Ctrl-C would."""
    import threading

    global _is_left  # noqa: PLW0603 - A process is one worker.
    _is_left = True
    # A signal instead of a flag, because it also interrupts system calls.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _on_sigint(_signal: int, _frame: object) -> None:
    # Only work is interrupted, on request of the parent; cleanup is not.
    from remotemedia import _core

    if _is_left and _core.is_at_work():
        raise KeyboardInterrupt


def _be_fork() -> None:
    """Limit the child of a node that has forked: it must exit where it returns from the node."""
    from remotemedia import _core

    _core.be_fork()
    futures = sys.modules.get("remotemedia._asyncio.futures")
    if futures is not None:
        futures.leave_fork = leave_fork  # type: ignore[attr-defined]


def leave_fork(error: BaseException | None) -> NoReturn:
    """Exit this process, the fork of a node, like a program that has reached its end."""
    code = 0
    if isinstance(error, SystemExit):
        said = error.code
        code = said if isinstance(said, int) else int(said is not None)
        if said is not None and not isinstance(said, int):
            print(said, file=sys.stderr)  # noqa: T201 - As Python does.
    elif error is not None:
        import traceback

        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Not with an exception, because this process must not run the exit code of the worker.
    os._exit(code & 0xFF)


def set_up(surroundings: dict[str, Any], notes: Notes, node_ids: Sequence[str]) -> None:
    """Apply the settings of the parent, before modules of the user are imported."""
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
    """Set the name that `ps` shows, because all workers have the same command."""
    title = name.encode()
    try:
        # The kernel keeps 15 bytes of the name.
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(title)
        with open("/proc/self/stat", "rb") as stat:
            # The second field is the name, which may contain any characters.
            fields = stat.read().rpartition(b")")[2].split()
        start, end = (int(field) for field in fields[45:47])
        # Overwrites the arguments, of which Python has copies. The environment follows them.
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title[: end - start - 1].ljust(end - start, b"\0"))
    except (OSError, ValueError):  # The files do not exist, or access is denied.
        return


def unpacked(nodes: Sequence[object]) -> None:
    """Note that the nodes are unpickled, so they may start workers."""
    global _is_unpacking  # noqa: PLW0603 - A process is one worker.
    _is_unpacking = False
    main = vars(sys.modules["__main__"])
    # Process pools of nodes look up functions and classes of a script by name, in `__main__`.
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
                # Shared by all received functions of the script.
                yield from [item for item in function.__globals__.items() if not item[0].startswith("__")]
